// Attributes and statistics as the structures of replies, written straight into a reply's bytes.
//
// Always true: every byte of the structure is written, padding included, because buffers are reused;
// offsets are those of wire-structs.ts, which a test compares both with the C header and with these.

import type { FileSystemStatistics } from '../ext4/file-system.ts'
import type { Attributes } from './attributes.ts'
import { STATX } from './protocol.ts'
import { STATX_OUT_BYTES } from './wire-structs.ts'

const WORD = 2 ** 32

/** 0 to 2^53 - 1. */
export function putU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setUint32(at + 4, (value / WORD) | 0, true)
}

/** Signed, for seconds. */
export function putI64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true)
  view.setInt32(at + 4, Math.floor(value / WORD), true)
}

/** fuse_attr: 88 bytes. */
export function putAttr(view: DataView, at: number, a: Attributes): void {
  putU64(view, at, a.ino)
  putU64(view, at + 8, a.sizeBytes)
  putU64(view, at + 16, a.sectorCount)
  putI64(view, at + 24, a.atimeSec)
  putI64(view, at + 32, a.mtimeSec)
  putI64(view, at + 40, a.ctimeSec)
  view.setUint32(at + 48, a.atimeNsec, true)
  view.setUint32(at + 52, a.mtimeNsec, true)
  view.setUint32(at + 56, a.ctimeNsec, true)
  view.setUint32(at + 60, a.mode, true)
  view.setUint32(at + 64, a.linkCount, true)
  view.setUint32(at + 68, a.uid, true)
  view.setUint32(at + 72, a.gid, true)
  view.setUint32(at + 76, a.deviceNumber, true)
  view.setUint32(at + 80, a.blockSizeBytes, true)
  view.setUint32(at + 84, 0, true)
}

/** fuse_entry_out: 128 bytes; a node id of 0 says that there is no such name. */
export function putEntry(view: DataView, at: number, a: Attributes): void {
  putU64(view, at, a.nodeId)
  putU64(view, at + 8, a.generation)
  putU64(view, at + 16, a.entryTimeoutSec)
  putU64(view, at + 24, a.attributesTimeoutSec)
  putU64(view, at + 32, 0)
  if (a.nodeId === 0) putZeros(view, at + 40, 88)
  else putAttr(view, at + 40, a)
}

/** fuse_attr_out: 104 bytes. */
export function putAttrOut(view: DataView, at: number, a: Attributes): void {
  putU64(view, at, a.attributesTimeoutSec)
  putU64(view, at + 8, 0)
  putAttr(view, at + 16, a)
}

/** fuse_statx_out: 288 bytes. */
export function putStatxOut(view: DataView, at: number, a: Attributes): void {
  putZeros(view, at, STATX_OUT_BYTES)
  putU64(view, at, a.attributesTimeoutSec)
  const stat = at + 32
  view.setUint32(stat, STATX.BASIC_STATS | STATX.BTIME, true)
  view.setUint32(stat + 4, a.blockSizeBytes, true)
  view.setUint32(stat + 16, a.linkCount, true)
  view.setUint32(stat + 20, a.uid, true)
  view.setUint32(stat + 24, a.gid, true)
  view.setUint16(stat + 28, a.mode, true)
  putU64(view, stat + 32, a.ino)
  putU64(view, stat + 40, a.sizeBytes)
  putU64(view, stat + 48, a.sectorCount)
  putStatxTime(view, stat + 64, a.atimeSec, a.atimeNsec)
  putStatxTime(view, stat + 80, a.btimeSec, a.btimeNsec)
  putStatxTime(view, stat + 96, a.ctimeSec, a.ctimeNsec)
  putStatxTime(view, stat + 112, a.mtimeSec, a.mtimeNsec)
  // new_encode_dev: minor's low byte, 12 bits of major, the rest of minor.
  view.setUint32(stat + 128, (a.deviceNumber >>> 8) & 0xfff, true)
  view.setUint32(stat + 132, (a.deviceNumber & 0xff) | ((a.deviceNumber >>> 12) & 0xfff00), true)
}

function putStatxTime(view: DataView, at: number, sec: number, nsec: number): void {
  putI64(view, at, sec)
  view.setUint32(at + 8, nsec, true)
}

/** fuse_statfs_out: 80 bytes. */
export function putStatfs(view: DataView, at: number, s: FileSystemStatistics): void {
  putU64(view, at, s.blockCount)
  putU64(view, at + 8, s.freeBlockCount)
  putU64(view, at + 16, s.availableBlockCount)
  putU64(view, at + 24, s.inodeCount)
  putU64(view, at + 32, s.freeInodeCount)
  view.setUint32(at + 40, s.blockSizeBytes, true)
  view.setUint32(at + 44, s.nameLengthMax, true)
  view.setUint32(at + 48, s.blockSizeBytes, true)
  putZeros(view, at + 52, 28)
}

/** A multiple of 4 bytes. */
export function putZeros(view: DataView, at: number, lengthBytes: number): void {
  for (let i = 0; i < lengthBytes; i += 4) view.setUint32(at + i, 0)
}
