// Where a requester reads files from: a shadow copy through our own ext4, or the live system.
//
// Always true: paths are byte strings (one char a byte, as in src/ext4), absolute in the tree; symbolic
// links are never followed; nothing is changed, access times of a shadow copy neither.

import type { ByteRange } from '../documents/byte-ranges.ts'

export type NodeKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'device'

export interface FileNode {
  readonly kind: NodeKind
  /** With the type's bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Nanoseconds since 1970, decimal. */
  readonly mtimeNs: string
  /** The later of modification and change, in milliseconds. */
  readonly changedAtMs: number
  readonly sizeBytes: number
  readonly linkCount: number
  /** The same for all names of one inode, within one tree. */
  readonly ino: number
  /** Tells users of one inode number apart; null: not known. */
  readonly generation: number | null
  /** Kernel encoding (new_encode_dev). */
  readonly rdev: number
}

/** An open regular file. */
export interface FileReader {
  /** Parts that may hold something other than zeros, rising. */
  dataRuns(): Iterable<ByteRange>
  /** @returns bytes read: fewer than asked only at the end of the file */
  read(offsetBytes: number, lengthBytes: number, target: Buffer, targetOffset: number): Promise<number>
  close(): void
}

export interface FileTree {
  /** Tells trees apart in keys of inodes. */
  readonly name: string
  /** Undefined: there is no such file. */
  find(path: string): FileNode | undefined
  /** Names in a directory, without `.` and `..`, sorted. */
  list(path: string): string[]
  linkTarget(path: string): Uint8Array
  /** Values in base64; undefined: none. */
  xattrs(path: string): Record<string, string> | undefined
  open(path: string): FileReader
}

/** A path or name as bytes, from text. */
export function byteString(text: string): string {
  return Buffer.from(text).toString('latin1')
}

export function bytesOf(byteText: string): Buffer {
  return Buffer.from(byteText, 'latin1')
}

/** As text, with what is not UTF-8 replaced, and as base64 where that lost something. */
export function textOf(byteText: string): { readonly text: string; readonly base64: string | undefined } {
  const bytes = bytesOf(byteText)
  const text = bytes.toString('utf8')
  return { text, base64: Buffer.from(text).equals(bytes) ? undefined : bytes.toString('base64') }
}

export function joinPath(folder: string, name: string): string {
  return folder === '/' ? `/${name}` : `${folder}/${name}`
}
