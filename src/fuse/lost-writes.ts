// Files of which collected writes were refused for lack of room: who writes on must hear of it.
//
// Under write-back the kernel takes what write(2) brings without asking, so a program that never syncs
// would write into a full volume without end. But before each write(2) it wants to know the file's mode
// and size, and asks when what it knows was declared invalid. So the first refused WRITE of its cache
// invalidates the attributes, and as long as there is no room, GETATTR by an open file is refused with
// ENOSPC, which write(2) passes on. stat(2) asks without an open file and is answered.
//
// Always true: a file is remembered only while somebody holds it open for writing and no room was seen
// since; what is remembered changes no byte, only who is told.

import { hasCode, posixError } from '../base/errors.ts'
import type { InodeOperations } from './operations.ts'
import { GETATTR_BY_HANDLE, WRITE } from './protocol.ts'
import type { ReplyPort } from './reply-port.ts'

/** Room for one WRITE of the largest size, so that the next one that is collected can succeed. */
const ROOM_BLOCKS = 256

export class LostWrites {
  readonly #nodes = new Set<number>()

  /** Notes a WRITE that failed. */
  refused(error: unknown, nodeId: number, writeFlags: number, port: ReplyPort): void {
    if ((writeFlags & WRITE.CACHE) === 0 || this.#nodes.has(nodeId)) return
    if (!hasCode(error, 'ENOSPC') && !hasCode(error, 'OUT_OF_SPACE')) return
    this.#nodes.add(nodeId)
    port.invalidateAttributes(nodeId)
  }

  /** Before GETATTR is answered. @throws ENOSPC */
  check(operations: InodeOperations, nodeId: number, getattrFlags: number): void {
    if (this.#nodes.size === 0 || (getattrFlags & GETATTR_BY_HANDLE) === 0 || !this.#nodes.has(nodeId)) return
    if (operations.isOpenForWriting(nodeId) && !hasRoom(operations, nodeId)) {
      throw posixError('ENOSPC', 'what was written to this file before found no room')
    }
    this.#nodes.delete(nodeId)
  }

  /** After a RELEASE or a FORGET. */
  closed(operations: InodeOperations, nodeId: number): void {
    if (this.#nodes.size > 0 && !operations.isOpenForWriting(nodeId)) this.#nodes.delete(nodeId)
  }
}

function hasRoom(operations: InodeOperations, nodeId: number): boolean {
  const { freeBlockCount, availableBlockCount } = operations.statfs(nodeId)
  return Math.min(freeBlockCount, availableBlockCount) >= ROOM_BLOCKS
}
