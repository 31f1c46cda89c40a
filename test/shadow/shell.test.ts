// The shadow shell's language, and its executor over the real coordinator's sessions with volumes in memory of
// the test: what follows what, what a failure leaves.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode, UmbraError } from '../../src/base/errors.ts'
import type { ShadowProperties } from '../../src/shadow/coordinator/requester-session.ts'
import { Aliases, shadowAliases } from '../../src/shadow/requester/shadow-shell/aliases.ts'
import { loadDocuments } from '../../src/shadow/requester/shadow-shell/document-folder.ts'
import { parseCommand } from '../../src/shadow/requester/shadow-shell/parse-command.ts'
import { runScript } from '../../src/shadow/requester/shadow-shell/run-script.ts'
import { wordsOf } from '../../src/shadow/requester/shadow-shell/script-line.ts'
import { ShadowShell, type ShellWorld } from '../../src/shadow/requester/shadow-shell/shadow-shell.ts'
import {
  deleteShadows,
  findShadows,
  type ShadowChoice,
  type ShadowStore,
} from '../../src/shadow/requester/shadow-shell/shadow-store.ts'
import { NOT_APPLICABLE, VERBS } from '../../src/shadow/requester/shadow-shell/shell-command.ts'
import type { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import { tempFolder } from '../support/temp.ts'
import { openLab, ScriptedWriter, vetoes } from './coordinator-lab.ts'

function codeOf(work: () => unknown): string {
  try {
    work()
    return 'none'
  } catch (error) {
    return error instanceof UmbraError ? error.code : String(error)
  }
}

test('words: quotes, comments and names', (t) => {
  const names = new Map([
    ['data', 'a b'],
    ['X', ''],
  ])
  const words = (line: string): string[] => wordsOf(line, (name) => names.get(name))
  t.alike(words(''), [])
  t.alike(words('  # set context'), [])
  t.alike(words('#DiskShadow script file'), [])
  t.alike(words('REM anything "'), [])
  t.alike(words('rem'), [])
  t.alike(words('remove x'), ['remove', 'x'], 'no comment')
  t.alike(words('add\tvolume  /a '), ['add', 'volume', '/a'])
  t.alike(words('exec "a b" c" "d "" "e""f"'), ['exec', 'a b', 'c d', '', 'e"f'])
  t.alike(words('expose %data% /m/%X%n'), ['expose', 'a b', '/m/n'], 'a value is not cut again')
  t.alike(words('exec date +100%%'), ['exec', 'date', '+100%'])
  t.alike(words('exec date 100%'), ['exec', 'date', '100%'])
  t.is(
    codeOf(() => words('expose %nobody% /m')),
    'NOT_FOUND',
  )
  t.is(
    codeOf(() => words('exec "a')),
    'INVALID_ARGUMENT',
  )
  t.alike(wordsOf('expose %nobody% /m', null), ['expose', '%nobody%', '/m'])
})

test('row 80: aliases are found in either case and become variables', (t) => {
  const aliases = new Aliases()
  aliases.set('systemVolumeShadow', 'one')
  aliases.set('SYSTEMVOLUMESHADOW', 'two')
  t.is(aliases.value('systemvolumeshadow'), 'two')
  t.alike(aliases.environment(), { SYSTEMVOLUMESHADOW: 'two' })
  const shadows = [
    { snapshotId: 'i', devicePath: '/m' },
    { snapshotId: 'j', devicePath: null },
  ]
  const given = shadowAliases('s', shadows as ShadowProperties[]).map(({ name, value }) => `${name}=${value}`)
  t.alike(given, [
    'VSS_SHADOW_SET=s',
    'UMBRA_SHADOW_SET=s',
    'VSS_SHADOW_1=i',
    'UMBRA_SHADOW_1=i',
    'UMBRA_SHADOW_PATH_1=/m',
    'VSS_SHADOW_2=j',
    'UMBRA_SHADOW_2=j',
    'UMBRA_SHADOW_PATH_2=',
  ])
})

/** Every form of every command of diskshadow (vss.md 7.2), with the name of its counterpart. */
const DISKSHADOW: readonly string[] = [
  'set',
  'set context clientaccessible',
  'set context persistent',
  'SET CONTEXT Persistent NoWriters',
  'set context volatile',
  'set context volatile nowriters',
  'set option differential',
  'set option rollbackrecover',
  'set option differential noautorecover',
  'set option',
  'set metadata /x/example',
  'set verbose on',
  'set verbose off',
  'load metadata /x/example',
  'writer verify Wiki',
  'writer exclude {4dc3bdd4-ab48-4d07-adb0-3bee2926fd7f}',
  'add',
  'add volume /srv alias data',
  'add volume /srv provider {5d1e7b0a-5a0c-4c55-9f1c-0e7f4d1c6b52}',
  'add alias name value',
  'begin backup',
  'create',
  'exec backup.sh',
  'end backup',
  'begin restore',
  'end restore',
  'simulate restore',
  'list writers',
  'list writers metadata',
  'list writers detailed',
  'list writers status',
  'list shadows all',
  'list shadows set {5d1e7b0a-5a0c-4c55-9f1c-0e7f4d1c6b52}',
  'list shadows id 5d1e7b0a-5a0c-4c55-9f1c-0e7f4d1c6b52',
  'list providers',
  'delete shadows all',
  'delete shadows volume /srv',
  'delete shadows oldest /srv',
  'delete shadows set x',
  'delete shadows id x',
  'delete shadows exposed /m',
  'expose x /m',
  'unexpose x',
  'revert x',
  'reset',
  'exit',
]

test('row 80: every command of diskshadow is read, or refused with its reason', (t) => {
  for (const line of DISKSHADOW) {
    const { verb } = parseCommand(wordsOf(line, null))
    t.ok(line.toLowerCase().startsWith(verb), line)
  }
  const read = new Set(DISKSHADOW.map((line) => parseCommand(wordsOf(line, null)).verb))
  t.alike([...read, 'help'].sort(), Object.keys(VERBS).sort(), 'and there are no others')
  for (const verb of ['import', 'mask', 'break']) {
    t.ok(NOT_APPLICABLE[verb], verb)
    t.is(
      codeOf(() => parseCommand([verb, 'writable', 'x'])),
      'UNAVAILABLE',
      verb,
    )
  }
  for (const line of [
    'frobnicate',
    'set frobnicate',
    'list',
    'set verbose maybe',
    'create now',
    'add volume',
    'revert',
    'delete shadows',
    'delete shadows all /srv',
    'list shadows oldest /srv',
    'expose x',
    'add alias 1x y',
    'set context persistent nowriters volatile',
    'begin',
    'expose x Q:',
    'add volume /srv alias',
  ]) {
    t.is(
      codeOf(() => parseCommand(line.split(' '))),
      'INVALID_ARGUMENT',
      line,
    )
  }
})

test('row 23: differential and plex exclude each other, plex and what needs hardware is refused by name', (t) => {
  const option = (line: string): string => codeOf(() => parseCommand(['set', 'option', ...line.split(' ')]))
  t.is(option('differential'), 'none')
  t.is(option('differential plex'), 'INVALID_ARGUMENT')
  t.is(option('noautorecover rollbackrecover'), 'INVALID_ARGUMENT')
  t.is(option('noautorecover txfrecover'), 'INVALID_ARGUMENT')
  for (const word of ['plex', 'transportable', 'txfrecover']) t.is(option(word), 'VOLUME_NOT_SUPPORTED', word)
})

function shadowOf(id: string, setId: string, more: Partial<ShadowProperties> = {}): ShadowProperties {
  return {
    snapshotId: id,
    snapshotSetId: setId,
    setCount: 2,
    volumeUuid: 'u',
    originalVolume: '/v',
    mountPoint: null,
    snapshotName: id,
    provider: 'p',
    devicePath: null,
    originatingMachine: 'm',
    serviceMachine: 'm',
    exposedName: null,
    exposedPath: null,
    attributes: 0,
    createdAtMs: 0,
    state: 'created',
    epoch: 1,
    ...more,
  }
}

class ListStore implements ShadowStore {
  readonly provider = { id: 'p', name: 'P' }
  readonly deleted: string[] = []
  readonly #shadows: readonly ShadowProperties[]
  readonly #busy: string

  constructor(shadows: readonly ShadowProperties[], busy = '') {
    this.#shadows = shadows
    this.#busy = busy
  }

  async list({ only }: { readonly only?: readonly string[] }): Promise<ShadowProperties[]> {
    return this.#shadows.filter(({ originalVolume }) => only?.includes(originalVolume) ?? true)
  }
  async volumes(): Promise<never[]> {
    return []
  }
  async delete({ snapshotId }: ShadowProperties): Promise<void> {
    if (snapshotId === this.#busy) throw new UmbraError('LEASED', 'It is being read')
    this.deleted.push(snapshotId)
  }
  async expose(): Promise<never> {
    throw new UmbraError('NOT_FOUND', 'no')
  }
  async unexpose(): Promise<never> {
    throw new UmbraError('NOT_FOUND', 'no')
  }
  async revert(): Promise<never> {
    throw new UmbraError('NOT_FOUND', 'no')
  }
}

test('row 28: which shadow copies are meant, set by set; the first that cannot go is the last that is tried', async (t) => {
  const shadows = [
    shadowOf('d', 's2', { createdAtMs: 20, epoch: 4, exposedName: '/e' }),
    shadowOf('b', 's1', { createdAtMs: 11, originalVolume: '/w', epoch: 9 }),
    shadowOf('a', 's1', { createdAtMs: 10, epoch: 2 }),
    shadowOf('c', 's2', { createdAtMs: 21, originalVolume: '/w', epoch: 8 }),
  ]
  const store = new ListStore(shadows, 'b')
  const ids = async (choice: ShadowChoice) =>
    (await findShadows(store, choice)).map(({ snapshotId }) => snapshotId)
  t.alike(await ids({ by: 'all' }), ['a', 'b', 'd', 'c'])
  t.alike(await ids({ by: 'set', id: 'S2' }), ['d', 'c'])
  t.alike(await ids({ by: 'id', id: 'B' }), ['b'])
  t.alike(await ids({ by: 'volume', volume: '/w' }), ['b', 'c'])
  t.alike(await ids({ by: 'oldest', volume: '/w' }), ['c'], 'by epoch: clocks may jump')
  t.alike(await ids({ by: 'exposed', folder: '/e' }), ['d'])
  for (const choice of [
    { by: 'id', id: 'x' },
    { by: 'set', id: 'x' },
    { by: 'oldest', volume: '/x' },
    { by: 'exposed', folder: '/x' },
  ] as const) {
    await t.exception(ids(choice), /./, choice.by)
  }
  const error = await deleteShadows(store, await findShadows(store, { by: 'all' })).catch((thrown) => thrown)
  t.ok(hasCode(error, 'LEASED'))
  t.alike(error.context, { deleted: 1, notDeleted: 'b' })
  t.ok(
    error.message.startsWith('1 of 4 shadow copies deleted; b of /w is the first that is not'),
    error.message,
  )
  t.alike(store.deleted, ['a'], 'those after it are untouched')
})

async function openShell(t: Assertion, writers: ScriptedWriter[]) {
  const lab = await openLab(t, { writers })
  const ran: string[] = []
  const notes: string[] = []
  const world: ShellWorld = {
    coordinator: lab.coordinator,
    store: new ListStore([]),
    volumes: {
      find: async (volume) => ({ volumeUuid: volume, volumePath: volume, mountPoint: null }),
      volumeAt: async (path) =>
        path.startsWith('/srv/w') ? { volumeUuid: '/a', volumePath: '/a', mountPoint: null } : null,
      points: async () => [],
      openSnapshot: () => Promise.reject(new Error('not asked for')),
      deleteBookmark: async () => {},
      deleteSnapshot: async () => {},
    },
    run: async (program, args, environment) => {
      ran.push([program, ...args, environment['VSS_SHADOW_1'] ?? '-'].join(' '))
      return program === 'fail' ? 3 : 0
    },
    onNote: (note) => notes.push(note),
  }
  const shell = new ShadowShell(world)
  const script = (lines: string) => runScript(shell, lines, { name: 's.dsh', onStep: () => {} })
  const kept = (volume: string) => lab.provider.volumes.get(volume)?.snapshots().length
  return { lab, shell, ran, script, kept }
}

test('row 80: what does not follow is refused, with file and line, and ends the script', async (t) => {
  for (const [script, line, code] of [
    ['\n# x\nend backup', 3, 'BAD_STATE'],
    ['create', 1, 'INVALID_ARGUMENT'],
    ['begin backup\nbegin backup', 2, 'BAD_STATE'],
    ['begin backup\nend backup', 2, 'BAD_STATE'],
    ['begin backup\nadd volume /a\ncreate\nadd volume /b\ncreate', 5, 'BAD_STATE'],
    ['add volume /a\nadd volume /a', 2, 'ALREADY_EXISTS'],
    ['add volume /a provider x', 1, 'NOT_FOUND'],
    ['begin restore', 1, 'BAD_STATE'],
    ['end restore', 1, 'BAD_STATE'],
    ['load metadata /nowhere', 1, 'NOT_FOUND'],
    ['exec %VSS_SHADOW_1%', 1, 'NOT_FOUND'],
    ['set context volatile nowriters\nwriter verify w\nadd volume /a\ncreate', 4, 'INVALID_ARGUMENT'],
    ['writer verify nobody\nadd volume /a\ncreate', 3, 'WRITER_FAILED'],
    ['import', 1, 'UNAVAILABLE'],
  ] as const) {
    const { script: run, kept } = await openShell(t, [])
    const error = await run(script).catch((thrown) => thrown)
    t.ok(hasCode(error, code) && error.message.startsWith(`s.dsh:${line}: `), `${script}: ${error.message}`)
    t.is(kept('/a'), 0, 'and nothing is left')
  }
})

test('a line that cannot be read is found before the first one is carried out', async (t) => {
  const { script, ran } = await openShell(t, [])
  const error = await script('exec one\nexec two\nfrobnicate').catch((thrown) => thrown)
  t.ok(error.message.startsWith('s.dsh:3: No such command: frobnicate'), error.message)
  t.alike(ran, [])
  await script('exec one\nexit\nfrobnicate')
  t.alike(ran, ['one -'], 'what comes after exit is not')
})

test('row 80: volatile shadow copies last until reset or the end, whatever failed', async (t) => {
  const { script, kept, ran, shell } = await openShell(t, [])
  let during: (number | undefined)[] = []
  const look = () => {
    during = [kept('/a'), kept('/b')]
  }
  const error = await runScript(shell, 'add volume /a\nadd volume /b\ncreate\nexec ok\nexec fail', {
    name: 's.dsh',
    onStep: ({ command }) => command.verb === 'exec' && look(),
  }).catch((thrown) => thrown)
  t.ok(error.message.includes('s.dsh:5: fail ended with exit code 3'), error.message)
  t.alike(during, [1, 1])
  t.alike([kept('/a'), kept('/b')], [0, 0])
  t.ok(/^ok [0-9a-f-]{36}$/.test(ran[0] ?? ''), ran[0])
  await script(
    'set context persistent\nadd volume /a\ncreate\nset context volatile\nadd volume /b\ncreate\nreset\nadd',
  )
  t.alike([kept('/a'), kept('/b')], [1, 0])
})

test('row 80: writers of a backup hear of its end; of one that failed, of its shutdown alone', async (t) => {
  for (const [script, told] of [
    ['begin backup\nadd volume /a\ncreate\nexec ok\nend backup', true],
    ['begin backup\nadd volume /a\ncreate\nexec fail\nend backup', false],
    ['begin backup\nadd volume /a\ncreate', false],
    ['add volume /a\ncreate', true],
  ] as const) {
    const writer = new ScriptedWriter('w')
    const { script: run, lab } = await openShell(t, [writer])
    await run(script).catch(() => undefined)
    const events = lab.trace.flatMap((entry) =>
      entry.kind === 'event' && entry.phase === 'begin' ? [entry.event] : [],
    )
    t.is(events.includes('backup-complete'), told, script)
    t.is(events.at(-1), 'backup-shutdown', script)
  }
})

test('row 80: documents are saved, loaded, and lead a restore: PreRestore, the files, PostRestore', async (t) => {
  const always = (builder: MetadataBuilder) =>
    void builder.setRestoreMethod('custom', { writerRestore: 'always' })
  const here = new ScriptedWriter('w', always)
  const elsewhere = new ScriptedWriter('elsewhere', always)
  const { script, lab, ran } = await openShell(t, [here, elsewhere])
  const folder = join(tempFolder(t), 'documents')
  const backup = `set metadata ${folder}\nwriter verify w\nwriter verify w:data\nbegin backup\nadd volume /a\ncreate`
  await script(`${backup}\nend backup`)
  const { components, metadata } = loadDocuments(folder)
  t.alike(
    components.writers.map(({ name }) => name),
    ['w'],
    'what lies on no volume of the set is not taken',
  )
  t.is(components.writers[0]?.components[0]?.backupSucceeded, true)
  t.is(metadata.length, 2)
  t.ok(elsewhere.events.includes('freeze'), 'yet every writer is frozen')
  const missing = await script('writer verify elsewhere\nadd volume /a\ncreate').catch((thrown) => thrown)
  t.ok(missing.message.includes('none of its components is taken'), missing.message)
  here.requests.length = 0
  await script(`load metadata ${folder}\nsimulate restore`)
  t.alike(here.events, [], 'simulating tells nobody')
  await script(`load metadata ${folder}\nbegin restore\nexec bring-back\nend restore`)
  t.alike(here.events, ['pre-restore', 'post-restore'])
  t.is(here.requests.at(-1)?.components[0]?.fileRestoreStatus, 'all')
  t.ok(ran.at(-1)?.startsWith('bring-back'))
  here.requests.length = 0
  const excluded = `load metadata ${folder}\nwriter exclude w:data\nbegin restore\nend restore`
  await script(excluded)
  t.alike(here.events, [], 'what is left out is not told')
  here.on['pre-restore'] = vetoes
  const vetoed = await script(`load metadata ${folder}\nbegin restore\nend restore`).catch((thrown) => thrown)
  t.ok(hasCode(vetoed, 'WRITER_FAILED') && vetoed.message.startsWith('s.dsh:2: '), vetoed.message)
  t.is(lab.coordinator.sessionCount, 0, 'no session is left')
})

test('row 80: every verb of diskshadow, vssadmin and vshadow has its row in the document', (t) => {
  const document = readFileSync(new URL('../../docs/VSS.md', import.meta.url), 'utf8')
  const rows = document.split('\n').filter((line) => line.startsWith('| `'))
  const cells = rows.map((row) => row.split(' | ')[0] ?? '')
  const verbs = new Set([...Object.keys(VERBS), ...Object.keys(NOT_APPLICABLE)])
  verbs.delete('help')
  for (const verb of [...verbs, ...VSSADMIN, ...VSHADOW]) {
    t.ok(
      cells.some((cell) => new RegExp(`\`${verb}(?:[ \`=])`).test(cell)),
      verb,
    )
  }
})

const VSSADMIN = [
  'create shadow',
  'delete shadows',
  'list shadows',
  'add shadowstorage',
  'delete shadowstorage',
  'resize shadowstorage',
  'list shadowstorage',
  'list providers',
  'list volumes',
  'list writers',
]
const VSHADOW = [
  '-p',
  '-nw',
  '-ap',
  '-ad',
  '-scsf',
  '-nar',
  '-tr',
  '-t',
  '-bc',
  '-wi',
  '-wx',
  '-exec',
  '-script',
  '-wait',
  '-tracing',
  '-q',
  '-qx',
  '-s',
  '-da',
  '-do',
  '-dx',
  '-ds',
  '-el',
  '-er',
  '-ws',
  '-wm',
  '-wm2',
  '-wm3',
  '-r',
  '-rs',
  '-revert',
  '-b',
  '-bw',
  '-bex',
  '-i',
  '-addresync',
  '-resync',
]
