// File data: reading, writing, truncating, allocating and punching, seeking, making durable.
//
// Always true: data reach the device before the extent that maps them is inserted, so no block is
// ever mapped with foreign content; on failure what was allocated for them is given back. Bytes past
// the end of a file in its last block are zeros on disk; no written extent lies beyond the end.
// Every change is complete when it returns; times are the caller's except in write().

import { hasCode, posixError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { MappedRun } from './extent-tree.ts'
import { FALLOC, type FileSystemStatistics } from './file-system.ts'
import { EXTENT_LENGTH_MAX, FILE_BLOCKS_MAX, UNWRITTEN_LENGTH_MAX } from './format.ts'
import type { Inode } from './inode.ts'
import type { Ext4Structure } from './structure.ts'

/** Size of the largest file. */
export const FILE_SIZE_MAX_BYTES = FILE_BLOCKS_MAX * BLOCK_SIZE_BYTES
export const SEEK_DATA = 3
export const SEEK_HOLE = 4

const SECTORS_PER_BLOCK = BLOCK_SIZE_BYTES / 512
/** Metadata blocks that one run of a write may dirty: a split of every level and what it hangs on. */
const RUN_DIRTY_BLOCKS = 12
const NAME_LENGTH_MAX = 255

export class FileData {
  readonly #core: Ext4Structure
  readonly #device: BlockDevice
  readonly #run: MappedRun = { fileBlock: 0, blockCount: 0, deviceBlock: 0, unwritten: false }
  readonly #scratch = new Uint8Array(BLOCK_SIZE_BYTES)
  /** Empty between reads: one that waits takes it along. */
  #waiting: Promise<void>[] = []

  constructor(core: Ext4Structure) {
    this.#core = core
    this.#device = core.device
  }

  // -- reading

  /** As FileSystem.read. */
  read(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): number | Promise<number> {
    const total = Math.min(lengthBytes, inode.sizeBytes - offsetBytes)
    if (total <= 0) return 0
    const waiting = this.#waiting
    try {
      this.#startReads(inode, offsetBytes, total, target, targetOffset, waiting)
    } catch (error) {
      if (waiting.length === 0) throw error
      waiting.push(Promise.reject(error))
    }
    if (waiting.length === 0) return total
    this.#waiting = []
    return settle(waiting, total)
  }

  /** Answers what it can at once; the rest is under way in `waiting`, also when it throws. */
  #startReads(
    inode: Inode,
    offsetBytes: number,
    total: number,
    target: Uint8Array,
    targetOffset: number,
    waiting: Promise<void>[],
  ): void {
    const run = this.#run
    let done = 0
    while (done < total) {
      const at = offsetBytes + done
      const block = Math.floor(at / BLOCK_SIZE_BYTES)
      const within = at - block * BLOCK_SIZE_BYTES
      this.#core.extents.lookup(inode, block, run)
      const count = Math.min(total - done, run.blockCount * BLOCK_SIZE_BYTES - within)
      const place = targetOffset + done
      if (run.deviceBlock === 0 || run.unwritten) {
        target.fill(0, place, place + count)
      } else {
        const from = run.deviceBlock * BLOCK_SIZE_BYTES + within
        // Once one run has to wait, the rest is asked for at the same time: the device keeps what is
        // mapped now until it has answered.
        if (waiting.length > 0 || !this.#device.tryRead(from, count, target, place))
          waiting.push(this.#device.read(from, count, target, place))
      }
      done += count
    }
  }

  // -- writing

  /** As FileSystem.write. */
  write(
    inode: Inode,
    offsetBytes: number,
    lengthBytes: number,
    source: Uint8Array,
    sourceOffset: number,
    keepTimes: boolean,
  ): number {
    if (lengthBytes === 0) return 0
    if (offsetBytes + lengthBytes > FILE_SIZE_MAX_BYTES)
      throw posixError('EFBIG', `A file has at most ${FILE_SIZE_MAX_BYTES} bytes`)
    let done = 0
    try {
      if (offsetBytes > inode.sizeBytes) this.#zeroTail(inode, inode.sizeBytes)
      while (done < lengthBytes) {
        this.#core.begin(RUN_DIRTY_BLOCKS)
        done += this.#writeRun(inode, offsetBytes + done, lengthBytes - done, source, sourceOffset + done)
        // A failure in a later run must find the size that the runs before it need.
        this.#growTo(inode, offsetBytes + done)
      }
    } catch (error) {
      const isFull = hasCode(error, 'OUT_OF_SPACE') || hasCode(error, 'ENOSPC')
      if (done === 0 || !isFull) throw error
    } finally {
      if (done > 0) this.#wrote(inode, keepTimes)
    }
    return done
  }

  #growTo(inode: Inode, sizeBytes: number): void {
    if (sizeBytes <= inode.sizeBytes) return
    inode.sizeBytes = sizeBytes
    this.#mappingChanged(inode)
  }

  #mappingChanged(inode: Inode): void {
    inode.mappingTransaction = this.#device.transaction
    this.#core.markInodeDirty(inode)
  }

  #wrote(inode: Inode, keepTimes: boolean): void {
    if (!keepTimes) {
      const now = this.#core.now()
      inode.mtime = now
      inode.ctime = { sec: now.sec, nsec: now.nsec }
      this.#core.markInodeDirty(inode)
    }
    this.#markEpoch(inode)
  }

  /** The first change of data in an epoch puts the inode's record into the epoch's delta. */
  #markEpoch(inode: Inode): void {
    if (inode.markedEpoch === this.#device.epoch) return
    inode.markedEpoch = this.#device.epoch
    inode.version++
    this.#core.markInodeDirty(inode)
  }

  /** Writes up to the end of one run, mapped or hole. @returns the bytes written */
  #writeRun(inode: Inode, at: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): number {
    const run = this.#run
    const fileBlock = Math.floor(at / BLOCK_SIZE_BYTES)
    const within = at - fileBlock * BLOCK_SIZE_BYTES
    this.#core.extents.lookup(inode, fileBlock, run)
    let blocks = Math.min(Math.ceil((within + lengthBytes) / BLOCK_SIZE_BYTES), run.blockCount)
    const { deviceBlock, unwritten } = run
    if (deviceBlock === 0) return this.#writeHole(inode, at, lengthBytes, blocks, source, sourceOffset)
    blocks = Math.min(blocks, EXTENT_LENGTH_MAX)
    const bytes = Math.min(lengthBytes, blocks * BLOCK_SIZE_BYTES - within)
    if (!unwritten) {
      const valid = inode.sizeBytes - fileBlock * BLOCK_SIZE_BYTES
      const changed = this.#writeBlocks(deviceBlock, within, bytes, valid, source, sourceOffset)
      if (changed) inode.mappingTransaction = this.#device.transaction
      return bytes
    }
    this.#needRoom(inode, fileBlock, 2, 0)
    this.#writeBlocks(deviceBlock, within, bytes, 0, source, sourceOffset)
    this.#core.extents.setWritten(inode, fileBlock, fileBlock + blocks)
    this.#mappingChanged(inode)
    return bytes
  }

  #writeHole(
    inode: Inode,
    at: number,
    lengthBytes: number,
    blocksWanted: number,
    source: Uint8Array,
    sourceOffset: number,
  ): number {
    const { extents, allocator } = this.#core
    const fileBlock = Math.floor(at / BLOCK_SIZE_BYTES)
    const within = at - fileBlock * BLOCK_SIZE_BYTES
    const spare = this.#needRoom(inode, fileBlock, 1, 1)
    const start = allocator.allocate(
      extents.goal(inode, fileBlock),
      Math.min(blocksWanted, EXTENT_LENGTH_MAX, spare),
      inode.orphaned,
    )
    const blocks = allocator.runLength
    const bytes = Math.min(lengthBytes, blocks * BLOCK_SIZE_BYTES - within)
    try {
      this.#writeBlocks(start, within, bytes, 0, source, sourceOffset)
      extents.insert(inode, fileBlock, blocks, start, false)
    } catch (error) {
      allocator.free(start, blocks, inode.orphaned, false)
      throw error
    }
    inode.sectorCount += blocks * SECTORS_PER_BLOCK
    this.#mappingChanged(inode)
    return bytes
  }

  /**
   * Makes sure that `insertions` extents and `dataBlocks` blocks of data fit.
   * @returns how many blocks are left for data @throws ENOSPC
   */
  #needRoom(inode: Inode, fileBlock: number, insertions: number, dataBlocks: number): number {
    const needed = this.#core.extents.blocksNeeded(inode, fileBlock, insertions)
    const spare = this.#core.allocator.freeCount - needed
    if (spare < dataBlocks) throw posixError('ENOSPC', 'No free blocks in the file system')
    return spare
  }

  /**
   * Writes bytes from `within` of block `start` on, completing the first and last block.
   * @param validBytes how many bytes from the start of block `start` on are the file's: the rest of a
   *   block that is completed is zeros
   * @returns whether the device's mapping changed
   */
  #writeBlocks(
    start: number,
    within: number,
    lengthBytes: number,
    validBytes: number,
    source: Uint8Array,
    sourceOffset: number,
  ): boolean {
    let changed = false
    let block = start
    let done = 0
    if (within > 0 || lengthBytes < BLOCK_SIZE_BYTES) {
      done = Math.min(lengthBytes, BLOCK_SIZE_BYTES - within)
      changed = this.#writePart(block, within, done, validBytes, source, sourceOffset)
      block++
    }
    const whole = Math.floor((lengthBytes - done) / BLOCK_SIZE_BYTES)
    if (whole > 0) {
      changed = this.#device.writeData(block, whole, source, sourceOffset + done) || changed
      done += whole * BLOCK_SIZE_BYTES
      block += whole
    }
    if (done < lengthBytes) {
      const valid = validBytes - (block - start) * BLOCK_SIZE_BYTES
      changed = this.#writePart(block, 0, lengthBytes - done, valid, source, sourceOffset + done) || changed
    }
    return changed
  }

  #writePart(
    block: number,
    within: number,
    lengthBytes: number,
    validBytes: number,
    source: Uint8Array,
    sourceOffset: number,
  ): boolean {
    const scratch = this.#scratch
    if (validBytes > 0) {
      this.#device.readSync(block * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, scratch, 0)
      if (validBytes < BLOCK_SIZE_BYTES) scratch.fill(0, validBytes)
    } else scratch.fill(0)
    scratch.set(source.subarray(sourceOffset, sourceOffset + lengthBytes), within)
    return this.#device.writeData(block, 1, scratch, 0)
  }

  // -- zeroing parts of blocks

  /** Makes the bytes from `sizeBytes` to the end of its block zero, where they are not already. */
  #zeroTail(inode: Inode, sizeBytes: number): void {
    const within = sizeBytes % BLOCK_SIZE_BYTES
    if (within === 0) return
    this.#zeroPart(inode, Math.floor(sizeBytes / BLOCK_SIZE_BYTES), within, BLOCK_SIZE_BYTES)
  }

  #zeroPart(inode: Inode, fileBlock: number, from: number, to: number): void {
    this.#core.extents.lookup(inode, fileBlock, this.#run)
    const { deviceBlock, unwritten } = this.#run
    if (deviceBlock === 0 || unwritten) return
    const scratch = this.#scratch
    this.#device.readSync(deviceBlock * BLOCK_SIZE_BYTES, BLOCK_SIZE_BYTES, scratch, 0)
    let at = from
    while (at < to && scratch[at] === 0) at++
    if (at === to) return
    this.#core.begin(RUN_DIRTY_BLOCKS)
    scratch.fill(0, from, to)
    if (this.#device.writeData(deviceBlock, 1, scratch, 0))
      inode.mappingTransaction = this.#device.transaction
    this.#markEpoch(inode)
  }

  // -- size

  /** Sets the size; what is cut off is freed, what is added reads as zeros. @throws EFBIG ENOSPC */
  truncate(inode: Inode, sizeBytes: number): void {
    if (sizeBytes > FILE_SIZE_MAX_BYTES)
      throw posixError('EFBIG', `A file has at most ${FILE_SIZE_MAX_BYTES} bytes`)
    if (sizeBytes > inode.sizeBytes) {
      this.#core.begin(RUN_DIRTY_BLOCKS)
      this.#zeroTail(inode, inode.sizeBytes)
      this.#growTo(inode, sizeBytes)
      this.#markEpoch(inode)
      return
    }
    const firstBlock = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES)
    this.#core.begin(this.#core.releaseCost(inode), true)
    this.#zeroTail(inode, sizeBytes)
    inode.sizeBytes = sizeBytes
    this.#core.releaseBlocks(inode, firstBlock)
    this.#mappingChanged(inode)
    this.#markEpoch(inode)
  }

  // -- fallocate

  /** As FileSystem.allocate. @throws EINVAL EFBIG ENOSPC EOPNOTSUPP */
  allocate(inode: Inode, mode: number, offsetBytes: number, lengthBytes: number, keepTimes = false): void {
    if (offsetBytes < 0 || lengthBytes <= 0) throw posixError('EINVAL', 'Nothing to allocate')
    const known = FALLOC.KEEP_SIZE | FALLOC.PUNCH_HOLE | FALLOC.ZERO_RANGE
    const punch = (mode & FALLOC.PUNCH_HOLE) !== 0
    const zero = (mode & FALLOC.ZERO_RANGE) !== 0
    const keepSize = (mode & FALLOC.KEEP_SIZE) !== 0
    if (mode & ~known || (punch && (zero || !keepSize)) || !inode.isRegular)
      throw posixError('EOPNOTSUPP', `fallocate mode 0x${mode.toString(16)} is not served`)
    const end = offsetBytes + lengthBytes
    if (end > FILE_SIZE_MAX_BYTES)
      throw posixError('EFBIG', `A file has at most ${FILE_SIZE_MAX_BYTES} bytes`)
    const freeing = punch || zero ? this.#core.releaseCost(inode) : 0
    this.#core.begin(RUN_DIRTY_BLOCKS + freeing, punch)
    if (punch) this.#punch(inode, offsetBytes, end)
    else this.#allocateRange(inode, offsetBytes, end, zero)
    if (!keepSize && end > inode.sizeBytes) {
      this.#zeroTail(inode, inode.sizeBytes)
      this.#growTo(inode, end)
    }
    // Linux changes both, whatever the mode.
    if (!keepTimes) inode.mtime = inode.ctime = this.#core.now()
    this.#core.markInodeDirty(inode)
    this.#markEpoch(inode)
  }

  #allocateRange(inode: Inode, offsetBytes: number, end: number, zero: boolean): void {
    const first = Math.floor(offsetBytes / BLOCK_SIZE_BYTES)
    const last = Math.ceil(end / BLOCK_SIZE_BYTES)
    this.#checkHoles(inode, first, last)
    if (zero) this.#punch(inode, offsetBytes, end)
    const { extents, allocator } = this.#core
    const run = this.#run
    for (let at = first; at < last; ) {
      extents.lookup(inode, at, run)
      const count = Math.min(run.blockCount, last - at)
      if (run.deviceBlock !== 0) {
        at += count
        continue
      }
      this.#core.begin(RUN_DIRTY_BLOCKS)
      const spare = this.#needRoom(inode, at, 1, 1)
      const wanted = Math.min(count, UNWRITTEN_LENGTH_MAX, spare)
      const start = allocator.allocate(extents.goal(inode, at), wanted, inode.orphaned)
      const blocks = allocator.runLength
      extents.insert(inode, at, blocks, start, true)
      inode.sectorCount += blocks * SECTORS_PER_BLOCK
      this.#mappingChanged(inode)
      at += blocks
    }
  }

  /** @throws ENOSPC when the holes of the range cannot all be filled */
  #checkHoles(inode: Inode, first: number, last: number): void {
    const run = this.#run
    let holes = 0
    for (let at = first; at < last; ) {
      this.#core.extents.lookup(inode, at, run)
      const count = Math.min(run.blockCount, last - at)
      if (run.deviceBlock === 0) holes += count
      at += count
    }
    const tree = this.#core.extents.blocksNeeded(inode, first, 2)
    if (holes + tree > this.#core.allocator.freeCount)
      throw posixError('ENOSPC', 'No free blocks in the file system')
  }

  /** Makes a range read as zeros: whole blocks are freed, parts of blocks are zeroed. */
  #punch(inode: Inode, offsetBytes: number, end: number): void {
    const first = Math.ceil(offsetBytes / BLOCK_SIZE_BYTES)
    const last = Math.floor(end / BLOCK_SIZE_BYTES)
    const headEnd = Math.min(end, first * BLOCK_SIZE_BYTES)
    if (offsetBytes < headEnd) this.#zeroWithin(inode, offsetBytes, headEnd)
    if (last >= first && last * BLOCK_SIZE_BYTES < end) this.#zeroWithin(inode, last * BLOCK_SIZE_BYTES, end)
    if (first >= last) return
    this.#needRoom(inode, first, 1, 0)
    this.#core.extents.remove(inode, first, last, (block, count) => {
      inode.sectorCount -= count * SECTORS_PER_BLOCK
      this.#core.allocator.free(block, count, inode.orphaned, false)
    })
    this.#mappingChanged(inode)
  }

  /** Zeroes a range that lies within one block. */
  #zeroWithin(inode: Inode, from: number, to: number): void {
    const fileBlock = Math.floor(from / BLOCK_SIZE_BYTES)
    const base = fileBlock * BLOCK_SIZE_BYTES
    this.#zeroPart(inode, fileBlock, from - base, to - base)
  }

  // -- seeking

  /** As FileSystem.seek: SEEK_DATA or SEEK_HOLE. @throws ENXIO EINVAL */
  seek(inode: Inode, offsetBytes: number, whence: number): number {
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw posixError('EINVAL', `whence ${whence}`)
    if (offsetBytes < 0 || offsetBytes >= inode.sizeBytes) throw posixError('ENXIO', 'Past the end')
    const endBlock = Math.ceil(inode.sizeBytes / BLOCK_SIZE_BYTES)
    const run = this.#run
    for (let at = Math.floor(offsetBytes / BLOCK_SIZE_BYTES); at < endBlock; ) {
      this.#core.extents.lookup(inode, at, run)
      const isData = run.deviceBlock !== 0 && !run.unwritten
      if (isData === (whence === SEEK_DATA)) return Math.max(offsetBytes, at * BLOCK_SIZE_BYTES)
      at += run.blockCount
    }
    if (whence === SEEK_DATA) throw posixError('ENXIO', 'No data from there on')
    return inode.sizeBytes
  }

  // -- the whole

  /** As FileSystem.statistics: what orphans hold is not free. */
  statistics(): FileSystemStatistics {
    const { geometry, allocator, inodeAllocator } = this.#core
    const free = allocator.freeCount
    return {
      blockSizeBytes: BLOCK_SIZE_BYTES,
      blockCount: geometry.blockCount,
      freeBlockCount: free,
      availableBlockCount: Math.max(0, free - geometry.reservedBlockCount),
      inodeCount: geometry.inodeCount,
      freeInodeCount: inodeAllocator.freeCount,
      nameLengthMax: NAME_LENGTH_MAX,
    }
  }

  /** As FileSystem.sync: a commit where the mapping or (unless dataOnly) the record changed, else a flush. */
  sync(inode: Inode, dataOnly: boolean): Promise<void> {
    // A directory's entries are its data, and they change without its mapping.
    const needed =
      dataOnly && !inode.isDirectory
        ? inode.mappingTransaction
        : Math.max(inode.mappingTransaction, inode.inodeTransaction)
    return needed > this.#device.durableTransaction ? this.#device.commit() : this.#device.flush()
  }
}

/** All reads write into one buffer: none may still do so when the caller hears of a failure. */
async function settle(reads: Promise<void>[], total: number): Promise<number> {
  const results = await Promise.allSettled(reads)
  for (const result of results) if (result.status === 'rejected') throw result.reason
  return total
}
