// The POSIX rules that do not hold on a mount of the `fuse-native` driver, by what is missing below it.
// docs/DRIVERS.md says the same to users.
//
// Always true: a name with `*` in it stands for every rule of that beginning and end, and all of them fail.

import type { Difference } from './conformance.ts'
import { DEVICE_DIFFERENCES } from './device-differences.ts'

function because(reason: string, ...rules: string[]): Difference[] {
  return rules.map((rule) => ({ rule, reason }))
}

/** These hold for `fuse-native`, which keeps no attributes in the kernel. */
const HELD = [
  'times: truncate to the same size',
  'times: reading what is cached',
  'utimens: at the ends',
  'EFBIG: a buffered write',
  'EFBIG: a write that begins',
]

export const FUSE_NATIVE_DIFFERENCES: readonly Difference[] = [
  ...DEVICE_DIFFERENCES.filter(
    ({ rule }) => !rule.startsWith('flags: ') && !HELD.some((held) => rule.startsWith(held)),
  ),
  ...because(
    'fuse-native has no ioctl',
    'flags: *',
    'generations: a number used again has another',
    'generations: told by both numbers as an int, and not changed under checksums',
    'FS_IOC_GETFSLABEL: the label is told',
    'FS_IOC_SETFSLABEL: root sets up to 16 bytes of any kind',
    'times: reading a file or a folder with the flag A leaves atime',
    'FITRIM: *',
  ),
  ...because(
    'libfuse 2.9 has no flags of rename',
    'rename: RENAME_EXCHANGE *',
    'rename: RENAME_NOREPLACE to a new name',
    'rename: RENAME_WHITEOUT leaves a character device 0,0',
    'times: exchange moves mtime and ctime of the folder',
  ),
  ...because(
    'fuse-native does not say who asks: what is made belongs to the user who mounted',
    'sticky: replace by rename: *',
    'sticky: exchange: *',
    'protected_regular and protected_fifos: *',
    'setgid folders: what is made there *',
    'xattr: trusted attributes are not listed to others',
  ),
  ...because(
    'fuse-native has no fallocate',
    'fallocate: makes longer*',
    'fallocate: KEEP_SIZE*',
    'fallocate: PUNCH_HOLE*',
    'fallocate: ZERO_RANGE*',
    'fallocate: what is refused',
    'fallocate: of what was unlinked*',
    'suid: fallocate by an ordinary user*',
    "suid: root's writing leaves them",
    'times: a hole punched*',
    'times: fallocate that makes it longer*',
    'unlink: of an open file frees its space at the last close',
    'EFBIG: writes past 16 TiB are refused*',
  ),
  ...because(
    'libfuse 2.9 has no lseek: all up to the size is data',
    'seek: data*',
    'seek: ENXIO*',
    'seek: what*',
  ),
  ...because(
    'libfuse 2.9 has no lseek: all up to the size is data',
    'mmap: of a hole: written pages become data',
    'truncate: to 16 TiB less a block*',
  ),
  ...because(
    'fuse-native has milliseconds, from 1970 on, and sets both times or none',
    'utimens: nanoseconds of both times',
    'utimens: from 1901 to 2446',
    'utimens: at the ends of the range*',
    'utimens: UTIME_OMIT*',
    'utimens: on a descriptor*',
    'times: set after writing*',
    'symlink: owner and times are its own',
  ),
  ...because(
    'libfuse 2.9 has no statx',
    'times: a new file has one time: now',
    'times: the time of birth stays',
    'statx: says the same as stat, and the birth time',
  ),
  ...because(
    'fuse-native does not say how a folder was opened',
    'times: O_NOATIME, and reading what is younger, leave atime',
  ),
  ...because('libfuse 2.9 has no O_TMPFILE', 'O_TMPFILE: *'),
  ...because(
    'libfuse 2.9 cannot ask the kernel for ACLs, nor leave the umask to us',
    'acl: named users*',
    'acl: of a folder decides*',
    'acl: default: inherited*',
    "acl: default: one like a mode takes the umask's place",
    'acl: S_ISGID falls*',
  ),
  ...because(
    'fuse-native decodes names as UTF-8',
    'paths: a name may have every byte*',
    'xattr: names of any bytes',
    'symlink: a target of any bytes',
  ),
  ...because(
    'libfuse 2 reaches files by path, and a removed folder has none',
    'paths: link to: ENOENT in a folder that was removed',
    'paths: rename to: ENOENT in a folder that was removed',
    'rename: a replaced folder in which a process stands takes no new names',
    'rmdir: a folder in which a process stands*',
  ),
  ...['handles: what was read and dropped is found again', 'handles: a folder that was dropped *'].map(
    (rule) => ({
      rule,
      reason: 'libfuse 2 knows files by path: what the kernel has dropped has no number to be found by',
      luck: true,
    }),
  ),
  {
    rule: '8 processes rename over one name: it is always there, and whole',
    reason: 'replacing an open file is two steps of libfuse’s',
    luck: true,
  },
]

/** The same for users who mount by themselves; some rules are theirs alone. */
export const FUSE_NATIVE_USER_DIFFERENCES: readonly Difference[] = [
  ...FUSE_NATIVE_DIFFERENCES,
  ...because('libfuse 2.9 has no flags of rename', 'rename: RENAME_WHITEOUT needs no privilege'),
]
