// The numbers of the kernel's FUSE protocol, 7.31 to 7.45 (include/uapi/linux/fuse.h).
//
// Always true: names are the header's without their FUSE_ prefix; a test compiles a C program
// against <linux/fuse.h> and compares every number that the machine's header knows. Flags of INIT are
// 64 bits in the protocol and two words here, because a double's bit operations end at 32.

export const KERNEL_VERSION = 7
/** The newest minor version whose rules this code follows. */
export const KERNEL_MINOR_VERSION = 45
/** Kernels before this one (Linux 5.4) are refused: they lack what INIT below relies on. */
export const KERNEL_MINOR_VERSION_MIN = 31

/** Node id of the root; ext4's root inode is 2. */
export const ROOT_NODE_ID = 1

export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const

/** One more than the largest opcode that has a handler. */
export const OPCODE_COUNT = 54

/** Bits 0 to 31 of INIT's flags. */
export const INIT_LOW = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  FLOCK_LOCKS: 1 << 10,
  HAS_IOCTL_DIR: 1 << 11,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  HANDLE_KILLPRIV: 1 << 19,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const

/** Bits 32 to 63 of INIT's flags, shifted down by 32: the word flags2. */
export const INIT_HIGH = {
  SECURITY_CTX: 1 << 0,
  CREATE_SUPP_GROUP: 1 << 2,
  HAS_EXPIRE_ONLY: 1 << 3,
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
  PASSTHROUGH: 1 << 5,
  NO_EXPORT_SUPPORT: 1 << 6,
  HAS_RESEND: 1 << 7,
  ALLOW_IDMAP: 1 << 8,
  OVER_IO_URING: 1 << 9,
  REQUEST_TIMEOUT: 1 << 10,
} as const

/** Codes of notifications: the `error` of a message whose unique is 0. */
export const NOTIFY = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
} as const

/** setattr_in.valid */
export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const

/** open_out.open_flags */
export const FOPEN = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
} as const

/** getattr_in.getattr_flags */
export const GETATTR_BY_HANDLE = 1 << 0

/** open_in.open_flags and create_in.open_flags */
export const OPEN_KILL_SUIDGID = 1 << 0

/** write_in.write_flags */
export const WRITE = { CACHE: 1 << 0, LOCKOWNER: 1 << 1, KILL_SUIDGID: 1 << 2 } as const

/** fsync_in.fsync_flags */
export const FSYNC_FDATASYNC = 1 << 0

/** setxattr_in.setxattr_flags */
export const SETXATTR_ACL_KILL_SGID = 1 << 0

/** ioctl_in.flags */
export const IOCTL_DIR = 1 << 4

/** Flags of open(2) as Linux numbers them (asm-generic). */
export const O = {
  ACCMODE: 3,
  WRONLY: 1,
  RDWR: 2,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NOATIME: 0o1000000,
} as const

/** Bits of statx's mask (linux/stat.h). */
export const STATX = { BASIC_STATS: 0x7ff, BTIME: 0x800 } as const

export const LIMIT = {
  /** One WRITE's or READ's payload. */
  MAX_WRITE_BYTES: 1024 * 1024,
  MAX_PAGES: 256,
  MAX_BACKGROUND: 64,
  CONGESTION_THRESHOLD: 48,
  NAME_BYTES: 255,
  /** PATH_MAX less its NUL. */
  SYMLINK_BYTES: 4095,
  /** XATTR_SIZE_MAX */
  XATTR_VALUE_BYTES: 65536,
  XATTR_NAME_BYTES: 255,
  /** Errors that a reply may carry are -1 to -511. */
  ERRNO: 511,
} as const

/** "Forever", as a timeout in seconds: nobody but this kernel changes the file system. */
export const FOREVER_SEC = 2 ** 31
