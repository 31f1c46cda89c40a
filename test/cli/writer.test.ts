// umbra writer, as a person uses it: what is there, what it has, adding and removing.
// deadline 120

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { tempFolder } from '../support/temp.ts'
import { umbra } from '../support/umbra.ts'

interface Place {
  readonly folder: string
  readonly hooks: string
  run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }>
}

/** A configuration and a coordinator of the test's own; the coordinator ends by itself soon after. */
function place(t: Assertion): Place {
  const folder = tempFolder(t)
  const hooks = join(folder, 'config', 'hooks.d')
  mkdirSync(hooks, { recursive: true })
  const env = {
    UMBRA_CONFIG_DIR: join(folder, 'config'),
    UMBRA_RUNTIME_DIR: join(folder, 'run'),
    UMBRA_COORDINATOR_IDLE_MS: '3000',
  }
  return {
    folder,
    hooks,
    run: (...args) => umbra(['writer', ...args], { env, check: false, timeoutMs: 60_000 }),
  }
}

function addHook(hooks: string, name: string, body: string): string {
  const path = join(hooks, name)
  writeFileSync(path, `#!/bin/sh\n${body}\n`)
  chmodSync(path, 0o755)
  return path
}

const WIKI = {
  kind: 'script',
  name: 'Wiki',
  backupSchema: ['incremental', 'timestamped'],
  components: [
    { name: 'pages', caption: 'All pages', files: [{ path: '/srv/wiki', alternatePath: '/var/spit' }] },
    {
      name: 'cache',
      selectable: false,
      files: [{ path: '/srv/cache', backupRequired: ['full'], snapshotRequired: [] }],
    },
  ],
  excludeFiles: [{ path: '/srv/wiki', filespec: '*.tmp', recursive: true }],
}

test('writers are configured, listed, shown and forgotten', { timeout: 110_000 }, async (t) => {
  const { folder, hooks, run } = place(t)
  t.is((await run('list')).stdout, 'no writers (umbra writer add configures one)\n')
  const help = (await run('add', '--help')).stdout
  for (const kind of ['script', 'postgresql', 'mariadb', 'redis', 'sqlite'])
    t.ok(help.includes(kind), `the help names ${kind}`)
  writeFileSync(join(folder, 'wiki.json'), JSON.stringify(WIKI))
  const added = await run('add', 'wiki', join(folder, 'wiki.json'))
  t.is(added.code, 0, added.stderr)
  t.ok(/^writer wiki \(script\) is configured in .*\/config\/writers\/wiki.json\n$/.test(added.stdout))
  t.is((await run('add', 'wiki', join(folder, 'wiki.json'))).code, 4, 'it exists already')
  t.is((await run('add', 'wiki', join(folder, 'wiki.json'), '--replace')).code, 0)
  const hook = addHook(hooks, '10-flush', '[ "$1" = identify ] && exit 1; exit 0')

  const listed = (await run('list')).stdout.split('\n')
  t.ok(/^10-flush .*stable +ok +\/.*10-flush$/.test(listed[1] ?? ''), listed[1])
  t.ok(/^Wiki +2 +stable +ok +wiki$/.test(listed[2] ?? ''), listed[2])
  const status = await run('status', 'Wiki')
  t.ok(/^writer +Wiki\n.*state +stable\nlast result +ok\n$/s.test(status.stdout), status.stdout)
  t.is((await run('status', hook)).code, 0, 'by where it comes from')
  t.is((await run('status', 'nobody')).code, 3)
  const short = (await run('metadata', 'wiki')).stdout
  t.ok(short.includes('  pages (file-group, selectable): All pages\n'), short)
  t.absent(short.includes('/srv/wiki'))
  const detailed = (await run('metadata', 'wiki', '--detailed')).stdout
  for (const line of [
    'can do       full, incremental, timestamped',
    '    files /srv/wiki/* (recursive); read from /var/spit',
    '    files /srv/cache/* (recursive); saved in full; from a snapshot in no backup but a copy',
    '  not saved: /srv/wiki/*.tmp (recursive)',
  ]) {
    t.ok(detailed.includes(`${line}\n`), line)
  }
  t.is((await run('remove', 'wiki')).code, 0)
  t.is((await run('remove', 'wiki')).code, 3)
  t.absent((await run('list')).stdout.includes('Wiki'))
})

test('what cannot be a writer is refused when it is added, and what others may write when it would be run', {
  timeout: 110_000,
}, async (t) => {
  const { folder, hooks, run } = place(t)
  const add = async (value: unknown): Promise<{ code: number; stderr: string }> => {
    writeFileSync(join(folder, 'x.json'), typeof value === 'string' ? value : JSON.stringify(value))
    return run('add', 'x', join(folder, 'x.json'))
  }
  for (const [value, pattern] of [
    ['{', /is not JSON/],
    [{ kind: 'oracle' }, /kind must be one of script, /],
    [{ ...WIKI, extra: 1 }, /unknown property "extra"; it may have kind, name, .*components/],
    [{ ...WIKI, backupSchema: ['timestamped'] }, /timestamped needs incremental or differential/],
    [{ ...WIKI, commands: { freeze: ['sync'] } }, /absolute path/],
  ] as const) {
    const { code, stderr } = await add(value)
    t.is(code, 10, stderr)
    t.ok(pattern.test(stderr), stderr)
  }
  t.is((await run('add', '../x', join(folder, 'x.json'))).code, 2)
  t.is((await run('add', 'x', join(folder, 'nothing.json'))).code, 3)
  chmodSync(addHook(hooks, 'hook', ':'), 0o777)
  const listed = await run('list')
  t.is(listed.code, 12, listed.stderr)
  t.ok(/can be written by others/.test(listed.stderr))
})
