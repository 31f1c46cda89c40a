# The ioctls of files that the rules use: flags of chattr(1), generation, trimming, and the like.

import fcntl
import os
import struct

GETFLAGS, SETFLAGS, GETVERSION = 0x80086601, 0x40086602, 0x80087601
FSGETXATTR, FSSETXATTR, FITRIM = 0x801C581F, 0x401C5820, 0xC0185879
SYNC, IMMUTABLE, APPEND, NODUMP, NOATIME = 0x8, 0x10, 0x20, 0x40, 0x80
DIRSYNC, TOPDIR, EXTENTS, INDEX, INLINE = 0x10000, 0x20000, 0x80000, 0x1000, 0x10000000


def ioctl_on(path, number, argument):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return fcntl.ioctl(fd, number, argument)
    finally:
        os.close(fd)


def get_flags(path):
    return struct.unpack('<I', ioctl_on(path, GETFLAGS, bytes(8))[:4])[0]


def set_flags(path, flags, keep_others=False):
    """keep_others: only IMMUTABLE and APPEND are taken away."""
    if keep_others:
        found = get_flags(path)
        if not found & (IMMUTABLE | APPEND):
            return
        flags |= found & ~(IMMUTABLE | APPEND)
    ioctl_on(path, SETFLAGS, struct.pack('<Q', flags))


def add_flags(path, flags):
    set_flags(path, get_flags(path) | flags)


def generation(path):
    return struct.unpack('<I', ioctl_on(path, GETVERSION, bytes(8))[:4])[0]
