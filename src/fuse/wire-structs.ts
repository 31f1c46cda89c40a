// The structures of requests and replies, field by field, as include/uapi/linux/fuse.h lays them out.
//
// Always true: all words are little endian here (the protocol has the host's order, and every host
// that Node.js serves with /dev/fuse is little endian; the device driver refuses others). A test
// compares sizes and offsets with offsetof() of the machine's own header. Hot paths do not decode by
// these tables: they read single words at the offsets which the tables state.

import { i32le, struct, u16le, u32le, u64le, word64le, zeros } from '../base/struct.ts'

export const InHeader = struct('fuse_in_header', 40, {
  len: u32le(0),
  opcode: u32le(4),
  unique: word64le(8),
  nodeid: u64le(16),
  uid: u32le(24),
  gid: u32le(28),
  pid: u32le(32),
  /** Length of extensions at the request's end, in units of 8 bytes. */
  total_extlen: u16le(36),
  padding: zeros(38, 2),
})

export const OutHeader = struct('fuse_out_header', 16, {
  len: u32le(0),
  /** 0 or a negated errno. */
  error: i32le(4),
  unique: word64le(8),
})

export const Attr = struct('fuse_attr', 88, {
  ino: u64le(0),
  size: u64le(8),
  blocks: u64le(16),
  atime: word64le(24),
  mtime: word64le(32),
  ctime: word64le(40),
  atimensec: u32le(48),
  mtimensec: u32le(52),
  ctimensec: u32le(56),
  mode: u32le(60),
  nlink: u32le(64),
  uid: u32le(68),
  gid: u32le(72),
  rdev: u32le(76),
  blksize: u32le(80),
  flags: u32le(84),
})

/** Followed by an Attr at 40: 128 bytes in all. */
export const EntryOut = struct('fuse_entry_out', 40, {
  nodeid: u64le(0),
  generation: u64le(8),
  entry_valid: u64le(16),
  attr_valid: u64le(24),
  entry_valid_nsec: u32le(32),
  attr_valid_nsec: u32le(36),
})
export const ENTRY_OUT_BYTES = 128

/** Followed by an Attr at 16: 104 bytes in all. */
export const AttrOut = struct('fuse_attr_out', 16, {
  attr_valid: u64le(0),
  attr_valid_nsec: u32le(8),
  dummy: zeros(12, 4),
})
export const ATTR_OUT_BYTES = 104

export const ForgetIn = struct('fuse_forget_in', 8, { nlookup: u64le(0) })
export const BatchForgetIn = struct('fuse_batch_forget_in', 8, { count: u32le(0), dummy: zeros(4, 4) })
export const ForgetOne = struct('fuse_forget_one', 16, { nodeid: u64le(0), nlookup: u64le(8) })

export const GetattrIn = struct('fuse_getattr_in', 16, {
  getattr_flags: u32le(0),
  dummy: zeros(4, 4),
  fh: u64le(8),
})

export const StatxIn = struct('fuse_statx_in', 24, {
  getattr_flags: u32le(0),
  reserved: zeros(4, 4),
  fh: u64le(8),
  sx_flags: u32le(16),
  sx_mask: u32le(20),
})

/** Followed by a Statx at 32: 288 bytes in all. */
export const StatxOut = struct('fuse_statx_out', 32, {
  attr_valid: u64le(0),
  attr_valid_nsec: u32le(8),
  flags: u32le(12),
  spare: zeros(16, 16),
})
export const STATX_OUT_BYTES = 288

/** As struct statx of linux/stat.h; each time is {i64 seconds, u32 nanoseconds, u32 zero}. */
export const Statx = struct('fuse_statx', 256, {
  mask: u32le(0),
  blksize: u32le(4),
  attributes: u64le(8),
  nlink: u32le(16),
  uid: u32le(20),
  gid: u32le(24),
  mode: u16le(28),
  spare0: zeros(30, 2),
  ino: u64le(32),
  size: u64le(40),
  blocks: u64le(48),
  attributes_mask: u64le(56),
  atime: word64le(64),
  atime_nsec: u32le(72),
  atime_pad: zeros(76, 4),
  btime: word64le(80),
  btime_nsec: u32le(88),
  btime_pad: zeros(92, 4),
  ctime: word64le(96),
  ctime_nsec: u32le(104),
  ctime_pad: zeros(108, 4),
  mtime: word64le(112),
  mtime_nsec: u32le(120),
  mtime_pad: zeros(124, 4),
  rdev_major: u32le(128),
  rdev_minor: u32le(132),
  dev_major: u32le(136),
  dev_minor: u32le(140),
  spare2: zeros(144, 112),
})

export const SetattrIn = struct('fuse_setattr_in', 88, {
  valid: u32le(0),
  padding: zeros(4, 4),
  fh: u64le(8),
  size: u64le(16),
  lock_owner: word64le(24),
  atime: word64le(32),
  mtime: word64le(40),
  ctime: word64le(48),
  atimensec: u32le(56),
  mtimensec: u32le(60),
  ctimensec: u32le(64),
  mode: u32le(68),
  unused4: zeros(72, 4),
  uid: u32le(76),
  gid: u32le(80),
  unused5: zeros(84, 4),
})

export const MknodIn = struct('fuse_mknod_in', 16, {
  mode: u32le(0),
  rdev: u32le(4),
  umask: u32le(8),
  padding: zeros(12, 4),
})
export const MkdirIn = struct('fuse_mkdir_in', 8, { mode: u32le(0), umask: u32le(4) })
export const RenameIn = struct('fuse_rename_in', 8, { newdir: u64le(0) })
export const Rename2In = struct('fuse_rename2_in', 16, {
  newdir: u64le(0),
  flags: u32le(8),
  padding: zeros(12, 4),
})
export const LinkIn = struct('fuse_link_in', 8, { oldnodeid: u64le(0) })

export const OpenIn = struct('fuse_open_in', 8, { flags: u32le(0), open_flags: u32le(4) })
/** CREATE and TMPFILE. */
export const CreateIn = struct('fuse_create_in', 16, {
  flags: u32le(0),
  mode: u32le(4),
  umask: u32le(8),
  open_flags: u32le(12),
})
export const OpenOut = struct('fuse_open_out', 16, {
  fh: u64le(0),
  open_flags: u32le(8),
  padding: zeros(12, 4),
})
export const ReleaseIn = struct('fuse_release_in', 24, {
  fh: u64le(0),
  flags: u32le(8),
  release_flags: u32le(12),
  lock_owner: word64le(16),
})
export const FlushIn = struct('fuse_flush_in', 24, {
  fh: u64le(0),
  unused: zeros(8, 4),
  padding: zeros(12, 4),
  lock_owner: word64le(16),
})

/** READ, READDIR and READDIRPLUS. */
export const ReadIn = struct('fuse_read_in', 40, {
  fh: u64le(0),
  offset: u64le(8),
  size: u32le(16),
  read_flags: u32le(20),
  lock_owner: word64le(24),
  flags: u32le(32),
  padding: zeros(36, 4),
})
export const WriteIn = struct('fuse_write_in', 40, {
  fh: u64le(0),
  offset: u64le(8),
  size: u32le(16),
  write_flags: u32le(20),
  lock_owner: word64le(24),
  flags: u32le(32),
  padding: zeros(36, 4),
})
export const WriteOut = struct('fuse_write_out', 8, { size: u32le(0), padding: zeros(4, 4) })

export const StatfsOut = struct('fuse_statfs_out', 80, {
  blocks: u64le(0),
  bfree: u64le(8),
  bavail: u64le(16),
  files: u64le(24),
  ffree: u64le(32),
  bsize: u32le(40),
  namelen: u32le(44),
  frsize: u32le(48),
  padding: zeros(52, 4),
  spare: zeros(56, 24),
})

/** FSYNC and FSYNCDIR. */
export const FsyncIn = struct('fuse_fsync_in', 16, {
  fh: u64le(0),
  fsync_flags: u32le(8),
  padding: zeros(12, 4),
})

/** Its first 8 bytes only where SETXATTR_EXT was not negotiated. */
export const SetxattrIn = struct('fuse_setxattr_in', 16, {
  size: u32le(0),
  flags: u32le(4),
  setxattr_flags: u32le(8),
  padding: zeros(12, 4),
})
export const SETXATTR_IN_SHORT_BYTES = 8
/** GETXATTR and LISTXATTR. */
export const GetxattrIn = struct('fuse_getxattr_in', 8, { size: u32le(0), padding: zeros(4, 4) })
export const GetxattrOut = struct('fuse_getxattr_out', 8, { size: u32le(0), padding: zeros(4, 4) })

export const AccessIn = struct('fuse_access_in', 8, { mask: u32le(0), padding: zeros(4, 4) })

/** 7.36 and later; 16 bytes before. */
export const InitIn = struct('fuse_init_in', 64, {
  major: u32le(0),
  minor: u32le(4),
  max_readahead: u32le(8),
  flags: u32le(12),
  flags2: u32le(16),
  unused: zeros(20, 44),
})
export const INIT_IN_SHORT_BYTES = 16
export const InitOut = struct('fuse_init_out', 64, {
  major: u32le(0),
  minor: u32le(4),
  max_readahead: u32le(8),
  flags: u32le(12),
  max_background: u16le(16),
  congestion_threshold: u16le(18),
  max_write: u32le(20),
  time_gran: u32le(24),
  max_pages: u16le(28),
  map_alignment: u16le(30),
  flags2: u32le(32),
  /** max_stack_depth, request_timeout and spare words of later versions: none is used. */
  unused: zeros(36, 28),
})

export const InterruptIn = struct('fuse_interrupt_in', 8, { unique: word64le(0) })

export const IoctlIn = struct('fuse_ioctl_in', 32, {
  fh: u64le(0),
  flags: u32le(8),
  cmd: u32le(12),
  arg: word64le(16),
  in_size: u32le(24),
  out_size: u32le(28),
})
export const IoctlOut = struct('fuse_ioctl_out', 16, {
  result: i32le(0),
  flags: u32le(4),
  in_iovs: u32le(8),
  out_iovs: u32le(12),
})

export const FallocateIn = struct('fuse_fallocate_in', 32, {
  fh: u64le(0),
  offset: u64le(8),
  length: u64le(16),
  mode: u32le(24),
  padding: zeros(28, 4),
})

/** Followed by the name, padded with zeros to a multiple of 8. */
export const Dirent = struct('fuse_dirent', 24, {
  ino: u64le(0),
  off: u64le(8),
  namelen: u32le(16),
  type: u32le(20),
})
/** An EntryOut with its Attr, then a Dirent. */
export const DIRENTPLUS_NAME_OFFSET_BYTES = ENTRY_OUT_BYTES + Dirent.sizeBytes

export const LseekIn = struct('fuse_lseek_in', 24, {
  fh: u64le(0),
  offset: u64le(8),
  whence: u32le(16),
  padding: zeros(20, 4),
})
export const LseekOut = struct('fuse_lseek_out', 8, { offset: u64le(0) })

export const CopyFileRangeIn = struct('fuse_copy_file_range_in', 56, {
  fh_in: u64le(0),
  off_in: u64le(8),
  nodeid_out: u64le(16),
  fh_out: u64le(24),
  off_out: u64le(32),
  len: word64le(40),
  flags: word64le(48),
})
/** Of COPY_FILE_RANGE_64; COPY_FILE_RANGE answers with a WriteOut. */
export const CopyFileRangeOut = struct('fuse_copy_file_range_out', 8, { bytes_copied: u64le(0) })

export const SyncfsIn = struct('fuse_syncfs_in', 8, { padding: zeros(0, 8) })

export const NotifyInvalInodeOut = struct('fuse_notify_inval_inode_out', 24, {
  ino: u64le(0),
  off: word64le(8),
  len: word64le(16),
})
export const NotifyInvalEntryOut = struct('fuse_notify_inval_entry_out', 16, {
  parent: u64le(0),
  namelen: u32le(8),
  flags: u32le(12),
})
