// The new files of a restore, made from what a backup stored: whole, as ranges over the file that is on
// disk, or as ranges that a writer directed elsewhere.
//
// Always true: holes stay holes; a file ends with the size that it had at the backup's instant; the file on
// disk is read and never written.

import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { loadAddon } from '../../../base/addon.ts'
import { UmbraError } from '../../../base/errors.ts'
import { MIB } from '../../../base/units.ts'
import { hostCall, readFully, writeFully } from '../../../image/host-file.ts'
import type { Pace } from '../../../image/pace.ts'
import type { ByteRange } from '../../documents/byte-ranges.ts'
import { bytesOf, textOf } from '../file-tree.ts'

const SEEK_DATA = 3
const SEEK_HOLE = 4
const ENXIO = 6
const piece = Buffer.allocUnsafe(MIB)

/** Bytes of one file that go into another. */
export interface RangeCopy {
  /** Byte string. */
  readonly from: string
  readonly fromBytes: number
  readonly toBytes: number
  readonly lengthBytes: number
}

/** A file to begin with. */
export interface BaseFile {
  /** Byte string. */
  readonly path: string
  /** For reading; whoever opens it closes it. */
  open(): number
}

export interface FileContent {
  /** Copied first, as far as the size goes; null: begin with nothing. */
  readonly base: BaseFile | null
  readonly copies: readonly RangeCopy[]
  /** Undefined: as large as the base and the copies make it. */
  readonly sizeBytes: number | undefined
}

/** What a stored file holds, whole. */
export function wholeContent(stored: string, sizeBytes: number): FileContent {
  return { base: { path: stored, open: () => openSync(bytesOf(stored), 'r') }, copies: [], sizeBytes }
}

/** Ranges that are stored one after another, over the file that is there. */
export function rangedContent(
  base: BaseFile | null,
  stored: string,
  ranges: readonly ByteRange[],
  sizeBytes: number,
): FileContent {
  let at = 0
  const copies = ranges.map(({ offsetBytes, lengthBytes }) => {
    const copy = { from: stored, fromBytes: at, toBytes: offsetBytes, lengthBytes }
    at += lengthBytes
    return copy
  })
  return { base, copies, sizeBytes }
}

/**
 * @param path where nothing is. @param name what people call the file
 * @throws UmbraError OUT_OF_SPACE, IO_FAILED, BAD_IMAGE when what was stored is shorter than it was, ABORTED
 */
export async function makeFile(
  path: Uint8Array,
  name: string,
  content: FileContent,
  pace: Pace,
): Promise<void> {
  const { base, copies, sizeBytes } = content
  const fd = hostCall(`Cannot make ${name}`, () => openSync(Buffer.from(path), 'wx', 0o600))
  try {
    let endBytes = 0
    if (base !== null) endBytes = await copyData(base, fd, name, sizeBytes, pace)
    for (const { from, fromBytes, toBytes, lengthBytes } of copies) {
      await copyRange(from, fromBytes, fd, name, toBytes, lengthBytes, pace)
      endBytes = Math.max(endBytes, toBytes + lengthBytes)
    }
    hostCall(`Cannot resize ${name}`, () => ftruncateSync(fd, sizeBytes ?? endBytes))
  } finally {
    closeSync(fd)
  }
}

/** Data runs alone. @returns the size of the file that was copied */
async function copyData(
  base: BaseFile,
  to: number,
  toName: string,
  limitBytes: number | undefined,
  pace: Pace,
): Promise<number> {
  const fromName = textOf(base.path).text
  const fd = hostCall(`Cannot open ${fromName}`, () => base.open())
  try {
    const { size } = fstatSync(fd)
    const endBytes = Math.min(size, limitBytes ?? size)
    for (const { offsetBytes, lengthBytes } of dataRuns(fd, endBytes)) {
      for (let done = 0; done < lengthBytes; ) {
        const want = Math.min(piece.length, lengthBytes - done)
        const got = readFully(fd, fromName, offsetBytes + done, want, piece, 0)
        if (got === 0) break
        writeFully(to, toName, offsetBytes + done, got, piece, 0)
        done += got
        if (pace.advance(got)) await pace.breathe()
      }
    }
    return size
  } finally {
    closeSync(fd)
  }
}

function* dataRuns(fd: number, endBytes: number): Generator<ByteRange> {
  const addon = loadAddon()
  for (let at = 0; at < endBytes; ) {
    const from = addon ? addon.lseek(fd, at, SEEK_DATA) : at
    if (from === -ENXIO) return
    const start = from < 0 ? at : from
    const hole = addon && from >= 0 ? addon.lseek(fd, start, SEEK_HOLE) : endBytes
    const end = Math.min(endBytes, hole <= start ? endBytes : hole)
    if (start < end) yield { offsetBytes: start, lengthBytes: end - start }
    at = Math.max(end, start)
  }
}

async function copyRange(
  from: string,
  fromBytes: number,
  to: number,
  toName: string,
  toBytes: number,
  lengthBytes: number,
  pace: Pace,
): Promise<void> {
  const fromName = textOf(from).text
  const fd = hostCall(`Cannot open ${fromName}`, () => openSync(bytesOf(from), 'r'))
  try {
    for (let done = 0; done < lengthBytes; ) {
      const want = Math.min(piece.length, lengthBytes - done)
      const got = readFully(fd, fromName, fromBytes + done, want, piece, 0)
      if (got < want)
        throw new UmbraError('BAD_IMAGE', `${fromName} ends before the ranges that it should hold`)
      writeFully(to, toName, toBytes + done, got, piece, 0)
      done += got
      if (pace.advance(got)) await pace.breathe()
    }
  } finally {
    closeSync(fd)
  }
}
