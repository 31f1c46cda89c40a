// Where the bytes of saved files go: numbered files in the backup's folder, digested while they are
// written.
//
// Always true: a whole file is stored with its size and its holes, so cp --sparse and sha256sum do; of a partial
// file its ranges lie one after another; what a failed component stored is removed again; finish() makes
// all of it durable.

import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, ftruncateSync, mkdirSync, openSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { loadAddon } from '../../base/addon.ts'
import { MIB } from '../../base/units.ts'
import { hostCall, writeFully } from '../../image/host-file.ts'
import type { Pace } from '../../image/pace.ts'
import type { ByteRange } from '../documents/byte-ranges.ts'
import type { BackupFolder } from '../repository/backup-folder.ts'
import type { StoredFile } from '../repository/manifest.ts'
import type { FileReader } from './file-tree.ts'

const PIECE_BYTES = MIB
const ZEROS = Buffer.alloc(PIECE_BYTES)
const PER_FOLDER = 1000

export interface Stored {
  readonly stored: StoredFile
  /** Bytes read and written. */
  readonly dataBytes: number
}

export class FileStore {
  readonly #folder: BackupFolder
  readonly #pace: Pace
  readonly #piece = Buffer.allocUnsafe(PIECE_BYTES)
  #nextNumber = 0
  #sizeBytes = 0

  constructor(folder: BackupFolder, pace: Pace) {
    this.#folder = folder
    this.#pace = pace
  }

  /** Number of the next file: give it to removeSince() to take back what was stored meanwhile. */
  get mark(): number {
    return this.#nextNumber
  }

  /** Stores a whole file, holes as holes. @throws UmbraError, with nothing left of this file */
  whole(reader: FileReader, sizeBytes: number): Promise<Stored> {
    return this.#store(async (fd, path, hash) => {
      let end = 0
      let dataBytes = 0
      for (const run of reader.dataRuns()) {
        this.#hashZeros(hash, run.offsetBytes - end)
        const got = await this.#copy(reader, run, fd, path, run.offsetBytes, hash)
        end = run.offsetBytes + got
        dataBytes += got
        if (got < run.lengthBytes) return { sizeBytes: end, dataBytes }
      }
      // A live file may have grown since it was looked at; a hole at its end stays one.
      const storedBytes = Math.max(end, sizeBytes)
      this.#hashZeros(hash, storedBytes - end)
      return { sizeBytes: storedBytes, dataBytes }
    })
  }

  /** Stores ranges one after another, holes as holes; they lie within the file. */
  ranges(reader: FileReader, ranges: readonly ByteRange[]): Promise<Stored> {
    return this.#store(async (fd, path, hash) => {
      const runs = [...reader.dataRuns()]
      let at = 0
      let dataBytes = 0
      for (const range of ranges) {
        let end = 0
        for (const run of runsWithin(runs, range)) {
          const skip = run.offsetBytes - range.offsetBytes
          this.#hashZeros(hash, skip - end)
          const got = await this.#copy(reader, run, fd, path, at + skip, hash)
          end = skip + got
          dataBytes += got
        }
        // A hole, or a live file that was cut meanwhile: what is not there reads as zeros.
        this.#hashZeros(hash, range.lengthBytes - end)
        at += range.lengthBytes
      }
      return { sizeBytes: at, dataBytes }
    })
  }

  /** Removes what was stored since `mark` was taken. */
  removeSince(mark: number): void {
    for (let number = mark; number < this.#nextNumber; number++)
      rmSync(this.#folder.path(fileName(number)), { force: true })
  }

  /** Makes everything stored durable. */
  finish(): void {
    if (this.#sizeBytes === 0 && this.#nextNumber === 0) return
    const addon = loadAddon()
    if (addon && addon.syncfs(this.#folder.folder) === 0) return
    for (let number = 0; number < this.#nextNumber; number++) syncFile(this.#folder.path(fileName(number)))
  }

  async #store(
    fill: (
      fd: number,
      path: string,
      hash: ReturnType<typeof createHash>,
    ) => Promise<{ sizeBytes: number; dataBytes: number }>,
  ): Promise<Stored> {
    const file = fileName(this.#nextNumber)
    const path = this.#folder.path(file)
    if (this.#nextNumber % PER_FOLDER === 0)
      hostCall(`Cannot make ${dirname(path)}`, () =>
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 }),
      )
    this.#nextNumber++
    const fd = hostCall(`Cannot create ${path}`, () => openSync(path, 'wx', 0o600))
    try {
      const hash = createHash('sha256')
      const { sizeBytes, dataBytes } = await fill(fd, path, hash)
      hostCall(`Cannot resize ${path}`, () => ftruncateSync(fd, sizeBytes))
      this.#sizeBytes += sizeBytes
      return { stored: { file, sizeBytes, sha256: hash.digest('hex') }, dataBytes }
    } finally {
      closeSync(fd)
    }
  }

  async #copy(
    reader: FileReader,
    range: ByteRange,
    fd: number,
    path: string,
    targetBytes: number,
    hash: ReturnType<typeof createHash>,
  ): Promise<number> {
    let done = 0
    while (done < range.lengthBytes) {
      const want = Math.min(PIECE_BYTES, range.lengthBytes - done)
      const got = await reader.read(range.offsetBytes + done, want, this.#piece, 0)
      if (got === 0) break
      hash.update(this.#piece.subarray(0, got))
      writeFully(fd, path, targetBytes + done, got, this.#piece, 0)
      done += got
      if (this.#pace.advance(got)) await this.#pace.breathe()
    }
    return done
  }

  #hashZeros(hash: ReturnType<typeof createHash>, lengthBytes: number): void {
    for (let left = lengthBytes; left > 0; left -= PIECE_BYTES)
      hash.update(left >= PIECE_BYTES ? ZEROS : ZEROS.subarray(0, left))
  }
}

/** The parts of a range that hold data. @param runs rising, apart from each other */
function* runsWithin(runs: readonly ByteRange[], range: ByteRange): Generator<ByteRange> {
  const endBytes = range.offsetBytes + range.lengthBytes
  for (let i = firstReaching(runs, range.offsetBytes); i < runs.length; i++) {
    const run = runs[i] as ByteRange
    if (run.offsetBytes >= endBytes) return
    const offsetBytes = Math.max(run.offsetBytes, range.offsetBytes)
    yield { offsetBytes, lengthBytes: Math.min(run.offsetBytes + run.lengthBytes, endBytes) - offsetBytes }
  }
}

/** Index of the first run that ends after a position. */
function firstReaching(runs: readonly ByteRange[], positionBytes: number): number {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >> 1
    const run = runs[middle] as ByteRange
    if (run.offsetBytes + run.lengthBytes > positionBytes) high = middle
    else low = middle + 1
  }
  return low
}

function fileName(number: number): string {
  const text = String(number).padStart(9, '0')
  return `files/${text.slice(0, 6)}/${text}`
}

function syncFile(path: string): void {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch {
    // Removed with its component.
    return
  }
  try {
    hostCall(`Cannot flush ${path}`, () => fsyncSync(fd))
  } finally {
    closeSync(fd)
  }
}
