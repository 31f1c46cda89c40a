// The state machine of a volume's part of a shadow set, over the control socket of a daemon without a mount:
// what follows what, what is refused, who is in the way of whom.

import { randomUUID } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode, UmbraError } from '../../src/base/errors.ts'
import { ControlShadowProvider } from '../../src/daemon/control-shadow-provider.ts'
import { patternOf } from '../../src/daemon/delete-matching.ts'
import { checkHooksFolder } from '../../src/daemon/hooks-folder.ts'
import type { MountedOptions } from '../../src/daemon/launch.ts'
import { LocalVolume } from '../../src/daemon/local-volume.ts'
import { SEQUENCE_LIMITS } from '../../src/daemon/serve-shadow.ts'
import { DEFAULT_LIMITS } from '../../src/shadow/coordinator/limits.ts'
import type { ShadowRequest, ShadowSequence } from '../../src/shadow/coordinator/shadow-provider.ts'
import { until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { umbra, umbraJson } from '../support/umbra.ts'

const NEEDS = { timeout: 120_000 }

async function makeVolume(t: Assertion): Promise<string> {
  const volume = join(tempFolder(t), 'v.umbra')
  await umbra(['create', volume, '--size', '64M'])
  return volume
}

function requestOf(name: string, more: Partial<ShadowRequest> = {}): ShadowRequest {
  return { snapshotSetId: randomUUID(), attributes: 0, setCount: 1, snapshotName: name, ...more }
}

async function code(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'none'
  } catch (error) {
    return error instanceof UmbraError ? error.code : String(error)
  }
}

type Call = (sequence: ShadowSequence) => Promise<unknown>

const CALLS: readonly (readonly [string, Call])[] = [
  ['endPrepare', (sequence) => sequence.endPrepare({ setCount: 1 })],
  ['preCommit', (sequence) => sequence.preCommit()],
  ['flushAndHold', (sequence) => sequence.flushAndHold()],
  ['commit', (sequence) => sequence.commit()],
  ['release', (sequence) => sequence.release()],
  ['postCommit', (sequence) => sequence.postCommit()],
  ['preFinalCommit', (sequence) => sequence.preFinalCommit()],
  ['seal', (sequence) => sequence.seal()],
]
const DELETING: readonly [string, Call] = [
  'deleteFromSnapshot',
  (sequence) => sequence.deleteFromSnapshot([{ path: '/', filespec: '*', recursive: false }]),
]

test('row 14: every step out of order is BAD_STATE and changes nothing', NEEDS, async (t) => {
  const volume = await makeVolume(t)
  const sequence = await new ControlShadowProvider().begin(volume, requestOf('ordered', { attributes: 9 }))
  t.teardown(() => sequence.abort().catch(() => undefined))
  const refused: string[] = []
  for (const [at, [name, call]] of CALLS.entries()) {
    for (const [other, [wrong, wrongCall]] of [...CALLS, DELETING].entries()) {
      const isAllowed = other === at || (wrong === 'deleteFromSnapshot' && name === 'seal')
      if (isAllowed) continue
      const result = await code(wrongCall(sequence))
      if (result !== 'BAD_STATE') refused.push(`${wrong} before ${name}: ${result}`)
    }
    t.is(await code(call(sequence)), 'none', name)
  }
  for (const [name, call] of CALLS) t.is(await code(call(sequence)), 'BAD_STATE', `${name} after seal`)
  t.alike(refused, [], 'wrong steps that were not refused')
  await sequence.end({ keepBookmark: false })
  t.is((await umbraJson<unknown[]>(['snapshot', 'list', volume])).length, 1)
})

test('end() before the seal is BAD_STATE; abort() ends it at any step', NEEDS, async (t) => {
  const volume = await makeVolume(t)
  const provider = new ControlShadowProvider()
  for (let count = 0; count <= CALLS.length; count++) {
    const sequence = await provider.begin(volume, requestOf(`aborted-${count}`, { attributes: 9 }))
    for (const [, call] of CALLS.slice(0, count)) await call(sequence)
    await sequence.abort()
  }
  t.alike(await umbraJson(['snapshot', 'list', volume]), [])
  const unsealed = await provider.begin(volume, requestOf('unsealed'))
  t.is(await code(unsealed.end({ keepBookmark: false })), 'BAD_STATE')
})

test(
  'one shadow copy of a volume is made at a time, and a sealed one is in nobody’s way',
  NEEDS,
  async (t) => {
    const volume = await makeVolume(t)
    const provider = new ControlShadowProvider()
    const first = await provider.begin(volume, requestOf('first'))
    t.is(await code(provider.begin(volume, requestOf('second'))), 'SET_IN_PROGRESS')
    for (const [, call] of CALLS) await call(first)
    const second = await provider.begin(volume, requestOf('second'))
    for (const [, call] of CALLS) await call(second)
    await first.end({ keepBookmark: false })
    const names = (await umbraJson<{ name: string }[]>(['snapshot', 'list', volume])).map(({ name }) => name)
    t.alike(names, ['second'])
    await second.end({ keepBookmark: false })
  },
)

test('row 23: full clones, what is transportable, and nonsense are refused by name', NEEDS, async (t) => {
  const volume = await makeVolume(t)
  const provider = new ControlShadowProvider()
  const begin = (more: Partial<ShadowRequest>) => code(provider.begin(volume, requestOf('x', more)))
  t.is(await begin({ attributes: 0x40000 }), 'VOLUME_NOT_SUPPORTED', 'plex')
  t.is(await begin({ attributes: 0x20 }), 'VOLUME_NOT_SUPPORTED', 'transportable')
  t.is(await begin({ attributes: 0x60000 }), 'INVALID_ARGUMENT', 'differential and plex')
  t.is(await begin({ attributes: -1 }), 'INVALID_ARGUMENT')
  t.is(await begin({ setCount: 0 }), 'INVALID_ARGUMENT')
  t.is(await begin({ snapshotSetId: 'no uuid' }), 'INVALID_ARGUMENT')
  t.is(await begin({ snapshotName: 'a/b' }), 'INVALID_NAME')
  t.is(await begin({ snapshotName: 'umbra-present-1' }), 'INVALID_NAME')
  await umbra(['snapshot', 'create', volume, 'taken'])
  t.is(await begin({ snapshotName: 'taken' }), 'ALREADY_EXISTS')
  t.is(await code(provider.begin(`${volume}.none`, requestOf('x'))), 'NOT_FOUND')
  t.is((await provider.supports(volume)).mountPoint, null)
})

test('a daemon without a mount ends with its last connection, and lets the volume go', NEEDS, async (t) => {
  const volume = await makeVolume(t)
  const sequence = await new ControlShadowProvider().begin(volume, requestOf('only'))
  t.ok(hasCode(await LocalVolume.open(volume, { readOnly: true }).catch((error) => error), 'BUSY'))
  await sequence.abort()
  await until('the volume to be free', async () => {
    const opened = await LocalVolume.open(volume, { readOnly: false }).catch(() => undefined)
    await opened?.close()
    return opened !== undefined
  })
  await umbra(['check', volume])
})

test('patternOf() knows * and ? and takes everything else as it is', (t) => {
  const matches = (filespec: string, name: string) => patternOf(filespec).test(name)
  t.ok(matches('*', 'anything.at all\n'))
  t.ok(matches('a?c', 'aüc'))
  t.absent(matches('a?c', 'ac'))
  t.ok(matches('*.tmp', '.tmp'))
  t.absent(matches('*.tmp', 'xtmp'))
  t.ok(matches('a[b](c)+.^$|\\{1}', 'a[b](c)+.^$|\\{1}'))
  t.absent(matches('file', 'file2'))
  t.exception(() => patternOf('a/b'), /no folders/)
})

test('checkHooksFolder() takes no folder that others may write, nor one in the volume unasked', (t) => {
  const folder = tempFolder(t)
  const check = (hooks: string | null, mayBeInVolume = false) => {
    try {
      checkHooksFolder({ hooks, mountPoint: join(folder, 'mnt') } as MountedOptions, mayBeInVolume)
      return 'taken'
    } catch (error) {
      return error instanceof UmbraError ? error.code : String(error)
    }
  }
  const hooks = join(folder, 'hooks')
  mkdirSync(hooks)
  t.is(check(null), 'taken')
  t.is(check(hooks), 'taken')
  t.is(check(join(folder, 'none')), 'NOT_FOUND')
  t.is(check(join(folder, 'mnt')), 'INVALID_ARGUMENT')
  t.is(check(join(folder, 'mnt', 'hooks')), 'INVALID_ARGUMENT')
  t.is(check(join(folder, 'mnt', 'hooks'), true), 'taken')
  writeFileSync(join(folder, 'file'), '')
  t.is(check(join(folder, 'file')), 'INVALID_ARGUMENT')
  for (const mode of [0o777, 0o1777, 0o775, 0o757]) {
    chmodSync(hooks, mode)
    t.is(check(hooks), 'NOT_PERMITTED', mode.toString(8))
  }
  symlinkSync(hooks, join(folder, 'link'))
  chmodSync(hooks, 0o1777)
  t.is(check(join(folder, 'link')), 'NOT_PERMITTED', 'through a link')
  mkdirSync(join(hooks, 'below'))
  t.is(check(join(hooks, 'below')), 'taken', 'below one where others cannot replace it')
  chmodSync(hooks, 0o777)
  t.is(check(join(hooks, 'below')), 'NOT_PERMITTED', 'below one that others may write')
})

test('row 48: the window outlasts the time that writers have for PostSnapshot', (t) => {
  const { longEventMs, portGraceMs, providerStepMs } = DEFAULT_LIMITS
  // Opened here first, then on a slow volume; after PostSnapshot excluded files are deleted.
  t.ok(SEQUENCE_LIMITS.windowMs > providerStepMs + longEventMs + portGraceMs + providerStepMs)
})
