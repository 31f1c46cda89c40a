// copy_file_range within one file system: read and write in chunks through one scratch buffer.
//
// Always true: one request copies at most COPY_MAX_BYTES, so other requests wait no longer than for a
// few large writes; callers loop, as copy_file_range(2) may return short. The kernel holds the
// target's inode lock and has written back both ranges, and refuses overlapping ones.

import type { FileSystem } from '../ext4/file-system.ts'
import type { Inode } from '../ext4/inode.ts'

const COPY_MAX_BYTES = 4 * 1024 * 1024
const CHUNK_BYTES = 1024 * 1024

/** Scratch for copies that are answered at once; one that waits takes it along and leaves a new one. */
let scratch: Uint8Array | undefined

/** @returns bytes copied: fewer than asked at the source's end, or after COPY_MAX_BYTES */
export function copyRange(
  fileSystem: FileSystem,
  source: Inode,
  sourceOffset: number,
  target: Inode,
  targetOffset: number,
  lengthBytes: number,
  keepTimes: boolean,
): number | Promise<number> {
  const limit = Math.min(lengthBytes, COPY_MAX_BYTES, Math.max(0, source.sizeBytes - sourceOffset))
  const chunk = scratch ?? new Uint8Array(CHUNK_BYTES)
  scratch = undefined
  let copied = 0
  const write = (count: number): boolean => {
    if (count === 0) return false
    const written = fileSystem.write(target, targetOffset + copied, count, chunk, 0, keepTimes)
    copied += written
    return written === count && copied < limit
  }
  const read = () =>
    fileSystem.read(source, sourceOffset + copied, Math.min(CHUNK_BYTES, limit - copied), chunk, 0)
  const finish = async (pending: Promise<number>): Promise<number> => {
    // A concurrent close must not free either file meanwhile.
    fileSystem.open(source)
    fileSystem.open(target)
    try {
      if (write(await pending)) while (write(await read())) {}
      return copied
    } catch (error) {
      if (copied > 0) return copied
      throw error
    } finally {
      fileSystem.close(source)
      fileSystem.close(target)
      scratch = chunk
    }
  }
  try {
    while (copied < limit) {
      const count = read()
      if (typeof count !== 'number') return finish(count)
      if (!write(count)) break
    }
  } catch (error) {
    if (copied === 0) throw error
  }
  scratch = chunk
  return copied
}
