// Fills the reply of READDIR and READDIRPLUS with as many entries as the kernel has room for.
//
// Always true: never a byte more than asked for; an entry is written whole or not at all; names are
// padded with zeros to 8 bytes. One filler serves all requests of a dispatcher, one after another: its
// callbacks are made once, so that listing allocates nothing but names.

import { posixError } from '../base/errors.ts'
import type { Attributes } from './attributes.ts'
import type { InodeOperations, ListedEntry } from './operations.ts'
import { putEntry, putU64, putZeros } from './reply-encoding.ts'
import type { ReplyBuffer } from './request-handler.ts'
import { DIRENTPLUS_NAME_OFFSET_BYTES, Dirent, ENTRY_OUT_BYTES } from './wire-structs.ts'

export class DirectoryFiller {
  #view: DataView = new DataView(new ArrayBuffer(0))
  #start = 0
  #at = 0
  #end = 0
  #refused = false

  readonly #visit = (entry: ListedEntry): boolean => this.#add(entry, this.#at, Dirent.sizeBytes)
  readonly #visitPlus = (entry: ListedEntry, attributes: Attributes): boolean => {
    const at = this.#at
    if (!this.#add(entry, at + ENTRY_OUT_BYTES, DIRENTPLUS_NAME_OFFSET_BYTES)) return false
    if (attributes.nodeId === 0) putZeros(this.#view, at, ENTRY_OUT_BYTES)
    else putEntry(this.#view, at, attributes)
    return true
  }

  /**
   * Entries of `nodeId` after `cookie` in at most `sizeBytes` of the buffer's data.
   * @returns bytes filled; 0 at the directory's end
   * @throws what the directory throws, unless entries before the failure can be answered first
   */
  fill(
    operations: InodeOperations,
    nodeId: number,
    cookie: number,
    sizeBytes: number,
    buffer: ReplyBuffer,
    isPlus: boolean,
  ): number {
    this.#view = buffer.view
    this.#start = this.#at = buffer.dataOffsetBytes
    this.#end = this.#start + Math.min(sizeBytes, buffer.bytes.byteLength - this.#start)
    this.#refused = false
    try {
      if (isPlus) operations.readdirplus(nodeId, cookie, this.#visitPlus)
      else operations.readdir(nodeId, cookie, this.#visit)
    } catch (error) {
      if (this.#at === this.#start) throw error
    }
    if (this.#refused && this.#at === this.#start) throw posixError('EINVAL', 'no room for one entry')
    return this.#at - this.#start
  }

  /** Takes back the lookups of a READDIRPLUS whose reply the kernel did not take. */
  static forgetAll(operations: InodeOperations, buffer: ReplyBuffer, lengthBytes: number): void {
    const view = buffer.view
    const end = buffer.dataOffsetBytes + lengthBytes
    let at = buffer.dataOffsetBytes
    while (at < end) {
      const nodeId = view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
      if (nodeId !== 0) operations.forget(nodeId, 1)
      const nameBytes = view.getUint32(at + ENTRY_OUT_BYTES + 16, true)
      at += padded(DIRENTPLUS_NAME_OFFSET_BYTES + nameBytes)
    }
  }

  #add(entry: ListedEntry, direntAt: number, nameOffset: number): boolean {
    const { name } = entry
    const sizeBytes = padded(nameOffset + name.length)
    if (this.#at + sizeBytes > this.#end) {
      this.#refused = true
      return false
    }
    const view = this.#view
    putU64(view, direntAt, entry.ino)
    putU64(view, direntAt + 8, entry.nextCookie)
    view.setUint32(direntAt + 16, name.length, true)
    view.setUint32(direntAt + 20, entry.type, true)
    let at = direntAt + Dirent.sizeBytes
    for (let i = 0; i < name.length; i++) view.setUint8(at++, name.charCodeAt(i))
    this.#at += sizeBytes
    while (at < this.#at) view.setUint8(at++, 0)
    return true
  }
}

function padded(sizeBytes: number): number {
  return (sizeBytes + 7) & ~7
}
