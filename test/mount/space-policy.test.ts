// The space policy through a real mount: at their limit the oldest snapshots go and live writes go on, or
// live writes are refused and snapshots stay. The rows are those of the checklist of the shadow copy service.

// deadline 240

import { spawn } from 'node:child_process'
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import test from 'brittle'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { until } from '../support/run.ts'
import { UMBRA } from '../support/umbra.ts'
import { type Lab, makeLab, umbra, umbraJson } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck'), timeout: 240_000 }
const MIB = 1 << 20

interface Report {
  readonly usedBytes: number
  readonly allocatedBytes: number
  readonly maxBytes: number | null
  readonly fault: { readonly kind: string; readonly cause: string } | null
  readonly events: readonly { readonly kind: string; readonly snapshot: string | null }[]
  readonly evicted: readonly string[]
}

const policyOf = (volume: string, ...args: string[]) => umbraJson<Report>(['policy', volume, ...args])

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

/** A file of its own in each of ten snapshots, and one of 32 MiB that all of them share. */
async function tenSnapshots(lab: Lab, random: Random): Promise<Map<string, Uint8Array>> {
  const contents = new Map<string, Uint8Array>()
  writeFileSync(join(lab.dir, 'shared'), random.bytes(32 * MIB))
  for (let i = 0; i < 10; i++) {
    const bytes = random.bytes(2 * MIB)
    writeFileSync(join(lab.dir, 'own'), bytes)
    await umbra(['snapshot', 'create', lab.dir, `s${i}`])
    contents.set(`s${i}`, bytes)
  }
  return contents
}

test(
  'row 30: at the limit with ten snapshots live writes go on, and the oldest go first',
  NEEDS,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const lab = await makeLab(t, '256M')
    await policyOf(lab.volume, '--snapshot-limit', '32M')
    await lab.mount()
    const contents = await tenSnapshots(lab, random)
    const shared = readFileSync(join(lab.dir, 'shared'))
    const openFile = openSync(join(lab.dir, '.snapshots/s0/own'), 'r')
    t.teardown(() => closeSync(openFile))
    t.is(readSync(openFile, Buffer.alloc(10), 0, 10, 0), 10)

    const live = Buffer.from(shared)
    for (let at = 0; at < 20 * MIB; at += 2 * MIB) {
      const bytes = random.bytes(2 * MIB)
      t.absent(rewrite(join(lab.dir, 'shared'), at, bytes), `live write at ${at / MIB} MiB`)
      live.set(bytes, at)
    }
    t.ok(isSame(join(lab.dir, 'shared'), live))
    const report = await policyOf(lab.dir)
    t.ok(report.maxBytes === 32 * MIB && report.maxBytes >= report.allocatedBytes, 'row 29: max >= allocated')
    t.ok(
      report.allocatedBytes >= report.usedBytes && report.usedBytes > 20 * MIB,
      `>= used ${report.usedBytes}`,
    )
    const evicted = report.events.filter(({ kind }) => kind === 'evicted').map(({ snapshot }) => snapshot)
    t.ok(evicted.length >= 3 && evicted.length < 8, `${evicted.length} went`)
    t.alike(evicted, [...contents.keys()].slice(0, evicted.length), 'oldest first')
    t.ok(report.events.some(({ kind }) => kind === 'warning'))
    const left = [...contents.keys()].slice(evicted.length)
    t.alike(readdirSync(join(lab.dir, '.snapshots')).sort(), left)
    for (const name of left) {
      t.ok(isSame(join(lab.dir, '.snapshots', name, 'own'), contents.get(name) as Uint8Array), name)
      t.ok(isSame(join(lab.dir, '.snapshots', name, 'shared'), shared))
    }
    const bookmarks = await umbraJson<{ name: string }[]>(['bookmark', 'list', lab.dir])
    t.alike(
      bookmarks.map(({ name }) => name),
      evicted,
      'bookmarks are left',
    )
    t.exception(
      () => readSync(openFile, Buffer.alloc(10), 0, 10, MIB),
      /ESTALE|-116/,
      'a reader on the mount is told',
    )
    const { fault } = await umbraJson<Report>(['status', lab.dir])
    t.is(fault, null)
  },
)

test(
  'row 31: under protect live writes get ENOSPC, snapshots stay, and it ends without a remount',
  NEEDS,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const lab = await makeLab(t, '256M')
    await policyOf(lab.volume, '--snapshot-limit', '32M', '--when-full', 'protect')
    await lab.mount()
    const contents = await tenSnapshots(lab, random)
    const path = join(lab.dir, 'shared')
    const shared = readFileSync(path)
    const fill = (): number => {
      let at = 0
      for (let code: string | undefined; at < 32 * MIB; at += MIB) {
        code = rewrite(path, at, random.bytes(MIB))
        if (code === undefined) continue
        t.is(code, 'ENOSPC')
        break
      }
      return at
    }
    const refusedAt = fill()
    t.ok(refusedAt > 8 * MIB && refusedAt < 16 * MIB, `refused at ${refusedAt / MIB} MiB`)
    const status = await umbraJson<Report>(['status', lab.dir])
    t.is(status.fault?.kind, 'area-full')
    t.is(status.fault?.cause, 'limit')
    for (const [name, bytes] of contents) {
      t.ok(isSame(join(lab.dir, '.snapshots', name, 'own'), bytes), `${name} is whole`)
      t.ok(isSame(join(lab.dir, '.snapshots', name, 'shared'), shared))
    }
    t.absent(rewrite(path, 0, random.bytes(MIB)), 'what needs no new blocks can be written')
    writeFileSync(join(lab.dir, 'new'), random.bytes(64 * 1024))
    rmSync(join(lab.dir, 'new'))
    t.pass('nor does a new file take anything from them')

    rmdirSync(join(lab.dir, '.snapshots', 's3'))
    await until('the fault ends', async () => (await policyOf(lab.dir)).fault === null, 20_000)
    t.absent(rewrite(path, refusedAt, random.bytes(MIB)), 'deleting one makes it writable again')
    t.ok(fill() < 32 * MIB)
    const refused = await umbra(['policy', lab.dir, '--snapshot-limit', '20M'], { check: false })
    t.is(refused.code, 8, 'a limit below what is held is refused')
    t.ok(/^umbra: Snapshots hold .*"s0", "s1", "s2"\)\n$/.test(refused.stderr), refused.stderr)
    await policyOf(lab.dir, '--snapshot-limit', '64M')
    t.absent(rewrite(path, refusedAt, random.bytes(4 * MIB)), 'so does a higher limit')
    const kinds = (await policyOf(lab.dir)).events.map(({ kind }) => kind)
    t.ok(
      kinds.includes('warning') && kinds.includes('area-full') && kinds.includes('room-again'),
      kinds.join(),
    )
    t.is(readdirSync(join(lab.dir, '.snapshots')).length, 9)
    t.is((await umbraJson<{ uniqueBytes: number }[]>(['snapshot', 'list', lab.dir])).length, 9)
  },
)

test('row 30: a reader whose snapshot is evicted all the same ends with exit code 13', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '128M')
  await lab.mount()
  writeFileSync(join(lab.dir, 'f'), random.bytes(24 * MIB))
  await umbra(['snapshot', 'create', lab.dir, 'old'])
  // Its reader waits in the middle, with the pipe full.
  const args = [UMBRA, 'export', lab.dir, 'old', '--format', 'raw']
  const reader = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => reader.kill('SIGKILL'))
  await new Promise((resolve) => reader.stdout.once('readable', resolve))
  const refused = await umbra(['snapshot', 'delete', lab.dir, 'old'], { check: false })
  t.is(refused.code, 5, 'it is leased, and not deleted on request')
  writeFileSync(join(lab.dir, 'f'), random.bytes(24 * MIB))
  await umbra(['sync', lab.dir])
  const { evicted } = await policyOf(lab.dir, '--snapshot-limit', '16M')
  t.alike(evicted, ['old'])
  const ended = new Promise<number | null>((resolve) => reader.once('exit', resolve))
  const said = text(reader.stderr)
  reader.stdout.resume()
  t.is(await ended, 13)
  t.ok(/^umbra: Snapshot "old" was dropped to make room while it was read\n$/.test(await said), await said)
})

test('row 28: several snapshots deleted in one command, up to the first that cannot be', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await makeLab(t, '128M')
  await lab.mount()
  for (const name of ['a', 'b', 'c', 'd']) {
    writeFileSync(join(lab.dir, 'f'), random.bytes(2 * MIB))
    await umbra(['snapshot', 'create', lab.dir, name])
  }
  await umbra(['snapshot', 'pin', lab.dir, 'b'])
  const { freedBytes } = await umbraJson<{ freedBytes: number }>([
    'snapshot',
    'delete',
    lab.dir,
    'a',
    'b',
    'c',
    '--dry-run',
  ])
  t.ok(freedBytes >= 6 * MIB && freedBytes < 7 * MIB, `three of them would free ${freedBytes}`)
  const { code, stderr } = await umbra(['snapshot', 'delete', lab.dir, 'a', 'b', 'c'], { check: false })
  t.is(code, 5)
  t.is(stderr, 'umbra: 1 of 3 snapshots is deleted, "b" is not: Snapshot "b" is pinned\n')
  t.alike(readdirSync(join(lab.dir, '.snapshots')).sort(), ['b', 'c', 'd'])
  await umbra(['snapshot', 'unpin', lab.dir, 'b'])
  const before = await policyOf(lab.dir)
  const both = await umbraJson<{ deleted: string; freedBytes: number }[]>([
    'snapshot',
    'delete',
    lab.dir,
    'c',
    'b',
  ])
  t.alike(
    both.map(({ deleted }) => deleted),
    ['c', 'b'],
  )
  const sum = both.reduce((bytes, one) => bytes + one.freedBytes, 0)
  t.is((await policyOf(lab.dir)).usedBytes, before.usedBytes - sum, 'figures add up')
})
