// An inode in memory: the decoded fields of its record plus what only lives while it is in use.
//
// Always true: `dirty` inodes are in the core's dirty set and are encoded into their table block
// (with checksum) before the next commit's cut; an inode that is open, dirty or orphaned is never evicted
// from the cache, and one that the kernel has looked up keeps its count there. Numbers are as on disk (ext4 "Inode Table",
// Documentation/filesystems/ext4/inodes.rst); times are split as in struct timespec.

/** Never changed in place, so several inodes and fields may share one. */
export interface Time {
  /** Seconds since 1970, -2^31 to 2^34 - 1 (ext4 with extra bits: years 1901 to 2446; clamped). */
  readonly sec: number
  /** 0 to 999,999,999. */
  readonly nsec: number
}

const EPOCH_START: Time = { sec: 0, nsec: 0 }
const NO_BYTES = new Uint8Array(0)

export const S_IFMT = 0o170000
export const S_IFSOCK = 0o140000
export const S_IFLNK = 0o120000
export const S_IFREG = 0o100000
export const S_IFBLK = 0o060000
export const S_IFDIR = 0o040000
export const S_IFCHR = 0o020000
export const S_IFIFO = 0o010000

export const ROOT_INO = 2

/** i_flags bits that matter here. */
export const INODE_FLAG = {
  SYNC: 0x8,
  IMMUTABLE: 0x10,
  APPEND: 0x20,
  NODUMP: 0x40,
  NOATIME: 0x80,
  INDEX: 0x1000,
  DIRSYNC: 0x10000,
  HUGE_FILE: 0x40000,
  EXTENTS: 0x80000,
  DAX: 0x2000000,
  PROJINHERIT: 0x20000000,
} as const

export class Inode {
  readonly ino: number
  mode = 0
  uid = 0
  gid = 0
  sizeBytes = 0
  linkCount = 0
  /** i_blocks in 512-byte units, extent-tree and xattr blocks included. */
  sectorCount = 0
  flags = 0
  generation = 0
  /** i_version, 64 bits kept as a number. */
  version = 0
  /** First block of the xattr block, 0: none. */
  xattrBlock = 0
  extraIsize = 32
  projectId = 0
  atime = EPOCH_START
  mtime = EPOCH_START
  ctime = EPOCH_START
  crtime = EPOCH_START
  /** i_dtime: 0 while in use. */
  deletedAtSec = 0
  /** i_block: extent tree root, fast symlink target or device number. */
  readonly blockArea = new Uint8Array(60)
  /** Bytes of the record after the extra fields: the in-inode xattr area. Replaced, never changed in place. */
  xattrArea: Uint8Array = NO_BYTES

  /** Needs encoding before the next commit. Set by Ext4Core.markInodeDirty only. */
  dirty = false
  /** Open handles. */
  openCount = 0
  /** The kernel's lookup count. */
  lookupCount = 0
  /** No links left but still in use: freed on disk already, its blocks held by the overlay only. */
  orphaned = false
  /** Newest transaction in which size or mapping changed: fdatasync needs a commit up to it. */
  mappingTransaction = 0
  /** Newest transaction in which anything of the record changed. */
  inodeTransaction = 0
  /** Epoch in which the record was last marked for its data (i_version went up). */
  markedEpoch = 0
  /** The extent found last, so that the next lookup near it costs nothing; count 0: none. */
  hintFileBlock = 0
  hintCount = 0
  hintDeviceBlock = 0
  hintUnwritten = false
  /** Entries that the extent tree's leaves may yet lose before fewer could hold them; 0: not known. */
  packCredit = 0

  constructor(ino: number) {
    this.ino = ino
  }

  get type(): number {
    return this.mode & S_IFMT
  }
  get isDirectory(): boolean {
    return this.type === S_IFDIR
  }
  get isRegular(): boolean {
    return this.type === S_IFREG
  }
  get isSymlink(): boolean {
    return this.type === S_IFLNK
  }
}
