// What cannot be on an Umbra mount as on the kernel's ext4, because the kernel's FUSE client answers by
// itself or passes nothing on. docs/DRIVERS.md says the same to users.

import type { Difference } from './conformance.ts'

const LIMIT = 'the kernel collects the write without asking; the refusal comes with fsync or close'

export const DEVICE_DIFFERENCES: readonly Difference[] = [
  {
    rule: 'times: reading what is cached moves atime once it is older than mtime (relatime)',
    reason: 'the kernel answers from its cache, and tells nobody that something was read',
  },
  {
    rule: 'times: truncate to the same size moves mtime and ctime of the file',
    reason: 'under write-back the kernel owns the times of files and moves them where the size changes',
  },
  {
    rule: 'utimens: at the ends of the range and past them: mtime of a file',
    reason:
      'under write-back the kernel owns the times of files and shows what it was told; what was kept is seen at the next mount',
  },
  {
    rule: 'flags: a change moves ctime of a file',
    reason:
      'under write-back the kernel owns the times of files; what an ioctl moved is seen at the next mount',
  },
  { rule: 'EFBIG: a buffered write past 16 TiB is refused at once', reason: LIMIT },
  { rule: 'EFBIG: a write that begins below 16 TiB is cut there', reason: LIMIT },
  {
    rule: 'fallocate: COLLAPSE_RANGE and INSERT_RANGE',
    reason: 'the kernel’s FUSE client refuses these modes',
  },
  {
    rule: 'O_DIRECT: what is not aligned: EINVAL',
    reason: 'direct reads and writes of any place and length are served',
  },
  {
    rule: 'statx: attributes say what is immutable and append-only',
    reason: 'the kernel’s FUSE client passes no attribute flags on; ioctl(FS_IOC_GETFLAGS) tells them',
  },
  { rule: 'FS_IOC_GETFSUUID: the UUID is told', reason: 'the kernel answers this without asking' },
  { rule: 'FIFREEZE and FITHAW: root freezes and thaws', reason: 'the kernel refuses without asking' },
  { rule: 'FIEMAP: extents of a file are told', reason: 'the kernel does not pass it on; SEEK_DATA works' },
]
