// Executables in a hook folder: which are run, how, and what their answers and exit codes mean.
// deadline 120

import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { isRunning } from '../../src/daemon/is-running.ts'
import { canonicalText } from '../../src/shadow/documents/canonical-json.ts'
import { WRITER_RESULTS } from '../../src/shadow/documents/vocabulary.ts'
import { FATAL_OFFSET, HOOK_EXIT_CODES } from '../../src/shadow/writers/hook-exit.ts'
import { HookFolders, listHooks } from '../../src/shadow/writers/hook-folder.ts'
import { HookPort } from '../../src/shadow/writers/hook-port.ts'
import { WRITER_EVENTS } from '../../src/shadow/writers/writer-messages.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { backupComponent, builder, INSTANCE_ID, request, volumeAt } from './sample-documents.ts'
import { recordedEvents, writeTestHook } from './test-writer.ts'

function hook(folder: string, name: string, body: string, mode = 0o755): string {
  const path = join(folder, name)
  writeFileSync(path, `#!/bin/sh\n${body}\n`)
  chmodSync(path, mode)
  return path
}

async function refused(
  t: Assertion,
  code: 'NOT_PERMITTED' | 'TIMED_OUT' | 'INVALID_DOCUMENT' | 'BAD_STATE' | 'UNAVAILABLE',
  work: () => unknown,
  message: string,
): Promise<void> {
  try {
    await work()
    t.fail(`${message}: was not refused`)
  } catch (error) {
    t.ok(hasCode(error, code), `${message}: ${(error as Error).message}`)
  }
}

/** Waits, bounded, for what another process does soon. */
async function eventually(condition: () => boolean): Promise<boolean> {
  for (let tries = 0; tries < 200 && !condition(); tries++) await sleep(50)
  return condition()
}

/** A hook that answers Identify with the sample's metadata and runs `body` for everything else. */
function writerHook(folder: string, name: string, body: string): string {
  const document = builder()
  document.addFileGroup({ name: 'data' }).addFiles({ path: '/mnt/data' })
  const metadata = join(folder, `.${name}.json`)
  writeFileSync(metadata, JSON.stringify(document.build()))
  return hook(folder, name, `[ "$1" = identify ] && exec cat '${metadata}'\n${body}`)
}

test('what in a folder is a hook, in what order', async (t) => {
  const folder = tempFolder(t)
  for (const name of ['20-b', '10-a', 'Z', '.hidden', 'x~', 'x.dpkg-old', 'x.bak', 'x.sample'])
    hook(folder, name, ':')
  hook(folder, 'plain-text', ':', 0o644)
  mkdirSync(join(folder, 'folder'))
  symlinkSync(join(folder, '10-a'), join(folder, '30-link'))
  t.alike(
    listHooks(folder).map((path) => basename(path)),
    ['10-a', '20-b', '30-link', 'Z'],
  )
  t.alike(listHooks(join(folder, 'nothing')), [])
  const source = new HookFolders(() => [folder, folder])
  const [first] = await source.ports()
  t.is((await source.ports()).length, 4, 'a folder given twice counts once')
  t.is((await source.ports())[0], first, 'a hook that stays keeps its port')
})

test('what others may write is refused', async (t) => {
  const folder = tempFolder(t)
  const path = hook(folder, 'hook', ':')
  t.is(listHooks(folder).length, 1)
  chmodSync(path, 0o757)
  await refused(t, 'NOT_PERMITTED', () => listHooks(folder), 'a hook that others may write')
  await refused(t, 'NOT_PERMITTED', () => new HookPort(path).deliver(request(), 5000), 'also when it is run')
  chmodSync(path, 0o775)
  await refused(t, 'NOT_PERMITTED', () => listHooks(folder), 'or its group')
  chmodSync(path, 0o755)
  chmodSync(folder, 0o777)
  await refused(t, 'NOT_PERMITTED', () => listHooks(folder), 'a folder that others may write')
  chmodSync(folder, 0o755)
  const inner = join(folder, 'inner')
  mkdirSync(inner)
  hook(inner, 'hook', ':')
  t.is(listHooks(inner).length, 1)
  chmodSync(folder, 0o777)
  await refused(t, 'NOT_PERMITTED', () => listHooks(inner), 'a folder above that others may write')
  chmodSync(folder, 0o755)
  if (process.getuid?.() !== 0) return
  await run('chown', ['65534', path])
  await refused(t, 'NOT_PERMITTED', () => listHooks(folder), 'a hook of somebody else')
  await run('chown', ['65534', folder])
  await refused(t, 'NOT_PERMITTED', () => listHooks(inner), 'a folder above of somebody else')
  await run('chown', ['0', folder])
})

test('a hook gets its event, its request, a clean environment and /', async (t) => {
  const folder = tempFolder(t)
  process.env['UMBRA_TEST_SECRET'] = 'x'
  t.teardown(() => delete process.env['UMBRA_TEST_SECRET'])
  const lines: string[] = []
  const path = writerHook(
    folder,
    'hook',
    `cat > '${folder}/input'; { echo "$1"; pwd; env; } > '${folder}/seen'; echo said >&2`,
  )
  const port = new HookPort(path, { onLine: (from, line) => lines.push(`${basename(from)}: ${line}`) })
  const given = request({ event: 'post-snapshot', snapshotSetId: 'set-1', volumes: [volumeAt('/mnt')] })
  t.alike(await port.deliver(given, 5000), { result: 'ok' })
  t.alike(JSON.parse(readFileSync(join(folder, 'input'), 'utf8')), { ...given, timeoutMs: 5000 })
  const seen = readFileSync(join(folder, 'seen'), 'utf8').split('\n')
  t.is(seen[0], 'post-snapshot')
  t.is(seen[1], '/')
  for (const line of [
    'UMBRA_EVENT=post-snapshot',
    'UMBRA_SESSION=session-1',
    'UMBRA_SNAPSHOT_SET=set-1',
    'UMBRA_BACKUP_TYPE=full',
  ])
    t.ok(seen.includes(line), line)
  t.absent(seen.some((line) => line.includes('SECRET')))
  t.alike(lines, ['hook: said'])
})

test('exit codes: every result, fatal and not, and anything else', async (t) => {
  const folder = tempFolder(t)
  const path = writerHook(folder, 'hook', `echo why >&2; exit $(cat '${folder}/code')`)
  const port = new HookPort(path)
  const deliver = async (code: number) => {
    writeFileSync(join(folder, 'code'), String(code))
    return port.deliver(request({ event: 'freeze' }), 5000)
  }
  t.alike(await deliver(0), { result: 'ok' })
  const given = WRITER_RESULTS.slice(1, 6) as (keyof typeof HOOK_EXIT_CODES)[]
  t.alike(
    Object.keys(HOOK_EXIT_CODES).sort(),
    [...given].sort(),
    'a code for each result that a writer gives',
  )
  for (const result of given) {
    const code = HOOK_EXIT_CODES[result]
    const message = (given: number): string => `${path} ended with ${given}: why`
    t.alike(await deliver(code), { result, fatal: false, message: message(code) })
    const fatal = code + FATAL_OFFSET
    t.alike(await deliver(fatal), { result, fatal: true, message: message(fatal) })
  }
  for (const code of [1, 2, 75, 127, 255]) {
    const reply = await deliver(code)
    t.alike([reply.result, reply.fatal], ['non-retryable', true], `exit ${code}`)
  }
  const killed = await new HookPort(writerHook(folder, 'killed', 'kill -9 $$')).deliver(
    request({ event: 'freeze' }),
    5000,
  )
  t.alike([killed.result, killed.fatal], ['non-retryable', true], 'a signal')
  await port.deliver(request({ event: 'backup-shutdown' }), 5000)
  const table = readFileSync(new URL('../../docs/WRITERS.md', import.meta.url), 'utf8')
  for (const [result, code] of Object.entries(HOOK_EXIT_CODES)) {
    t.ok(
      table.includes(`| ${code} | ${code + FATAL_OFFSET} | \`${result}\` |`),
      `the documentation has ${result}`,
    )
  }
})

test('answers: JSON or nothing; what is no reply is refused', async (t) => {
  const folder = tempFolder(t)
  const answering = async (answer: string, event: 'post-snapshot' | 'freeze' = 'post-snapshot') => {
    writeFileSync(join(folder, 'answer'), answer)
    const path = writerHook(folder, 'hook', `exec cat '${folder}/answer'`)
    return new HookPort(path).deliver(request({ event, volumes: [volumeAt('/mnt')] }), 5000)
  }
  const stamped = { result: 'ok', components: [{ logicalPath: '', name: 'data', backupStamp: 'LSN \u20ac' }] }
  t.alike(await answering(JSON.stringify(stamped)), stamped, 'row 70: a stamp')
  t.alike(await answering(JSON.stringify({ components: stamped.components })), stamped, 'ok need not be said')
  t.alike(await answering(' \n'), { result: 'ok' })
  t.alike(await answering('{"result":"retryable","message":"later"}'), {
    result: 'retryable',
    message: 'later',
  })
  await refused(t, 'INVALID_DOCUMENT', () => answering('flushing...'), 'text')
  await refused(t, 'INVALID_DOCUMENT', () => answering('{"result":"fine"}'), 'an unknown result')
  await refused(t, 'INVALID_DOCUMENT', () => answering('[]'), 'a list')
  await refused(t, 'BAD_STATE', () => answering(JSON.stringify(stamped), 'freeze'), 'a stamp in Freeze')
  const flood = writerHook(folder, 'flood', 'exec yes')
  await refused(t, 'INVALID_DOCUMENT', () => new HookPort(flood).deliver(request(), 30_000), 'without end')
  const half = hook(folder, 'half', 'echo \'{"format":"umbra-writer-metadata-1"}\'')
  await refused(
    t,
    'INVALID_DOCUMENT',
    () => new HookPort(half).deliver(request({ event: 'identify' }), 5000),
    'metadata that is none',
  )
})

test('row 48: a hook that hangs is killed at its deadline, its children with it', async (t) => {
  const folder = tempFolder(t)
  const pids = join(folder, 'pids')
  const path = writerHook(folder, 'hook', `sleep 1000 & echo $! >> '${pids}'; echo $$ >> '${pids}'; wait`)
  const port = new HookPort(path)
  await port.deliver(request({ event: 'identify' }), 10_000)
  await refused(t, 'TIMED_OUT', () => port.deliver(request(), 1500), 'late')
  const started = readFileSync(pids, 'utf8').trim().split('\n').map(Number)
  t.is(started.length, 2)
  for (const pid of started) t.ok(await eventually(() => !isRunning(pid)), `${pid} has ended`)
  const stuck = hook(folder, 'stuck', 'sleep 1000')
  await refused(
    t,
    'TIMED_OUT',
    () => new HookPort(stuck).deliver(request({ event: 'identify' }), 300),
    'Identify too',
  )
})

test('what a hook leaves running does not keep its answer back, and is left alone', async (t) => {
  const folder = tempFolder(t)
  const pidPath = join(folder, 'pid')
  const path = writerHook(folder, 'hook', `sleep 1000 & echo $! > '${pidPath}'`)
  t.alike(await new HookPort(path).deliver(request(), 30_000), { result: 'ok' })
  const pid = Number(readFileSync(pidPath, 'utf8'))
  t.ok(isRunning(pid), 'a client that holds a lock until Thaw')
  process.kill(pid, 'SIGKILL')
})

test('a hook in the style of fsfreeze-hook.d is called with freeze and thaw alone', async (t) => {
  const folder = tempFolder(t)
  const log = join(folder, 'log')
  const path = hook(
    folder,
    'mysql-flush',
    `echo "$1" >> '${log}'\ncase "$1" in freeze|thaw) exit 0;; *) echo usage >&2; exit 1;; esac`,
  )
  const port = new HookPort(path)
  const calls = () => readFileSync(log, 'utf8').trim().split('\n')
  const first = await port.deliver(request({ event: 'identify' }), 5000)
  const second = await port.deliver(request({ event: 'identify' }), 5000)
  t.is(canonicalText(first), canonicalText(second), 'row 42: the generated document does not change')
  t.is(
    canonicalText((await new HookPort(path).deliver(request({ event: 'identify' }), 5000)).metadata),
    canonicalText(first.metadata),
  )
  const [component] = first.metadata?.components ?? []
  t.is(component?.name, 'mysql-flush')
  t.is(component?.selectable, false, 'so it always takes part')
  t.alike(calls(), ['identify', 'identify'], 'it is asked once by each port')
  for (const event of WRITER_EVENTS)
    t.alike((await port.deliver(request({ event }), 5000)).result, 'ok', event)
  t.alike(calls().slice(2), ['freeze', 'thaw'], 'and no thaw for an Abort after the thaw')
  await port.deliver(request({ event: 'freeze' }), 5000)
  await port.deliver(request({ event: 'abort' }), 5000)
  t.alike(calls().slice(4), ['freeze', 'thaw'], 'an Abort while it is frozen is a thaw')

  const failing = new HookPort(hook(folder, 'failing', 'exit 3'))
  const veto = await failing.deliver(request({ event: 'freeze' }), 5000)
  t.alike([veto.result, veto.fatal], ['non-retryable', true], 'row 45: a freeze that fails is a veto')
  const thaw = await failing.deliver(request({ event: 'thaw' }), 5000)
  t.alike([thaw.result, thaw.fatal], ['non-retryable', false], 'a thaw that fails is told')
  await failing.deliver(request({ event: 'backup-shutdown' }), 5000)
})

test('hooks freeze in the order of their names, one after another, and thaw in reverse', async (t) => {
  const folder = tempFolder(t)
  const log = join(folder, '.log')
  const body = (name: string) =>
    `[ "$1" = identify ] && exit 1; echo "${name} $1" >> '${log}'; sleep 0.1; echo "${name} done" >> '${log}'`
  for (const name of ['30-c', '10-a', '20-b']) hook(folder, name, body(name))
  const ports = await new HookFolders(() => [folder]).ports()
  const shuffled = [ports[1], ports[2], ports[0]] as typeof ports
  const tell = async (event: 'freeze' | 'thaw') => {
    writeFileSync(log, '')
    const replies = await Promise.all(shuffled.map((port) => port.deliver(request({ event }), 20_000)))
    t.ok(replies.every(({ result }) => result === 'ok'))
    return readFileSync(log, 'utf8').trim().split('\n')
  }
  await Promise.all(ports.map((port) => port.deliver(request({ event: 'identify' }), 20_000)))
  const order = (names: readonly string[], event: string) =>
    names.flatMap((name) => [`${name} ${event}`, `${name} done`])
  t.alike(await tell('freeze'), order(['10-a', '20-b', '30-c'], 'freeze'))
  t.alike(await tell('thaw'), order(['30-c', '20-b', '10-a'], 'thaw'))
})

test('a hook is thawed when the process that froze it is killed', async (t) => {
  const folder = tempFolder(t)
  const log = join(folder, 'log')
  const plain = hook(folder, 'plain', `echo "$1" >> '${log}'`)
  const writer = writerHook(
    folder,
    'writer',
    `echo "writer $1 $(cat | grep -o '"sessionId":"[^"]*"')" >> '${log}'`,
  )
  const program = `
    import { HookPort } from ${JSON.stringify(new URL('../../src/shadow/writers/hook-port.ts', import.meta.url).href)}
    const request = JSON.parse(process.argv[1])
    for (const path of process.argv.slice(2)) await new HookPort(path).deliver(request, 5000)
    process.kill(process.pid, 'SIGKILL')`
  const argv = [
    '--import',
    import.meta.resolve('tsx'),
    '--input-type=module',
    '-e',
    program,
    JSON.stringify(request({ event: 'freeze' })),
    plain,
    writer,
  ]
  const ended = await run(process.execPath, argv, { check: false, timeoutMs: 30_000 })
  t.ok(ended.code >= 128, 'killed')
  const seen = () => readFileSync(log, 'utf8').trim().split('\n')
  t.ok(await eventually(() => seen().length >= 5), seen().join(', '))
  t.alike(seen().slice(0, 3), ['identify', 'freeze', 'writer freeze "sessionId":"session-1"'])
  t.alike(seen().slice(3).sort(), ['thaw', 'writer abort "sessionId":"session-1"'])
})

test('a freeze that still runs when its process is killed does not freeze after the thaw', async (t) => {
  const folder = tempFolder(t)
  const log = join(folder, 'log')
  const frozen = join(folder, 'frozen')
  const plain = hook(
    folder,
    'plain',
    `echo "$1" >> '${log}'; case $1 in freeze) sleep 3; touch '${frozen}';; thaw) rm -f '${frozen}'; echo thawed >> '${log}';; esac`,
  )
  const program = `
    import { existsSync, readFileSync } from 'node:fs'
    import { HookPort } from ${JSON.stringify(new URL('../../src/shadow/writers/hook-port.ts', import.meta.url).href)}
    void new HookPort(process.argv[2]).deliver(JSON.parse(process.argv[1]), 20000)
    setInterval(() => {
      if (existsSync(${JSON.stringify(log)}) && readFileSync(${JSON.stringify(log)}, 'utf8').includes('freeze')) process.kill(process.pid, 'SIGKILL')
    }, 20)`
  const argv = [
    '--import',
    import.meta.resolve('tsx'),
    '--input-type=module',
    '-e',
    program,
    JSON.stringify(request({ event: 'freeze' })),
    plain,
  ]
  const ended = await run(process.execPath, argv, { check: false, timeoutMs: 30_000 })
  t.ok(ended.code >= 128, 'killed')
  const seen = () => readFileSync(log, 'utf8').trim().split('\n')
  t.ok(await eventually(() => seen().includes('thawed')), seen().join(', '))
  // Longer than the freeze would have taken.
  await new Promise((resolve) => setTimeout(resolve, 3500))
  t.absent(existsSync(frozen), 'nothing froze behind the thaw')
})

test('row 60 and 40: the conformance writer as a hook keeps its record and writes its spit files', async (t) => {
  const folder = tempFolder(t)
  const hooks = join(folder, 'hooks')
  mkdirSync(hooks)
  writeFileSync(join(folder, 'live'), 'live bytes')
  const recordPath = join(folder, 'record')
  writeTestHook(
    hooks,
    'conformance',
    {
      name: 'Conformance',
      instanceId: INSTANCE_ID,
      components: [{ name: 'data', files: [{ path: '/mnt/data', alternatePath: '/mnt/spit' }] }],
      stamp: 'stamp {n}',
      copies: [{ event: 'prepare-for-snapshot', from: join(folder, 'live'), to: join(folder, 'spit') }],
      failures: { 'backup-complete': { result: 'retryable', fatal: false, times: 1 } },
      recordPath,
    },
    join(folder, 'conformance.json'),
  )
  const [port] = await new HookFolders(() => [hooks]).ports()
  if (!port) return t.fail()
  const identified = await port.deliver(request({ event: 'identify' }), 20_000)
  t.is(identified.metadata?.components[0]?.files[0]?.alternatePath, '/mnt/spit')
  t.is(identified.metadata?.identity.instanceId, INSTANCE_ID)
  await port.deliver(request({ event: 'prepare-for-snapshot' }), 20_000)
  t.is(readFileSync(join(folder, 'spit'), 'utf8'), 'live bytes')
  const stamped = await port.deliver(
    request({
      event: 'post-snapshot',
      components: [backupComponent('data', { previousBackupStamp: 'stamp 4' })],
    }),
    20_000,
  )
  t.is(stamped.components?.[0]?.backupStamp, 'stamp 5')
  const results = []
  for (let i = 0; i < 2; i++)
    results.push((await port.deliver(request({ event: 'backup-complete' }), 20_000)).result)
  t.alike(results, ['retryable', 'ok'], 'it fails as often as it is told to')
  t.alike(
    recordedEvents(recordPath).map(({ event }) => event),
    ['prepare-for-snapshot', 'post-snapshot', 'backup-complete', 'backup-complete'],
  )
  t.ok(existsSync(recordPath))
})
