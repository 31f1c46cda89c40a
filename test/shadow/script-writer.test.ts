// Configured writers: the generic script writer, the folder of configurations, and the processes that the
// coordinator runs for them; and that the examples in docs/WRITERS.md work.

import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { ConfiguredWriters } from '../../src/daemon/configured-writers.ts'
import { schemaSource } from '../../src/shadow/documents/document-schemas.ts'
import { createShippedWriter } from '../../src/shadow/shipped/shipped-writers.ts'
import { HookPort } from '../../src/shadow/writers/hook-port.ts'
import { localPort } from '../../src/shadow/writers/local-port.ts'
import {
  addConfiguredWriter,
  configuredNames,
  readConfiguredWriter,
  removeConfiguredWriter,
  WRITER_KINDS,
  type WriterConfiguration,
  writersFolder,
} from '../../src/shadow/writers/writer-configuration.ts'
import { tempFolder } from '../support/temp.ts'
import { backupComponent, request } from './sample-documents.ts'

/** A configuration folder of the test's own. */
function configFolder(t: Assertion): string {
  const folder = tempFolder(t)
  const before = process.env['UMBRA_CONFIG_DIR']
  process.env['UMBRA_CONFIG_DIR'] = folder
  t.teardown(() => {
    if (before === undefined) delete process.env['UMBRA_CONFIG_DIR']
    else process.env['UMBRA_CONFIG_DIR'] = before
  })
  return folder
}

function script(more: object): WriterConfiguration {
  return {
    kind: 'script',
    components: [{ name: 'data', files: [{ path: '/mnt/data' }] }],
    ...more,
  } as WriterConfiguration
}

async function portFor(configuration: WriterConfiguration, name = 'test') {
  return localPort(await createShippedWriter({ name, configuration }))
}

async function refused(t: Assertion, code: string, work: () => unknown, pattern: RegExp): Promise<void> {
  try {
    await work()
    t.fail(`not refused: ${pattern}`)
  } catch (error) {
    t.ok(
      hasCode(error, code as 'NOT_FOUND') && pattern.test(error.message),
      `${code}: ${(error as Error).message}`,
    )
  }
}

/** The block of docs/WRITERS.md behind this mark. */
function example(name: string): string {
  const text = readFileSync(new URL('../../docs/WRITERS.md', import.meta.url), 'utf8')
  const match = new RegExp(`<!-- example: ${name} -->\\n\`\`\`\\w+\\n([^]*?)\\n\`\`\``).exec(text)
  if (!match?.[1]) throw new Error(`docs/WRITERS.md has no example ${name}`)
  return match[1]
}

test('commands run for their events, with the request and what the exit code says', async (t) => {
  const folder = tempFolder(t)
  const port = await portFor(
    script({
      commands: {
        freeze: ['/bin/sh', '-c', `cat > '${folder}/request'; echo "$UMBRA_EVENT $EXTRA" > '${folder}/seen'`],
        thaw: ['/bin/sh', '-c', `echo thaw >> '${folder}/seen'`],
        'backup-complete': ['/bin/sh', '-c', 'echo disk full >&2; exit 71'],
        'prepare-for-snapshot': ['/bin/sh', '-c', 'exit 83'],
      },
      environment: { EXTRA: 'a b' },
    }),
  )
  t.is((await port.deliver(request({ event: 'identify' }), 5000)).metadata?.identity.name, 'test')
  t.alike(await port.deliver(request({ event: 'freeze' }), 5000), { result: 'ok' })
  t.is(JSON.parse(readFileSync(join(folder, 'request'), 'utf8')).event, 'freeze')
  t.is(readFileSync(join(folder, 'seen'), 'utf8'), 'freeze a b\n')
  t.alike(await port.deliver(request({ event: 'abort' }), 5000), { result: 'ok' })
  t.is(readFileSync(join(folder, 'seen'), 'utf8'), 'freeze a b\nthaw\n', 'thaw stands in for abort')
  t.alike(await port.deliver(request({ event: 'backup-complete' }), 5000), {
    result: 'out-of-resources',
    fatal: false,
    message: '/bin/sh ended with 71: disk full',
  })
  t.alike((await port.deliver(request({ event: 'prepare-for-snapshot' }), 5000)).fatal, true)
  t.alike(
    await port.deliver(request({ event: 'post-restore' }), 5000),
    { result: 'ok' },
    'no command, nothing to do',
  )
})

test('row 70: the stamp is what the stamp command says, and a failed one is a failure', async (t) => {
  const events = { event: 'post-snapshot', components: [backupComponent('data')] } as const
  const port = await portFor(script({ stampCommand: ['/bin/sh', '-c', "printf 'LSN \\303\\244\\n7\\n'"] }))
  t.alike((await port.deliver(request(events), 5000)).components, [
    { logicalPath: '', name: 'data', backupStamp: 'LSN \u00e4\n7' },
  ])
  for (const command of ['exit 1', "printf '\\377'", 'head -c 70000 /dev/zero']) {
    const reply = await (await portFor(script({ stampCommand: ['/bin/sh', '-c', command] }))).deliver(
      request(events),
      5000,
    )
    t.alike([reply.result, reply.fatal, reply.components], ['non-retryable', true, undefined], command)
  }
})

test('row 48: a command past its own limit is killed', async (t) => {
  const port = await portFor(
    script({ commands: { freeze: ['/bin/sleep', '1000'] }, timeoutsMs: { freeze: 200 } }),
  )
  const reply = await port.deliver(request({ event: 'freeze' }), 60_000)
  t.alike([reply.result, reply.fatal], ['timeout', true])
  t.ok(/did not end in 200 ms/.test(reply.message ?? ''), reply.message)
})

test('what is no configuration is refused with the place', async (t) => {
  await refused(
    t,
    'INVALID_DOCUMENT',
    () => portFor(script({ commands: { freeze: ['true'] } })),
    /absolute path/,
  )
  await refused(
    t,
    'INVALID_DOCUMENT',
    () => portFor(script({ backupSchema: ['timestamped'] })),
    /needs incremental/,
  )
  await refused(
    t,
    'INVALID_DOCUMENT',
    () =>
      portFor(
        script({
          components: [
            { name: 'a', files: [{ path: '/a' }] },
            { name: 'b', files: [{ path: '/a/b' }] },
          ],
        }),
      ),
    /claim the same files/,
  )
  configFolder(t)
  const add = (value: object) => () => addConfiguredWriter('x', value, false)
  await refused(t, 'INVALID_DOCUMENT', add({}), /required property 'kind'/)
  await refused(t, 'INVALID_DOCUMENT', add({ kind: 'oracle' }), /kind must be one of/)
  await refused(t, 'INVALID_DOCUMENT', add({ kind: 'script' }), /components/)
  await refused(t, 'INVALID_DOCUMENT', add({ ...script({}), command: {} }), /unknown property "command"/)
  await refused(
    t,
    'INVALID_DOCUMENT',
    add(script({ commands: { melt: ['/bin/true'] } })),
    /unknown property "melt"/,
  )
  t.alike(configuredNames(), [], 'nothing was left')
  const kinds = (schemaSource('writer-configuration') as { properties: { kind: { enum: string[] } } })
    .properties.kind.enum
  t.alike(kinds, WRITER_KINDS)
})

test('configurations are added, read, replaced and removed', async (t) => {
  const folder = configFolder(t)
  addConfiguredWriter('one', script({}), false)
  await refused(t, 'ALREADY_EXISTS', () => addConfiguredWriter('one', script({}), false), /already/)
  addConfiguredWriter('one', script({ name: 'Other' }), true)
  addConfiguredWriter('two', { kind: 'sqlite', paths: ['/srv/db'] }, false)
  t.alike(configuredNames(), ['one', 'two'])
  t.is((readConfiguredWriter('one').configuration as { name?: string }).name, 'Other')
  for (const name of ['../x', '', '.x', 'a/b', 'x'.repeat(101)]) {
    await refused(t, 'INVALID_NAME', () => addConfiguredWriter(name, script({}), false), /Not a name/)
  }
  chmodSync(join(writersFolder(), 'one.json'), 0o666)
  await refused(t, 'NOT_PERMITTED', () => readConfiguredWriter('one'), /written by others/)
  removeConfiguredWriter('one')
  await refused(t, 'NOT_FOUND', () => removeConfiguredWriter('one'), /no configured writer/)
  t.alike(configuredNames(), ['two'])
  t.ok(existsSync(join(folder, 'writers', 'two.json')))
})

test('the coordinator runs configured writers as processes, and finds a change', async (t) => {
  configFolder(t)
  const folder = tempFolder(t)
  const lines: string[] = []
  const frozen = join(folder, 'frozen')
  const said = {
    freeze: ['/bin/sh', '-c', `echo hello >&2; touch '${frozen}'`],
    abort: ['/bin/rm', '-f', frozen],
  }
  addConfiguredWriter('one', script({ name: 'One', commands: said }), false)
  const source = new ConfiguredWriters((writer, line) => lines.push(`${writer}: ${line}`))
  t.teardown(() => source.close())
  const [port] = await source.ports()
  if (!port) return t.fail()
  t.is(port.origin, 'one')
  t.is((await port.deliver(request({ event: 'identify' }), 30_000)).metadata?.identity.name, 'One')
  t.is((await port.deliver(request({ event: 'freeze' }), 10_000)).result, 'ok')
  t.ok(existsSync(frozen))
  t.is((await source.ports())[0], port, 'one process for all sessions')
  for (let tries = 0; tries < 100 && lines.length === 0; tries++) await sleep(20)
  t.alike(lines, ['one: hello'])

  addConfiguredWriter('one', script({ name: 'Two' }), true)
  mkdirSync(writersFolder(), { recursive: true })
  writeFileSync(join(writersFolder(), 'bad.json'), '{')
  const [bad, changed] = await source.ports()
  await port.whenGone
  for (let tries = 0; tries < 400 && existsSync(frozen); tries++) await sleep(25)
  t.absent(existsSync(frozen), 'the old process aborted what it had frozen')
  t.is((await changed?.deliver(request({ event: 'identify' }), 30_000))?.metadata?.identity.name, 'Two')
  await refused(
    t,
    'INVALID_DOCUMENT',
    () => bad?.deliver(request({ event: 'identify' }), 5000),
    /bad.json is not JSON/,
  )
  removeConfiguredWriter('one')
  removeConfiguredWriter('bad')
  t.alike(await source.ports(), [])
  await changed?.whenGone
})

test('the examples of docs/WRITERS.md', async (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'queue')
  writeFileSync(path, `${example('hook')}\n`)
  chmodSync(path, 0o755)
  const before = process.env['HOME']
  process.env['HOME'] = folder
  t.teardown(() => {
    process.env['HOME'] = before
  })
  const hook = new HookPort(path)
  t.is((await hook.deliver(request({ event: 'identify' }), 5000)).metadata?.components[0]?.name, 'queue')
  t.alike(await hook.deliver(request({ event: 'prepare-for-backup' }), 5000), { result: 'ok' })
  await hook.deliver(request({ event: 'freeze' }), 5000)
  t.ok(existsSync(join(folder, 'queue-stopped')))
  await hook.deliver(request({ event: 'thaw' }), 5000)
  t.absent(existsSync(join(folder, 'queue-stopped')))

  const port = await portFor(JSON.parse(example('script')))
  const { metadata } = await port.deliver(request({ event: 'identify' }), 5000)
  t.is(metadata?.identity.name, 'Wiki')
  t.alike(metadata?.components[1]?.files[0]?.backupRequired, ['full'])
  t.is((await port.deliver(request({ event: 'freeze' }), 5000)).result, 'ok')
  const stamped = await port.deliver(
    request({ event: 'post-snapshot', components: [backupComponent('pages')] }),
    5000,
  )
  t.ok(/^\d{4}$/.test(stamped.components?.[0]?.backupStamp ?? ''))
})

test('the TypeScript example of docs/WRITERS.md uses what the package exports', (t) => {
  const text = readFileSync(new URL('../../docs/WRITERS.md', import.meta.url), 'utf8')
  const [, names = ''] = /import \{([^}]*)\} from 'umbrafs'/.exec(text) ?? []
  const index = readFileSync(new URL('../../src/index.ts', import.meta.url), 'utf8')
  const used = names.split(',').map((name) => name.replace('type ', '').trim())
  t.is(used.length, 4)
  for (const name of used) t.ok(new RegExp(`\\b${name}\\b`).test(index), name)
})
