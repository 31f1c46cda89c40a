// umbra shadow as a person uses it: the real command, real mounts, the coordinator's process, hooks as writers.
// deadline 600

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { type RunResult, run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { isMountPoint, mountVolume, UMBRA, umbra } from '../support/umbra.ts'

const NEEDS = { ...requires('root', '/dev/fuse'), timeout: 180_000 }

/** The machine may be busy. */
const PATIENCE_MS = 60_000

interface Shadow {
  readonly snapshotId: string
  readonly snapshotSetId: string
  readonly snapshotName: string
  readonly originalVolume: string
  readonly setCount: number
  readonly exposedName: string | null
  readonly [property: string]: unknown
}

interface Place {
  readonly folder: string
  at(name: string): string
  /** A volume of this name, mounted at the folder of this name unless told. */
  volume(name: string, isMounted?: boolean): Promise<string>
  shadow(...args: string[]): Promise<RunResult>
  script(text: string): Promise<RunResult>
  list(...args: string[]): Promise<Shadow[]>
  start(...args: string[]): ChildProcess
  /** A hook that writes down the events it hears, and does this besides. */
  hook(name: string, body?: string): void
  heard(): string[]
}

function place(t: Assertion): Place {
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  mkdirSync(at('config/hooks.d'), { recursive: true })
  for (const [name, value] of [
    ['UMBRA_CONFIG_DIR', at('config')],
    ['UMBRA_RUNTIME_DIR', at('run')],
    ['UMBRA_COORDINATOR_IDLE_MS', '4000'],
  ] as const) {
    process.env[name] = value
    t.teardown(() => void delete process.env[name], { order: 2_000_000 })
  }
  const shadow = (...args: string[]) => umbra(['shadow', ...args], { check: false, timeoutMs: 120_000 })
  return {
    folder,
    at,
    shadow,
    async volume(name, isMounted = true) {
      const path = at(`${name}.umbra`)
      await umbra(['create', path, '--size', '64M'])
      if (isMounted) await mountVolume(t, path, at(name))
      return path
    },
    script: (text) => umbra(['shadow', 'script', '-'], { check: false, input: text, timeoutMs: 150_000 }),
    async list(...args) {
      return JSON.parse((await shadow('list', '--json', ...args)).stdout) as Shadow[]
    },
    start(...args) {
      const child = spawn(process.execPath, [UMBRA, 'shadow', ...args], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      t.teardown(() => void child.kill('SIGKILL'))
      return child
    },
    hook(name, body = 'exit 0') {
      const path = at(`config/hooks.d/${name}`)
      const script = `#!/bin/sh\ncat > /dev/null\n[ "$1" = identify ] && exit 1\necho "$1" >> ${at('heard')}\n${body}\n`
      writeFileSync(path, script)
      chmodSync(path, 0o755)
    },
    heard: () => (existsSync(at('heard')) ? readFileSync(at('heard'), 'utf8').trim().split('\n') : []),
  }
}

test('row 80: a whole script, from the context to the deletion', NEEDS, async (t) => {
  const lab = place(t)
  lab.hook('10-writer')
  await lab.volume('v')
  await lab.volume('w')
  writeFileSync(lab.at('v/file'), 'old')
  mkdirSync(lab.at('exposed'))
  const copy = `#!/bin/sh\ncp ${lab.at('exposed')}/file ${lab.at('copied')}\necho "$VSS_SHADOW_SET $data" > ${lab.at('seen')}\n`
  writeFileSync(lab.at('copy.sh'), `${copy}echo new > ${lab.at('v/file')}\n`)
  chmodSync(lab.at('copy.sh'), 0o755)
  const script = [
    '#DiskShadow script file',
    'set context persistent',
    `set metadata ${lab.at('documents')}`,
    'REM both volumes at one instant',
    'begin backup',
    `add volume ${lab.at('v')} alias data`,
    `ADD VOLUME "${lab.at('w')}" ALIAS other`,
    'create',
    `expose %data% ${lab.at('exposed')}`,
    `exec ${lab.at('copy.sh')}`,
    'list shadows set %VSS_SHADOW_SET%',
    'end backup',
    'delete shadows set %VSS_SHADOW_SET%',
    'exit',
  ]
  const done = await lab.script(script.join('\n'))
  t.is(done.code, 0, done.stderr)
  t.is(readFileSync(lab.at('copied'), 'utf8'), 'old')
  t.ok(/^[0-9a-f-]{36} [0-9a-f-]{36}\n$/.test(readFileSync(lab.at('seen'), 'utf8')), 'aliases are variables')
  t.ok(done.stdout.includes('shadow copy set of 2, 2 listed'), done.stdout)
  t.ok(done.stdout.endsWith('2 shadow copies deleted\n'))
  t.alike(await lab.list(), [])
  t.absent(isMountPoint(lab.at('exposed')), 'deleting takes the exposure away')
  t.alike(readdirSync(lab.at('documents')).sort(), ['backup-components.json', 'writers'])
  t.alike(lab.heard(), ['freeze', 'thaw'], 'the writer took part')
})

test('row 80: a script that fails, or is killed, leaves nothing volatile', NEEDS, async (t) => {
  const lab = place(t)
  await lab.volume('v')
  const failed = await lab.script(
    `add volume ${lab.at('v')}\ncreate\n\nexec false\nexec touch ${lab.at('never')}`,
  )
  t.is(failed.code, 1)
  t.is(failed.stderr, 'umbra: standard input:4: false ended with exit code 1\n')
  t.absent(existsSync(lab.at('never')), 'it stops at the first')
  t.alike(await lab.list(), [])
  for (const [line, code, message] of [
    ['import', 11, 'import does not apply'],
    ['mask x', 11, 'mask does not apply'],
    ['break writable x', 11, 'break does not apply'],
    ['set option plex', 11, 'full clone'],
    ['set option differential plex', 2, 'either differential or a full clone'],
    ['end backup', 15, 'No backup is under way'],
    ['frobnicate', 2, 'No such command'],
    ['expose %nothing% /m', 3, 'Nothing is called %nothing%'],
  ] as const) {
    const refused = await lab.script(line)
    t.ok(
      refused.code === code && refused.stderr.includes(message),
      `${line}: ${refused.code} ${refused.stderr}`,
    )
  }
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const text = `add volume ${lab.at('v')}\ncreate\nexec sleep 100`
    writeFileSync(lab.at('s.dsh'), text)
    const child = lab.start('script', lab.at('s.dsh'))
    await until('the shadow copy is there', async () => (await lab.list()).length === 1, PATIENCE_MS)
    child.kill(signal)
    const [code] = await once(child, 'exit')
    if (signal === 'SIGINT') t.is(code, 130)
    await until(`nothing is left after ${signal}`, async () => (await lab.list()).length === 0, PATIENCE_MS)
  }
  t.is((await lab.script(`add volume ${lab.at('v')}\ncreate`)).code, 0, 'the next one goes through')
})

test(
  'row 80: volatile lasts as long as the command; --exec has its variables; writers hear of its end',
  NEEDS,
  async (t) => {
    const lab = place(t)
    lab.hook('10-writer')
    const path = await lab.volume('v')
    writeFileSync(lab.at('v/file'), 'content')
    const command = `cat $UMBRA_SHADOW_PATH_1/file; echo; echo $UMBRA_SHADOW_SET $UMBRA_SHADOW_1 > ${lab.at('ids')}`
    const made = await lab.shadow(
      'create',
      lab.at('v'),
      '--name',
      'mine',
      '--exec',
      command,
      '--verbose',
      '--json',
    )
    t.is(made.code, 0, made.stderr)
    const { snapshotSetId, shadows } = JSON.parse(made.stdout) as { snapshotSetId: string; shadows: Shadow[] }
    t.is(readFileSync(lab.at('ids'), 'utf8'), `${snapshotSetId} ${shadows[0]?.snapshotId}\n`)
    t.is(shadows[0]?.snapshotName, 'mine')
    t.ok(made.stderr.includes('content\n'), "with --json the command's output is not among the results")
    t.ok(made.stderr.includes(`step commit ${path}: done`), 'the trace')
    t.alike(await lab.list(), [])
    const failed = await lab.shadow('create', lab.at('v'), '--exec', 'exit 9')
    t.ok(failed.code === 1 && failed.stderr.includes('exit code 9'), failed.stderr)
    t.alike(await lab.list(), [])
    const waiting = lab.start('create', lab.at('v'))
    await until('it is there', async () => (await lab.list()).length === 1, PATIENCE_MS)
    waiting.stdin?.write('\n')
    t.is((await once(waiting, 'exit'))[0], 0)
    t.alike(await lab.list(), [], 'gone at Enter')
    const kept = [
      'create',
      lab.at('v'),
      '--persistent',
      '--save-variables',
      lab.at('vars'),
      '--save-documents',
      lab.at('d'),
    ]
    t.is((await lab.shadow(...kept)).code, 0)
    const shown = await run('sh', [
      '-c',
      `. ${lab.at('vars')}; ls $UMBRA_SHADOW_PATH_1; echo $UMBRA_SHADOW_1`,
    ])
    t.is(shown.stdout.split('\n').at(-2), (await lab.list())[0]?.snapshotId)
    t.ok(existsSync(join(lab.at('d'), 'backup-components.json')))
    const without = await lab.shadow('create', lab.at('v'), '--verify-writer', 'nobody')
    t.ok(
      without.code === 15 && without.stderr.includes('nobody must take part and is not there'),
      without.stderr,
    )
  },
)

const PROPERTIES = [
  'snapshotId',
  'snapshotSetId',
  'setCount',
  'devicePath',
  'originalVolume',
  'originatingMachine',
  'serviceMachine',
  'exposedName',
  'exposedPath',
  'provider',
  'attributes',
  'createdAtMs',
  'state',
]

test('rows 26, 28: all thirteen properties; deletion stops at the first that is in use', NEEDS, async (t) => {
  const lab = place(t)
  for (const name of ['v', 'w', 'x']) await lab.volume(name)
  const volumes = [lab.at('v'), lab.at('w'), lab.at('x')]
  await lab.shadow('create', ...volumes, '--persistent', '--no-writers')
  const all = await lab.list()
  t.is(all.length, 3)
  for (const shadow of all) {
    t.alike(
      PROPERTIES.filter((name) => shadow[name] === undefined),
      [],
      'none is missing',
    )
    t.ok(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(shadow.snapshotId))
    t.is(shadow.setCount, 3)
  }
  const [first, second, third] = all as [Shadow, Shadow, Shadow]
  await umbra(['snapshot', 'pin', second.originalVolume, second.snapshotName])
  const partly = await lab.shadow('delete', '--set', first.snapshotSetId)
  t.is(partly.code, 5)
  t.ok(partly.stderr.includes(`1 of 3 shadow copies deleted; ${second.snapshotId}`), partly.stderr)
  const left = await lab.list()
  t.alike(
    left.map(({ snapshotId }) => snapshotId),
    [second.snapshotId, third.snapshotId],
    'the third is untouched',
  )
  t.alike(
    left.map(({ setCount }) => setCount),
    [3, 3],
    'the count is that of the beginning',
  )
  await umbra(['snapshot', 'unpin', second.originalVolume, second.snapshotName])
  t.is((await lab.shadow('delete', '--id', second.snapshotId)).code, 0)
  t.alike((await lab.list('--id', third.snapshotId)).length, 1)
  await lab.shadow('create', lab.at('x'), '--persistent', '--no-writers')
  t.is((await lab.shadow('delete', '--oldest', lab.at('x'))).stdout, '1 shadow copy deleted\n')
  t.absent(
    (await lab.list('--volume', lab.at('x'))).some(({ snapshotId }) => snapshotId === third.snapshotId),
  )
  t.is((await lab.shadow('delete', '--volume', lab.at('x'))).code, 0)
  t.alike(await lab.list(), [])
  t.is((await lab.shadow('delete', '--id', third.snapshotId)).code, 3)
  t.is((await lab.shadow('delete', '--all', '--oldest', lab.at('x'))).code, 2)
})

test('rows 35, 37: exposed over a restart; reverted when unused, or by force', NEEDS, async (t) => {
  const lab = place(t)
  const path = await lab.volume('v')
  writeFileSync(lab.at('v/file'), 'old')
  await lab.shadow('create', lab.at('v'), '--persistent')
  const volatile = lab.start('create', lab.at('v'))
  await until('both are there', async () => (await lab.list()).length === 2, PATIENCE_MS)
  const [kept, passing] = (await lab.list()) as [Shadow, Shadow]
  mkdirSync(lab.at('e'))
  const refused = await lab.shadow('expose', passing.snapshotId, lab.at('e'))
  t.ok(refused.code === 2 && refused.stderr.includes('not persistent'), refused.stderr)
  const unpersistent = await lab.shadow('revert', passing.snapshotId, '--force')
  t.ok(unpersistent.code === 2 && isMountPoint(lab.at('v')), 'refused before anything is unmounted')
  volatile.stdin?.end()
  await once(volatile, 'exit')
  appendFileSync(lab.at('v/file'), ' and new')
  t.is((await lab.shadow('expose', kept.snapshotId, lab.at('e'))).code, 0)
  t.is(readFileSync(lab.at('e/file'), 'utf8'), 'old')
  t.is((await lab.list())[0]?.exposedName, lab.at('e'))
  await umbra(['unmount', lab.at('e')])
  t.is((await lab.shadow('reexpose')).code, 0)
  t.is(readFileSync(lab.at('e/file'), 'utf8'), 'old', 'again after a restart')
  const open = openSync(lab.at('e/file'), 'r')
  const busy = await lab.shadow('delete', '--exposed', lab.at('e'))
  t.is(busy.code, 5, busy.stderr)
  closeSync(open)
  t.is((await lab.shadow('unexpose', lab.at('e'))).code, 0)
  t.is((await lab.list()).length, 1, 'it stays')
  const file = openSync(lab.at('v/file'), 'r')
  t.is((await lab.shadow('revert', kept.snapshotId)).code, 5, 'a mounted volume is in use')
  const reverted = await lab.shadow('revert', kept.snapshotId, '--force', '--json')
  closeSync(file)
  t.is(reverted.code, 0, reverted.stderr)
  const { undo, unmounted } = JSON.parse(reverted.stdout) as { undo: string; unmounted: string }
  t.is(unmounted, lab.at('v'))
  await umbra(['check', path])
  await umbra(['mount', path, lab.at('v')])
  t.is(readFileSync(lab.at('v/file'), 'utf8'), 'old')
  t.is(readFileSync(lab.at(`v/.snapshots/${undo}/file`), 'utf8'), 'old and new', 'and it can be undone')
})

test(
  'row 11: of two commands one proceeds and the other is told; with --auto-retry it has its turn',
  NEEDS,
  async (t) => {
    const lab = place(t)
    await lab.volume('v')
    await lab.volume('w')
    lab.hook('10-slow', `[ "$1" = freeze ] && while [ -e ${lab.at('wait')} ]; do sleep 0.1; done; exit 0`)
    writeFileSync(lab.at('wait'), '')
    const first = lab.start('create', lab.at('v'), '--persistent')
    await until('the first is under way', () => lab.heard().includes('freeze'), PATIENCE_MS)
    const second = await lab.shadow('create', lab.at('w'), '--persistent')
    t.ok(second.code === 15 && second.stderr.includes('Another shadow set is being made'), second.stderr)
    const third = lab.shadow('create', lab.at('w'), '--persistent', '--auto-retry', '2')
    const atOnce = await Promise.race([third.then(() => 'done'), lab.shadow('list').then(() => 'waits')])
    t.is(atOnce, 'waits')
    await run('rm', [lab.at('wait')])
    t.is((await once(first, 'exit'))[0], 0)
    t.is((await third).code, 0, 'it has its turn')
    t.is((await lab.list()).length, 2)
  },
)

test(
  'row 22: of 65 client-accessible shadow copies the oldest goes, or the last is refused; none is exposed',
  NEEDS,
  async (t) => {
    const lab = place(t)
    const path = await lab.volume('v')
    writeFileSync(lab.at('v/file'), 'old')
    const some = (count: number) => `add volume ${lab.at('v')}\ncreate\n`.repeat(count)
    const made = await lab.script(`set context clientaccessible\n${some(64)}`)
    t.is(made.code, 0, made.stderr)
    writeFileSync(lab.at('v/file'), 'new')
    const [oldest] = await lab.list()
    t.is(
      readFileSync(lab.at(`v/.snapshots/${oldest?.snapshotName}/file`), 'utf8'),
      'old',
      'the previous version',
    )
    mkdirSync(lab.at('e'))
    const refused = await lab.shadow('expose', oldest?.snapshotId ?? '', lab.at('e'))
    t.ok(refused.code === 2 && refused.stderr.includes('previous versions'), refused.stderr)
    t.is((await lab.shadow('create', lab.at('v'), '--client-accessible', '--no-writers')).code, 0)
    const after = await lab.list()
    t.is(after.length, 64)
    t.absent(
      after.some(({ snapshotId }) => snapshotId === oldest?.snapshotId),
      'the oldest went',
    )
    await umbra(['policy', path, '--when-full', 'protect'])
    const full = await lab.shadow('create', lab.at('v'), '--client-accessible', '--no-writers')
    t.ok(full.code !== 0 && full.stderr.includes('64 client-accessible'), full.stderr)
  },
)

test(
  'rows 44, 49: a writer left out hears nothing; what may pass is tried again as often as was said',
  NEEDS,
  async (t) => {
    const lab = place(t)
    await lab.volume('v')
    lab.hook('10-veto', '[ "$1" = freeze ] && exit 83; exit 0')
    const vetoed = await lab.shadow('create', lab.at('v'), '--persistent')
    t.is(vetoed.code, 15, vetoed.stderr)
    t.is((await lab.shadow('create', lab.at('v'), '--persistent', '--exclude-writer', '10-veto')).code, 0)
    t.alike(
      lab.heard().filter((event) => event === 'freeze'),
      ['freeze'],
      'the second time it was left out',
    )
    const backup = (...more: string[]) =>
      umbra(['backup', lab.at('v'), '--to', lab.at('repository'), ...more], { check: false })
    const freezes = async (work: Promise<RunResult>): Promise<number> => {
      writeFileSync(lab.at('heard'), '')
      t.is((await work).code, 15)
      return lab.heard().filter((event) => event === 'freeze').length
    }
    t.is(await freezes(backup('--retries', '2', '--retry-wait', '0')), 3, 'retryable: the first and two more')
    t.is(await freezes(backup('--retries', '0')), 1)
    lab.hook('10-veto', '[ "$1" = freeze ] && exit 84; exit 0')
    t.is(await freezes(backup('--retries', '2', '--retry-wait', '0')), 1, 'non-retryable: never again')
  },
)
