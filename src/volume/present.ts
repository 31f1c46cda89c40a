// The state being built and what works on it; made and replaced as one, so that dropping a
// transaction is making a new one from the last durable superblock.

import type { BlockStorage } from '../storage/block-storage.ts'
import type { ReadTickets } from './read-tickets.ts'
import { type LimitKeeper, Room } from './room.ts'
import { SnapshotActions } from './snapshot-actions.ts'
import type { Superblock } from './superblock.ts'
import { VolumeState } from './volume-state.ts'
import { Writer } from './writer.ts'

export class Present {
  readonly state: VolumeState
  readonly room: Room
  readonly writer: Writer
  readonly actions: SnapshotActions

  /** @throws UmbraError CHECKSUM_MISMATCH, CORRUPT, IO_FAILED */
  constructor(
    storage: BlockStorage,
    superblock: Superblock,
    reads: ReadTickets,
    cacheBytes: number,
    noteWrite: () => void,
    keeper: LimitKeeper,
  ) {
    this.state = new VolumeState(storage, superblock, reads, cacheBytes)
    this.room = new Room(this.state, keeper)
    this.writer = new Writer(this.state, this.room, noteWrite)
    this.actions = new SnapshotActions(this.state, this.room)
  }
}
