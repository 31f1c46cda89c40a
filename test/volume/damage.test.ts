// Damaged volume files: bits flipped in every block that is not file data, every field of the
// superblock set to nonsense under a right checksum, files cut short. Whatever is then done with the
// volume ends in an error with a code or in the right data: never in a wrong byte, a hang, or any
// other exception. (File data has no checksum yet, so its bits are left alone here.)

import test, { type Assertion } from 'brittle'
import { CRC32C_SEED, crc32c } from '../../src/base/crc32c.ts'
import { ERROR_CODES, UmbraError } from '../../src/base/errors.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { checkVolume } from '../../src/volume/check.ts'
import type { CheckReport } from '../../src/volume/check-report.ts'
import { delta } from '../../src/volume/delta.ts'
import { BLOCKS_PER_GROUP, SUPERBLOCK_HOMES } from '../../src/volume/group-layout.ts'
import { blockChecksum } from '../../src/volume/map-node.ts'
import { SUPERBLOCK } from '../../src/volume/superblock.ts'
import { Volume } from '../../src/volume/volume.ts'
import { describeBlock, patternBlocks } from '../support/block-pattern.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { verifyDevice } from '../support/volume-history.ts'

const BLOCK = 4096
const isLong = process.env['UMBRA_LONG'] === '1'
/** brittle's own 30 s are too few on a busy machine. */
const LIMIT = { timeout: isLong ? 3_600_000 : 300_000 }

type Contents = ReadonlyMap<number, { readonly sequence: number }>

interface Sound {
  readonly storage: MemoryStorage
  readonly contents: ReadonlyMap<string, Contents>
  /** Every block of the file that holds something other than file data. */
  readonly metadataBlocks: readonly number[]
}

function record(
  contents: Map<number, { sequence: number }>,
  first: number,
  count: number,
  sequence: number,
): void {
  for (let i = 0; i < count; i++) contents.set(first + i, { sequence })
}

async function makeSound(): Promise<Sound> {
  const storage = new MemoryStorage()
  const volume = await Volume.create(storage, { sizeBytes: 70_000 * BLOCK })
  const present = new Map<number, { sequence: number }>()
  const contents = new Map<string, Map<number, { sequence: number }>>()
  const write = (first: number, count: number, sequence: number): void => {
    volume.writeData(first, count, patternBlocks(first, count, sequence), 0)
    record(present, first, count, sequence)
  }
  const snapshot = async (name: string): Promise<void> => {
    await volume.createSnapshot(name)
    contents.set(name, new Map(present))
  }
  write(0, 40, 1)
  write(69_000, 10, 2)
  volume.writeSideTable(new Uint8Array(5000).fill(7))
  await snapshot('one')
  write(10, 20, 3)
  volume.discard(69_000, 5)
  for (let i = 0; i < 5; i++) present.delete(69_000 + i)
  await snapshot('two')
  write(5, 3, 4)
  await volume.createBookmark('mark')
  write(40_000, 3, 5)
  await snapshot('three')
  write(8, 4, 6)
  await volume.close()
  contents.set('the present', present)

  const metadataBlocks: number[] = []
  const bytes = new Uint8Array(BLOCK)
  for (let block = 0; block < BLOCKS_PER_GROUP; block++) {
    storage.readSync(block * BLOCK, BLOCK, bytes, 0)
    if (describeBlock(bytes, 0).includes('garbage')) metadataBlocks.push(block)
  }
  return { storage, contents, metadataBlocks }
}

/** Notes what is neither a coded error nor an answer. */
class Outcome {
  readonly problems: string[] = []
  codes: string[] = []

  attempt<T>(what: string, call: () => T): T | undefined {
    try {
      return call()
    } catch (error) {
      this.#note(what, error)
      return undefined
    }
  }

  async attemptLater<T>(what: string, call: () => Promise<T>): Promise<T | undefined> {
    try {
      return await call()
    } catch (error) {
      this.#note(what, error)
      return undefined
    }
  }

  #note(what: string, error: unknown): void {
    if (error instanceof UmbraError && error.code in ERROR_CODES && error.message.length > 10) {
      this.codes.push(error.code)
    } else {
      this.problems.push(`${what}: ${(error as Error).stack ?? error}`)
    }
  }
}

/** Does everything with a volume that may be damaged. */
async function exercise(
  storage: MemoryStorage,
  sound: Sound,
  random: Random,
  mayLie = false,
): Promise<Outcome> {
  const outcome = new Outcome()
  const report: CheckReport | undefined = outcome.attempt('check', () => checkVolume(storage))
  if (report) outcome.codes.push(...report.errors.map((finding) => finding.code))
  const volume = await outcome.attemptLater('open', () => Volume.open(storage))
  if (!volume) return outcome
  for (const [name, contents] of sound.contents) {
    outcome.attempt(`read ${name}`, () => {
      const device = name === 'the present' ? volume : volume.openSnapshot(name)
      for (const [block, written] of contents) {
        outcome.attempt(`read ${name}`, () => {
          const found = verifyDevice(name, device, new Map([[block, written]]), new Random(0))
          if (!mayLie)
            outcome.problems.push(...found.filter((problem) => problem.includes(`block ${block}:`)))
        })
      }
    })
  }
  outcome.attempt('delta', () => {
    for (const to of volume.snapshots()) {
      for (const from of [null, ...volume.snapshots(), ...volume.bookmarks()]) {
        if (from?.kind === 'bookmark' && from.epoch > to.epoch) continue
        outcome.attempt('delta', () => {
          for (const _extent of delta(volume.nodes, from, to));
        })
      }
    }
  })
  await use(volume, outcome, random)
  return outcome
}

async function use(volume: Volume, outcome: Outcome, random: Random): Promise<void> {
  const first = random.below(100)
  outcome.attempt('write', () => volume.writeData(first, 5, patternBlocks(first, 5, 77), 0))
  outcome.attempt('discard', () => volume.discard(0, volume.blockCount))
  await outcome.attemptLater('commit', () => volume.commit())
  const names = ['one', 'two', 'three']
  for (const name of names.sort(() => random.next() - 0.5)) {
    await outcome.attemptLater('delete', () =>
      volume.deleteSnapshot(name, { keepBookmark: random.chance(0.3) }),
    )
  }
  await outcome.attemptLater('snapshot', () => volume.createSnapshot('later'))
  await outcome.attemptLater('drain', () => volume.drain())
  await outcome.attemptLater('close', () => volume.close())
}

function flipBit(storage: MemoryStorage, atByte: number, bit: number): void {
  const bytes = new Uint8Array(1)
  storage.readSync(atByte, 1, bytes, 0)
  storage.write(atByte, 1, Uint8Array.of((bytes[0] as number) ^ (1 << bit)), 0)
}

function judge(t: Assertion, what: string, outcome: Outcome): boolean {
  if (outcome.problems.length === 0) return true
  t.fail(`${what}: ${outcome.problems.slice(0, 3).join('\n')} (${outcome.problems.length} in all)`)
  return false
}

test('a sound volume is exercised without any error', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const sound = await makeSound()
  const outcome = await exercise(sound.storage.fork(), sound, random)
  t.alike(outcome.problems, [])
  t.alike(outcome.codes, [])
  t.ok(sound.metadataBlocks.length > 20, `${sound.metadataBlocks.length} blocks of metadata`)
})

test('row 32: bits flipped in metadata give coded errors or the right data', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const sound = await makeSound()
  const flipsPerBlock = isLong ? 200 : 6
  let noticed = 0
  let count = 0
  for (const block of sound.metadataBlocks) {
    for (let i = 0; i < flipsPerBlock; i++) {
      const storage = sound.storage.fork()
      // Most structures are dense near their start.
      const at = random.chance(0.5) ? random.below(64) : random.below(BLOCK)
      flipBit(storage, block * BLOCK + at, random.below(8))
      const outcome = await exercise(storage, sound, random)
      if (!judge(t, `block ${block}, byte ${at}`, outcome)) return
      if (outcome.codes.length > 0) noticed++
      count++
    }
  }
  t.ok(noticed > count / 3, `${count} flips, ${noticed} noticed (the rest hit what nothing refers to now)`)
})

test(
  'both copies of the newest superblock damaged: the slot before is opened, or a coded error',
  LIMIT,
  async (t) => {
    const random = new Random(chosenSeed(t))
    const sound = await makeSound()
    for (const homes of SUPERBLOCK_HOMES) {
      for (let i = 0; i < 40; i++) {
        const storage = sound.storage.fork()
        for (const home of homes) flipBit(storage, home * BLOCK + random.below(BLOCK), random.below(8))
        // The transaction before holds other data: contents are not compared.
        if (!judge(t, 'both copies', await exercise(storage, sound, random, true))) return
      }
    }
    t.pass()
  },
)

/** Writes `bytes` into every superblock copy at `offset` and makes their checksums right. */
function forgeSuperblocks(storage: MemoryStorage, offset: number, bytes: Uint8Array): void {
  for (const home of SUPERBLOCK_HOMES.flat()) {
    const block = new Uint8Array(BLOCK)
    storage.readSync(home * BLOCK, BLOCK, block, 0)
    block.set(bytes, offset)
    const checksum = crc32c(CRC32C_SEED, block, 0, BLOCK - 4)
    new DataView(block.buffer).setUint32(BLOCK - 4, checksum, true)
    storage.write(home * BLOCK, BLOCK, block, 0)
  }
}

test('every superblock field set to nonsense under a right checksum gives coded errors', LIMIT, async (t) => {
  const random = new Random(chosenSeed(t))
  const sound = await makeSound()
  const values = ['zeros', 'ones', 'one', 'random', 'half'] as const
  for (const [name, field] of Object.entries(SUPERBLOCK.fields)) {
    if (name === 'checksum') continue
    const sizeBytes = Math.min(field.sizeBytes, 32)
    for (const value of values) {
      const bytes = new Uint8Array(sizeBytes)
      if (value === 'ones') bytes.fill(0xff)
      if (value === 'one') bytes[0] = 1
      if (value === 'random') bytes.set(random.bytes(sizeBytes))
      if (value === 'half') bytes.fill(0xff, 0, sizeBytes >> 1)
      const storage = sound.storage.fork()
      forgeSuperblocks(storage, field.offsetBytes, bytes)
      const outcome = await exercise(storage, sound, random, true)
      if (!judge(t, `${name} = ${value}`, outcome)) return
    }
  }
  t.pass()
})

test('what is no volume, or only a part of one, is refused by name', LIMIT, async (t) => {
  const sound = await makeSound()
  const codeOfOpen = async (storage: MemoryStorage): Promise<string> => {
    const opened = await Volume.open(storage).then(
      () => 'opened',
      (error: { code?: string }) => error.code ?? String(error),
    )
    const outcome = new Outcome()
    outcome.attempt('check', () => checkVolume(storage))
    t.is(outcome.problems.length, 0)
    t.is(outcome.codes[0] ?? 'opened', opened, 'the check says the same')
    return opened
  }
  t.is(await codeOfOpen(new MemoryStorage()), 'NOT_A_VOLUME')
  t.is(await codeOfOpen(new MemoryStorage({ sizeBytes: 2 ** 30 })), 'NOT_A_VOLUME')
  t.is(await codeOfOpen(MemoryStorage.from(patternBlocks(0, 100, 1))), 'NOT_A_VOLUME')
  for (const sizeBytes of [BLOCK, 6 * BLOCK, 2 ** 20, 100 * 2 ** 20]) {
    const storage = sound.storage.fork()
    storage.truncate(sizeBytes)
    t.is(await codeOfOpen(storage), 'TRUNCATED')
  }
  const newer = sound.storage.fork()
  forgeSuperblocks(newer, SUPERBLOCK.fields.version.offsetBytes, Uint8Array.of(9))
  t.is(await codeOfOpen(newer), 'UNSUPPORTED_VERSION')
  const stranger = sound.storage.fork()
  forgeSuperblocks(stranger, SUPERBLOCK.fields.incompatibleFeatures.offsetBytes, Uint8Array.of(0x80))
  t.is(await codeOfOpen(stranger), 'UNSUPPORTED_FEATURE')
  t.is(blockChecksum(new Uint8Array(BLOCK)) === 0, false, 'a block of zeros has no checksum of zero')
})
