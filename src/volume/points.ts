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

/** What makes a snapshot a shadow copy of the shadow copy service. */
export interface ShadowProperties {
  /** UUID of the shadow set. */
  readonly setId: string
  /** Volumes that were in the set when it was made, 1 to 65535; stays when members are deleted. */
  readonly setCount: number
  /** Bits of {@link SHADOW_ATTRIBUTES}, as VSS numbers them. */
  readonly attributes: number
}

/** VSS's volume snapshot attributes (VSS_VOLUME_SNAPSHOT_ATTRIBUTES); the volume acts on NO_AUTO_RELEASE only. */
export const SHADOW_ATTRIBUTES = {
  PERSISTENT: 0x1,
  NO_AUTORECOVERY: 0x2,
  CLIENT_ACCESSIBLE: 0x4,
  NO_AUTO_RELEASE: 0x8,
  NO_WRITERS: 0x10,
  TRANSPORTABLE: 0x20,
  NOT_SURFACED: 0x40,
  NOT_TRANSACTED: 0x80,
  HARDWARE_ASSISTED: 0x10000,
  DIFFERENTIAL: 0x20000,
  PLEX: 0x40000,
  IMPORTED: 0x80000,
  EXPOSED_LOCALLY: 0x100000,
  EXPOSED_REMOTELY: 0x200000,
  AUTORECOVER: 0x400000,
  ROLLBACK_RECOVERY: 0x800000,
  DELAYED_POSTSNAPSHOT: 0x1000000,
  TXF_RECOVERY: 0x2000000,
  FILE_SHARE: 0x4000000,
} as const

/** Where the list is of the blocks that an auto-recovery window changed; see window-list.ts. */
export interface WindowRuns {
  /** A small object in the volume file: any NodeReader reads it. */
  readonly root: TreeRoot
  readonly runCount: number
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
  /** Bytes of mapped data and map nodes that it keeps, what its auto-recovery window replaced included. */
  readonly referencedBytes: number
  /** Null: a plain snapshot. */
  readonly shadow: ShadowProperties | null
}

export interface Bookmark {
  readonly kind: 'bookmark'
  readonly id: string
  readonly name: string
  readonly epoch: number
  readonly createdAtMs: number
  readonly blockCount: number
  /** What the snapshot it was differed in from the volume's own history; null: in nothing. */
  readonly window: WindowRuns | null
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
