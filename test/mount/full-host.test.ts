// The space policy on a host whose disk is really full: the oldest snapshots go until the write fits, or
// live writes are refused until one is deleted. The rows are those of the checklist of the shadow copy service.

// deadline 240

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume } from '../support/umbra.ts'
import { judgeVolume, umbra, umbraJson } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck'), timeout: 240_000 }
const MIB = 1 << 20

interface Status {
  readonly state: string
  readonly fault: { readonly kind: string; readonly cause: string } | null
}

/** Overwrites part of a file and makes it durable. @returns the code of the error, if any */
function rewrite(path: string, offsetBytes: number, bytes: Uint8Array): string | undefined {
  const file = openSync(path, 'r+')
  try {
    for (let done = 0; done < bytes.length; )
      done += writeSync(file, bytes, done, bytes.length - done, offsetBytes + done)
    fsyncSync(file)
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  } finally {
    try {
      closeSync(file)
    } catch {
      // What could not be written back was told by fsync.
    }
  }
}

function isSame(path: string, bytes: Uint8Array): boolean {
  return readFileSync(path).equals(bytes)
}

/** A host's disk of its own, with a volume on it that is far larger. */
async function smallHost(t: Assertion, ...policy: string[]) {
  const folder = tempFolder(t)
  const host = join(folder, 'host')
  const dir = join(folder, 'mnt')
  for (const path of [host, dir]) mkdirSync(path)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=96m', 'tmpfs', host])
  const volume = join(host, 'v.umbra')
  t.teardown(() => run('umount', [host], { check: false }), { order: 1_000_001 })
  t.teardown(() => judgeVolume(volume, join(folder, 'last-state.img')), { order: 1_000_000 })
  await umbra(['create', volume, '--size', '1G', ...policy])
  await mountVolume(t, volume, dir)
  return { dir, volume, host }
}

test('row 30: a full host: the oldest go until the write fits', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const { dir, volume } = await smallHost(t)
  const contents = new Map<string, Uint8Array>()
  for (let i = 0; i < 24; i++) {
    const bytes = random.bytes(12 * MIB)
    t.absent(writeFailure(join(dir, 'f'), bytes), `write ${i}`)
    await umbra(['snapshot', 'create', dir, `s${i}`])
    contents.set(`s${i}`, bytes)
  }
  const left = readdirSync(join(dir, '.snapshots'))
  t.ok(
    left.length >= 2 && left.length < 10,
    `${left.length} are left in ${statSync(volume).blocks / 2048} MiB`,
  )
  const newest = [...contents.keys()].slice(-left.length)
  t.alike(left.sort(), newest.sort(), 'the newest')
  for (const name of left)
    t.ok(isSame(join(dir, '.snapshots', name, 'f'), contents.get(name) as Uint8Array), name)
  t.ok(isSame(join(dir, 'f'), contents.get('s23') as Uint8Array))
  t.is((await umbraJson<{ state: string }>(['status', dir])).state, 'serving')
})

test(
  'row 31: a full host under protect: ENOSPC, snapshots stay, deleting one makes it writable',
  NEEDS,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const { dir } = await smallHost(t, '--when-full', 'protect')
    const contents = new Map<string, Uint8Array>()
    let failure: string | undefined
    for (let i = 0; i < 12 && failure === undefined; i++) {
      const bytes = random.bytes(12 * MIB)
      failure = writeFailure(join(dir, 'f'), bytes)
      if (failure !== undefined) break
      await umbra(['snapshot', 'create', dir, `s${i}`])
      contents.set(`s${i}`, bytes)
    }
    t.is(failure, 'ENOSPC')
    t.ok(contents.size >= 5 && contents.size < 9, `after ${contents.size} snapshots`)
    const { fault, state } = await umbraJson<Status>(['status', dir])
    t.is(fault?.cause, 'host')
    t.is(state, 'serving')
    for (const [name, bytes] of contents) t.ok(isSame(join(dir, '.snapshots', name, 'f'), bytes), name)
    await umbra(['snapshot', 'delete', dir, 's0', 's1'])
    const bytes = random.bytes(12 * MIB)
    await until('a write fits again', async () => writeFailure(join(dir, 'f'), bytes) === undefined, 20_000)
    t.ok(isSame(join(dir, 'f'), bytes))
    t.is((await umbraJson<Status>(['policy', dir])).fault, null)
  },
)

/** Writes a file anew and makes it durable. @returns the code of the error, if any */
function writeFailure(path: string, bytes: Uint8Array): string | undefined {
  try {
    writeFileSync(path, '')
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
  return rewrite(path, 0, bytes)
}
