// Inode records: 256 bytes on disk to Inode and back, with both halves of the checksum.
//
// Always true: encoding writes every field of the record that ext4 defines for 32 extra bytes and
// keeps those it does not know of (read into the block before); times are clamped to 1901-2446.
// Source: Documentation/filesystems/ext4/inodes.rst.

import { crc32c } from '../base/crc32c.ts'
import { UmbraError } from '../base/errors.ts'
import { read16, read32, write16, write32 } from './bytes.ts'
import { INODE, INODE_BASE_SIZE_BYTES } from './format.ts'
import { INODE_FLAG, type Inode, type Time } from './inode.ts'

const SEC_MIN = -(2 ** 31)
const SEC_MAX = 2 ** 34 - 2 ** 31 - 1
/** What records without attributes share: see Inode.xattrArea. */
let emptyArea = new Uint8Array(0)

/** Of a record whose checksum fields are zero. */
function checksumOfCleared(seed: number, b: Uint8Array, at: number, sizeBytes: number): number {
  const crc = crc32c(seed, b, at, sizeBytes)
  return hasHighChecksum(b, at) ? crc : crc & 0xffff
}

function hasHighChecksum(b: Uint8Array, at: number): boolean {
  return read16(b, at + INODE.EXTRA_ISIZE) >= 4
}

function storedChecksum(b: Uint8Array, at: number): number {
  const high = hasHighChecksum(b, at) ? read16(b, at + INODE.CHECKSUM_HIGH) : 0
  return high * 0x10000 + read16(b, at + INODE.CHECKSUM)
}

function writeChecksum(b: Uint8Array, at: number, crc: number): void {
  write16(b, at + INODE.CHECKSUM, crc)
  if (hasHighChecksum(b, at)) write16(b, at + INODE.CHECKSUM_HIGH, crc >>> 16)
}

/** In one call, because a call costs more than the bytes: the fields are zero meanwhile. */
function storeChecksum(seed: number, b: Uint8Array, at: number, sizeBytes: number): number {
  writeChecksum(b, at, 0)
  const crc = checksumOfCleared(seed, b, at, sizeBytes)
  writeChecksum(b, at, crc)
  return crc
}

/** @returns the checksum that the record should have; the record is as before */
function recordChecksum(seed: number, b: Uint8Array, at: number, sizeBytes: number): number {
  const stored = storedChecksum(b, at)
  const computed = storeChecksum(seed, b, at, sizeBytes)
  if (computed !== stored) writeChecksum(b, at, stored)
  return computed
}

/** Seconds from the signed low word and the two epoch bits. */
function decodeTime(b: Uint8Array, at: number, extraAt: number, hasExtra: boolean): Time {
  const low = read32(b, at) | 0
  if (!hasExtra) return { sec: low, nsec: 0 }
  const extra = read32(b, extraAt)
  return { sec: low + (extra & 3) * 2 ** 32, nsec: Math.min(extra >>> 2, 999_999_999) }
}

function encodeTime(b: Uint8Array, at: number, extraAt: number, time: Time): void {
  const sec = Math.min(Math.max(Math.floor(time.sec), SEC_MIN), SEC_MAX)
  const epoch = Math.floor((sec + 2 ** 31) / 2 ** 32)
  write32(b, at, (sec - epoch * 2 ** 32) | 0)
  write32(b, extraAt, ((time.nsec << 2) | epoch) >>> 0)
}

/** Without extra words there are the years 1901 to 2038. */
function narrowSeconds({ sec }: Time): number {
  return Math.min(Math.max(sec, SEC_MIN), 0x7fffffff)
}

/** What the record says of the number's last use, for choosing another generation. */
export function recordGeneration(b: Uint8Array, at: number): number {
  return read32(b, at + INODE.GENERATION)
}

/**
 * Fills `inode` from a record.
 * @param seed gives the inode's checksum seed for a generation
 * @throws UmbraError CHECKSUM_MISMATCH, CORRUPT
 */
export function decodeInode(
  inode: Inode,
  b: Uint8Array,
  at: number,
  sizeBytes: number,
  seed: (generation: number) => number,
): void {
  inode.generation = read32(b, at + INODE.GENERATION)
  const computed = recordChecksum(seed(inode.generation), b, at, sizeBytes)
  const stored = storedChecksum(b, at)
  if (computed !== stored) {
    throw new UmbraError(
      'CHECKSUM_MISMATCH',
      `Cannot read inode ${inode.ino}: checksum is 0x${computed.toString(16)} but 0x${stored.toString(16)} was stored`,
    )
  }
  decodeInodeFields(inode, b, at, sizeBytes)
}

/** Like decodeInode() for a record without a checksum, of any size from 128 bytes on. @throws UmbraError CORRUPT */
export function decodeInodeFields(inode: Inode, b: Uint8Array, at: number, sizeBytes: number): void {
  inode.generation = read32(b, at + INODE.GENERATION)
  const extra = sizeBytes > INODE_BASE_SIZE_BYTES ? read16(b, at + INODE.EXTRA_ISIZE) : 0
  if (extra > sizeBytes - INODE_BASE_SIZE_BYTES || extra % 4 !== 0)
    throw new UmbraError('CORRUPT', `Inode ${inode.ino} has ${extra} extra bytes`)
  inode.mode = read16(b, at + INODE.MODE)
  inode.uid = read16(b, at + INODE.UID) + read16(b, at + INODE.UID_HIGH) * 0x10000
  inode.gid = read16(b, at + INODE.GID) + read16(b, at + INODE.GID_HIGH) * 0x10000
  const sizeHigh = read32(b, at + INODE.SIZE_HIGH)
  if (sizeHigh > 0xfff) throw new UmbraError('CORRUPT', `Inode ${inode.ino} is larger than a file can be`)
  inode.sizeBytes = read32(b, at + INODE.SIZE) + sizeHigh * 2 ** 32
  inode.linkCount = read16(b, at + INODE.LINKS)
  inode.flags = read32(b, at + INODE.FLAGS)
  const blocks = read32(b, at + INODE.BLOCKS) + read16(b, at + INODE.BLOCKS_HIGH) * 2 ** 32
  inode.sectorCount = inode.flags & INODE_FLAG.HUGE_FILE ? blocks * 8 : blocks
  inode.flags = (inode.flags & ~INODE_FLAG.HUGE_FILE) >>> 0
  inode.xattrBlock = read32(b, at + INODE.FILE_ACL) + read16(b, at + INODE.FILE_ACL_HIGH) * 2 ** 32
  inode.deletedAtSec = read32(b, at + INODE.DTIME)
  inode.blockArea.set(b.subarray(at + INODE.BLOCK, at + INODE.BLOCK + 60))
  inode.atime = decodeTime(b, at + INODE.ATIME, at + INODE.ATIME_EXTRA, extra >= 16)
  inode.ctime = decodeTime(b, at + INODE.CTIME, at + INODE.CTIME_EXTRA, extra >= 8)
  inode.mtime = decodeTime(b, at + INODE.MTIME, at + INODE.MTIME_EXTRA, extra >= 12)
  inode.crtime =
    extra >= 24 ? decodeTime(b, at + INODE.CRTIME, at + INODE.CRTIME_EXTRA, true) : { sec: 0, nsec: 0 }
  inode.version =
    read32(b, at + INODE.VERSION) +
    (extra >= 28 ? (read32(b, at + INODE.VERSION_HIGH) & 0x1fffff) * 2 ** 32 : 0)
  inode.projectId = extra >= 32 ? read32(b, at + INODE.PROJECT_ID) : 0
  inode.extraIsize = extra
  inode.xattrArea = decodeXattrArea(b, at + INODE_BASE_SIZE_BYTES + extra, at + sizeBytes)
}

/** A copy, or the one that all share who have none: the larger part of a million inodes in memory. */
function decodeXattrArea(b: Uint8Array, from: number, end: number): Uint8Array {
  for (let at = from; at < end; at++) if (b[at] !== 0) return b.slice(from, end)
  if (emptyArea.length !== end - from) emptyArea = new Uint8Array(end - from)
  return emptyArea
}

export function encodeInode(inode: Inode, b: Uint8Array, at: number, sizeBytes: number, seed: number): void {
  const extra = inode.extraIsize
  write16(b, at + INODE.MODE, inode.mode)
  write16(b, at + INODE.UID, inode.uid)
  write16(b, at + INODE.UID_HIGH, inode.uid >>> 16)
  write16(b, at + INODE.GID, inode.gid)
  write16(b, at + INODE.GID_HIGH, inode.gid >>> 16)
  write32(b, at + INODE.SIZE, inode.sizeBytes % 2 ** 32)
  write32(b, at + INODE.SIZE_HIGH, Math.floor(inode.sizeBytes / 2 ** 32))
  write16(b, at + INODE.LINKS, inode.linkCount)
  write32(b, at + INODE.FLAGS, inode.flags)
  write32(b, at + INODE.BLOCKS, inode.sectorCount % 2 ** 32)
  write16(b, at + INODE.BLOCKS_HIGH, Math.floor(inode.sectorCount / 2 ** 32))
  write32(b, at + INODE.FILE_ACL, inode.xattrBlock % 2 ** 32)
  write16(b, at + INODE.FILE_ACL_HIGH, Math.floor(inode.xattrBlock / 2 ** 32))
  write32(b, at + INODE.DTIME, inode.deletedAtSec)
  write32(b, at + INODE.GENERATION, inode.generation)
  write32(b, at + INODE.VERSION, inode.version % 2 ** 32)
  b.set(inode.blockArea, at + INODE.BLOCK)
  write16(b, at + INODE.EXTRA_ISIZE, extra)
  // Records with fewer extra bytes (old imports) have their times' extra words where xattrs begin.
  if (extra >= 16) {
    encodeTime(b, at + INODE.ATIME, at + INODE.ATIME_EXTRA, inode.atime)
    encodeTime(b, at + INODE.CTIME, at + INODE.CTIME_EXTRA, inode.ctime)
    encodeTime(b, at + INODE.MTIME, at + INODE.MTIME_EXTRA, inode.mtime)
  } else {
    write32(b, at + INODE.ATIME, narrowSeconds(inode.atime))
    write32(b, at + INODE.CTIME, narrowSeconds(inode.ctime))
    write32(b, at + INODE.MTIME, narrowSeconds(inode.mtime))
  }
  if (extra >= 24) encodeTime(b, at + INODE.CRTIME, at + INODE.CRTIME_EXTRA, inode.crtime)
  if (extra >= 28) write32(b, at + INODE.VERSION_HIGH, Math.floor(inode.version / 2 ** 32))
  if (extra >= 32) write32(b, at + INODE.PROJECT_ID, inode.projectId)
  const xattrAt = at + INODE_BASE_SIZE_BYTES + extra
  b.fill(0, xattrAt, at + sizeBytes)
  b.set(inode.xattrArea.subarray(0, at + sizeBytes - xattrAt), xattrAt)
  storeChecksum(seed, b, at, sizeBytes)
}

/** A free inode's record: only its last generation and when it was deleted. */
export function encodeFreeInode(
  b: Uint8Array,
  at: number,
  sizeBytes: number,
  generation: number,
  deletedAtSec: number,
  seed: number,
): void {
  b.fill(0, at, at + sizeBytes)
  write32(b, at + INODE.DTIME, deletedAtSec)
  write32(b, at + INODE.GENERATION, generation)
  write16(b, at + INODE.EXTRA_ISIZE, 32)
  storeChecksum(seed, b, at, sizeBytes)
}
