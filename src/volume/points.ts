// Points in a volume's history and what lies between two of them: the vocabulary that the volume
// hands to images, the daemon and the command line.
//
// Always true: epochs only grow, and each snapshot and bookmark closes the epoch it is named by, so a
// block born in an epoch greater than a point's is not part of that point. A point's id is random and
// outlives it: a deleted snapshot that left a bookmark left it with the same id and epoch.

/** Where a tree of the block map is: everything a reader in another process needs. */
export interface TreeRoot {
  /** Block of the volume file that holds the root node; 0: the tree is empty. */
  readonly physicalBlock: number
  readonly birthEpoch: number
  readonly checksum: number
  /** Levels of the tree, 1 to 4; fixed by the volume's size. */
  readonly levels: number
}

export interface Snapshot {
  readonly kind: 'snapshot'
  /** UUID of this point. */
  readonly id: string
  readonly name: string
  readonly epoch: number
  readonly createdAtMs: number
  readonly pinned: boolean
  /** Virtual size of the volume at that time, in blocks. */
  readonly blockCount: number
  readonly root: TreeRoot
  /** Bytes of mapped data and map nodes that the snapshot refers to. */
  readonly referencedBytes: number
}

export interface Bookmark {
  readonly kind: 'bookmark'
  readonly id: string
  readonly name: string
  readonly epoch: number
  readonly createdAtMs: number
  readonly blockCount: number
}

export type Point = Snapshot | Bookmark

/** One run of a delta, in block order, never empty, neighbours of one kind merged. */
export interface DeltaExtent {
  readonly kind: 'data' | 'zero'
  readonly blockIndex: number
  readonly blockCount: number
}

export interface SnapshotSizes {
  /** Freed if this snapshot alone were deleted. */
  readonly uniqueBytes: number
  /** Referenced and also held by another snapshot or the present. */
  readonly sharedBytes: number
}

export interface SpaceReport {
  /** Bytes the present refers to. */
  readonly liveBytes: number
  /** Bytes that only snapshots hold. */
  readonly snapshotBytes: number
  /** Everything allocated in the volume file: live, snapshots, tables, fixed homes. */
  readonly allocatedBytes: number
  /** Freed by commits but not yet given back to the host, or waiting to be drained. */
  readonly pendingFreeBytes: number
  readonly virtualBytes: number
}

/** Something that happened about the room that snapshots have. */
export interface SpaceEvent {
  /** They come near their limit; one was dropped; live writes are refused for them; are no longer. */
  readonly kind: 'warning' | 'evicted' | 'area-full' | 'room-again'
  readonly atMs: number
  readonly message: string
  /** Name of the snapshot that was dropped. */
  readonly snapshot: string | null
  /** What snapshots alone held then. */
  readonly usedBytes: number
  readonly limitBytes: number | null
}

/** Why live writes are refused for the snapshots' sake. */
export interface SpaceFault {
  readonly kind: 'area-full'
  /** The policy's limit, or a host without room. */
  readonly cause: 'limit' | 'host'
  readonly sinceMs: number
  readonly message: string
}
