// How shadow copies end: a requester that dies at any step, a failed commit in one volume of several, a
// daemon that is killed, and what stays of each context.

// deadline 400

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { withPoints } from '../../src/daemon/point-access.ts'
import { startChild } from '../support/child.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { mountVolume, umbra, umbraJson } from '../support/umbra.ts'
import { exportRaw, type Lab, makeLab, QUIET } from './lab.ts'
import { beginSet, makeSet, STEPS, type Step } from './shadow-sets.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 240_000 }
const DAEMON = fileURLToPath(new URL('./shadow-daemon.ts', import.meta.url))
const REQUESTER = fileURLToPath(new URL('./shadow-requester.ts', import.meta.url))

interface Listed {
  readonly name: string
  readonly id: string
  readonly shadow: { readonly setId: string; readonly setCount: number; readonly attributes: number } | null
}

function list(volume: string): Promise<Listed[]> {
  return umbraJson<Listed[]>(['snapshot', 'list', volume])
}

async function names(volume: string): Promise<string[]> {
  return (await list(volume)).map(({ name }) => name)
}

async function allocatedBytes(volume: string): Promise<number> {
  await umbra(['sync', volume])
  const status = await umbraJson<{ space: { allocatedBytes: number; snapshotBytes: number } }>([
    'status',
    volume,
  ])
  return status.space.snapshotBytes
}

async function killedAt(t: Assertion, volume: string, context: string, step: Step): Promise<void> {
  const args = [volume, context, `killed-${step}`, step]
  const requester = startChild(t, REQUESTER, { args })
  await requester.message('reached')
  requester.kill('SIGKILL')
  await requester.exit()
}

test('a requester killed at each step leaves nothing: writes go on, no shadow remains', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  writeFileSync(join(lab.dir, 'file'), 'kept')
  for (const step of STEPS) {
    await killedAt(t, lab.dir, 'backup', step)
    // Waits for the end of a hold at most.
    await run('sh', ['-ec', `echo ${step} > ${join(lab.dir, 'after')}; sync ${join(lab.dir, 'after')}`])
    await until('the shadow copy to be gone', async () => (await names(lab.dir)).length === 0)
    t.absent(existsSync(join(lab.dir, '.snapshots', `killed-${step}`)), `killed after ${step}`)
  }
  const set = await makeSet(t, [lab.dir])
  t.is(set.snapshots.length, 1, 'the next set is made')
  await set.end()
  t.is(await allocatedBytes(lab.dir), 0, 'no block is held by snapshots')
})

test(
  'row 19: kill -9 of the requester of an unmounted volume: shadow gone, volume free',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '128M')
    for (const step of ['flushAndHold', 'commit', 'preFinalCommit', 'seal'] as const) {
      await killedAt(t, lab.volume, 'backup', step)
      await until('the daemon to let go', async () => {
        const status = await umbraJson<{ daemon: unknown }>(['status', lab.volume])
        return status.daemon === null
      })
      t.alike(await names(lab.volume), [], `killed after ${step}`)
    }
    await lab.mount()
  },
)

test('row 19: an auto-release shadow goes with its session', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  writeFileSync(join(lab.dir, 'file'), Buffer.alloc(1 << 20, 1))
  const set = await makeSet(t, [lab.dir])
  writeFileSync(join(lab.dir, 'file'), Buffer.alloc(1 << 20, 2))
  t.alike(await names(lab.dir), [set.name])
  await set.end()
  t.alike(await names(lab.dir), [])
  t.is(await allocatedBytes(lab.dir), 0)
  const marked = await makeSet(t, [lab.dir])
  await marked.end(true)
  const bookmarks = await umbraJson<{ name: string }[]>(['bookmark', 'list', lab.dir])
  t.alike(
    bookmarks.map(({ name }) => name),
    [marked.name],
    'a bookmark is left when asked for',
  )
})

test(
  'row 19: a shadow that is being read when its session ends goes with the last reader',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '128M')
    await lab.mount()
    writeFileSync(join(lab.dir, 'file'), 'x')
    const set = await makeSet(t, [lab.dir])
    await withPoints(lab.dir, [set.name], async (access) => {
      await set.end()
      t.alike(await names(lab.dir), [set.name], 'a lease keeps it')
      const block = new Uint8Array(4096)
      await access.device(access.snapshot(set.name)).read(0, block.length, block, 0)
      t.is(block[1024 + 56], 0x53, 'and it is read')
    })
    await until('the shadow copy to be gone', async () => (await names(lab.dir)).length === 0)
  },
)

test('an unmount at any step ends the sequence and leaves nothing', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  for (const last of ['flushAndHold', 'commit', 'preFinalCommit', 'seal'] as const) {
    const mounted = await lab.mount()
    const unmounting = makeSet(t, [lab.dir], {
      name: `unmounted-${last}`,
      after: async (step) => {
        if (step === last) await mounted.unmount()
      },
    })
    if (last === 'seal') await unmounting
    else await t.exception(unmounting)
    t.alike(await names(lab.volume), [], `unmounted after ${last}`)
  }
})

test('an auto-recovery window that is never sealed is dropped', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  const options = {
    volumePath: lab.volume,
    mountPoint: lab.dir,
    readOnly: false,
    writeThrough: false,
    allowOther: false,
    accessTimes: true,
    snapshot: null,
    driver: 'device',
    hooks: null,
  }
  const limits = { holdMs: 10_000, windowMs: 500 }
  const daemon = startChild(t, DAEMON, { args: [JSON.stringify(options), JSON.stringify(limits)] })
  await daemon.message('ready')
  const path = join(lab.dir, '.snapshots', 'forgotten')
  const made = makeSet(t, [lab.dir], {
    name: 'forgotten',
    after: async (step) => {
      if (step !== 'preFinalCommit') return
      writeFileSync(join(path, 'file'), 'x')
      await until('the window to end', () => !existsSync(path))
    },
  })
  await t.exception(made, /auto-recovery window was open/)
  t.alike(await names(lab.dir), [])
  await umbra(['unmount', lab.dir])
  await daemon.exit()
})

test('row 20: a persistent shadow survives session, remount and kill -9', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  let mounted = await lab.mount()
  writeFileSync(join(lab.dir, 'file'), 'old')
  const { name } = await makeSet(t, [lab.dir], { context: 'app-rollback' })
  const auto = await makeSet(t, [lab.dir], { name: 'auto' })
  await killedAt(t, lab.dir, 'nas-rollback', 'seal')
  const kept = [name, auto.name, 'killed-seal']
  t.alike(await names(lab.dir), kept)
  process.kill(mounted.pid, 'SIGKILL')
  await umbra(['unmount', lab.dir])
  mounted = await mountVolume(t, lab.volume, lab.dir, QUIET)
  t.alike(await names(lab.dir), [name, 'killed-seal'], 'the auto-release one is gone with its daemon')
  writeFileSync(join(lab.dir, 'file'), 'new')
  t.is(readFileSync(join(lab.dir, '.snapshots', name, 'file'), 'utf8'), 'old', 'copy-on-write goes on')
  await mounted.unmount()
  await exportRaw(lab.volume, name, lab.at('image'))
  const verdict = e2fsck(lab.at('image'))
  t.ok(verdict.clean, 'e2fsck finds nothing in the shadow')
  if (!verdict.clean) t.comment(verdict.output)
  await lab.mount()
  t.is(readFileSync(join(lab.dir, '.snapshots', name, 'file'), 'utf8'), 'old')
})

async function threeVolumes(t: Assertion): Promise<{ lab: Lab; folders: string[] }> {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  const folders = [lab.dir]
  for (const other of ['v2', 'v3']) {
    await umbra(['create', lab.at(`${other}.umbra`), '--size', '128M'])
    await mountVolume(t, lab.at(`${other}.umbra`), lab.at(other))
    folders.push(lab.at(other))
  }
  return { lab, folders }
}

test(
  'row 5: a commit that fails on volume 2 of 3: no shadow of the set, sizes as before',
  NEEDS,
  async (t) => {
    const { folders } = await threeVolumes(t)
    for (const folder of folders) writeFileSync(join(folder, 'file'), 'x')
    const before = await Promise.all(folders.map(allocatedBytes))
    const { sequences, name } = await beginSet(t, folders)
    for (const step of ['endPrepare', 'preCommit', 'flushAndHold'] as const) {
      await Promise.all(sequences.map((sequence) => sequence[step]({ setCount: 3 })))
    }
    // The name is taken behind the sequence's back, after it was found free.
    const taken = umbra(['bookmark', 'create', folders[1] as string, name])
    await taken
    const results = await Promise.allSettled(sequences.map((sequence) => sequence.commit()))
    t.alike(
      results.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    )
    const [, failed] = results
    t.ok(failed?.status === 'rejected' && String(failed.reason).includes(name), String(failed))
    for (const sequence of sequences) await sequence.abort()
    for (const folder of folders) {
      t.alike(await names(folder), [], folder)
      writeFileSync(join(folder, 'file'), 'writable again')
    }
    t.alike(await Promise.all(folders.map(allocatedBytes)), before)
  },
)

test('row 27: nothing of a shadow that is being made is listed', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  const seen: string[] = []
  const set = await makeSet(t, [lab.dir], {
    after: async (step) => {
      const listed = [...(await names(lab.dir)), ...readdirSync(join(lab.dir, '.snapshots'))]
      seen.push(`${step}: ${listed.join(' ')}`)
    },
  })
  const expected = STEPS.map((step) => `${step}: ${step === 'seal' ? `${set.name} ${set.name}` : ''}`)
  t.alike(seen, expected)
  await set.end()
})
