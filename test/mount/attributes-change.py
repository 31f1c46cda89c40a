# Changes a tree of attributes-tree.py in every way that its file system lets it, at random.
#
# Usage: attributes-change.py FOLDER SEED COUNT
#
# What is refused (immutable files, modes of fallocate) is passed over; how many of each were done is
# printed as JSON.

import collections
import ctypes
import errno
import fcntl
import json
import os
import random
import stat
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
NOREPLACE, EXCHANGE = 1, 2
ANY = 0xFFFFFFFF
REFUSALS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR,
            errno.EISDIR, errno.ENODATA, errno.ENOSPC, errno.EMLINK, errno.ENAMETOOLONG, errno.EFBIG)
# Chosen so that most can be made again by others: not i and a, which would let ever less be done.
FLAGS = [0x1, 0x2, 0x4, 0x8, 0x40, 0x80, 0x8000]
CROWD = b'crowd-'


def acl(user, permissions):
    entries = [(1, 7, ANY), (2, permissions, user), (4, 5, ANY), (8, permissions, user + 1), (16, 7, ANY), (32, 1, ANY)]
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)


class Changer:
    def __init__(self, root, seed):
        self.root, self.random, self.count = os.fsencode(root), random.Random(seed), 0
        self.look()

    def look(self):
        self.files, self.folders, self.others = [], [], []
        for folder, names, _ in os.walk(self.root):
            names[:] = sorted(name for name in names if name != b'lost+found' and not name.startswith(CROWD))
            self.folders.append(folder)
            for name in sorted(os.listdir(folder)):
                mode = os.lstat(folder + b'/' + name).st_mode
                if stat.S_ISREG(mode):
                    self.files.append(folder + b'/' + name)
                elif not stat.S_ISDIR(mode):
                    self.others.append(folder + b'/' + name)

    def any(self):
        return self.random.choice(self.files + self.folders[1:] + self.others)

    def thing(self):
        return self.random.choice(self.files + self.folders[1:])

    def new(self):
        self.count += 1
        return self.random.choice(self.folders) + b'/' + b'new-%d' % self.count

    def opened(self, work):
        fd = os.open(self.random.choice(self.files), os.O_RDWR)
        try:
            work(fd)
        finally:
            os.close(fd)

    def allocate(self, mode, offset, length):
        def work(fd):
            if LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
                raise OSError(ctypes.get_errno(), 'fallocate')
        self.opened(work)

    def range(self, unit=1):
        return self.random.randrange(1 << 20) // unit * unit, self.random.randrange(1, 1 << 19) // unit * unit + unit

    # -- what is done

    def rename(self):
        self.look()
        os.rename(self.any(), self.new() if self.random.random() < 0.7 else self.any())
        self.look()

    def exchange(self):
        self.look()
        if LIBC.renameat2(-100, self.any(), -100, self.any(), EXCHANGE) != 0:
            raise OSError(ctypes.get_errno(), 'renameat2')
        self.look()

    def link(self):
        os.link(self.random.choice(self.files + self.others), self.new(), follow_symlinks=False)

    def unlink(self):
        self.look()
        os.unlink(self.random.choice(self.files + self.others))
        self.look()

    def make(self):
        path = self.new()
        kind = self.random.randrange(5)
        if kind == 0:
            os.mkdir(path, 0o2775)
        elif kind == 1:
            os.symlink(b'y' * self.random.randrange(1, 3000), path)
        elif kind == 2:
            os.mknod(path, stat.S_IFBLK | 0o640, os.makedev(self.random.randrange(4096), self.random.randrange(1 << 20)))
        else:
            fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o666)
            os.write(fd, self.random.randbytes(self.random.randrange(50_000)))
            os.close(fd)
        self.look()

    def crowd(self):
        """A folder that is indexed from the first to the last, its names linked to one file."""
        path, length = self.new(), self.random.randrange(10, 200)
        os.mkdir(path)
        source = path + b'/source'
        os.close(os.open(source, os.O_CREAT | os.O_WRONLY))
        for number in range(500):
            os.link(source, path + b'/' + (b'%d-' % number).ljust(length, b'c'))
        for number in range(0, 500, 3):
            os.unlink(path + b'/' + (b'%d-' % number).ljust(length, b'c'))
        os.rename(path, os.path.dirname(path) + b'/' + CROWD + os.path.basename(path))

    def write(self):
        offset, length = self.range()
        self.opened(lambda fd: os.pwrite(fd, self.random.randbytes(length), offset))

    def write_far(self):
        self.opened(lambda fd: os.pwrite(fd, b'far', self.random.randrange(1 << 43)))

    def truncate(self):
        self.opened(lambda fd: os.ftruncate(fd, self.random.randrange(2 << 20)))

    def punch(self):
        self.allocate(PUNCH_HOLE | KEEP_SIZE, *self.range())

    def zero(self):
        self.allocate(ZERO_RANGE, *self.range())

    def ahead(self):
        self.allocate(self.random.choice([0, KEEP_SIZE]), *self.range())

    def collapse(self):
        self.allocate(COLLAPSE_RANGE, *self.range(4096))

    def insert(self):
        self.allocate(INSERT_RANGE, *self.range(4096))

    def chmod(self):
        os.chmod(self.thing(), self.random.randrange(0o10000))

    def chown(self):
        os.lchown(self.any(), self.random.choice([0, 1000, 2**32 - 2]), self.random.choice([0, 70_000, 2**31]))

    def times(self):
        """Before 2310: of later times e2fsck takes some for those of a kernel that wrote them wrong."""
        times = [self.random.randrange(-(2**31), 10**10) * 10**9 + self.random.randrange(10**9) for _ in range(2)]
        os.utime(self.any(), ns=tuple(times), follow_symlinks=False)

    def set_xattr(self):
        name = self.random.choice(['user.a', 'user.large', 'user.same', 'trusted.t', 'security.s'])
        value = b'S' * 2000 if name == 'user.same' else self.random.randbytes(self.random.choice([0, 9, 200, 3000]))
        os.setxattr(self.thing(), name, value)

    def share_xattr(self):
        """The same large value on several: the kernel gives them one block."""
        value = b'shared %d' % self.random.randrange(3) * 300
        for _ in range(5):
            path = self.thing()
            for name in os.listxattr(path):
                os.removexattr(path, name)
            os.setxattr(path, 'user.shared', value)

    def remove_xattr(self):
        path = self.thing()
        names = os.listxattr(path)
        if names:
            os.removexattr(path, self.random.choice(names))

    def acl(self):
        path = self.thing()
        kind = self.random.choice(['access', 'default']) if os.path.isdir(path) else 'access'
        os.setxattr(path, f'system.posix_acl_{kind}', acl(self.random.randrange(1 << 31), self.random.randrange(8)))

    def flags(self):
        fd = os.open(self.thing(), os.O_RDONLY)
        try:
            now = struct.unpack('i', fcntl.ioctl(fd, GETFLAGS, bytes(8))[:4])[0]
            fcntl.ioctl(fd, SETFLAGS, struct.pack('q', now ^ self.random.choice(FLAGS)))
        finally:
            os.close(fd)

    def run(self, count):
        done = collections.Counter()
        works = [self.rename, self.exchange, self.link, self.unlink, self.make, self.write, self.write_far, self.truncate,
                 self.punch, self.zero, self.ahead, self.collapse, self.insert, self.chmod, self.chown, self.times,
                 self.set_xattr, self.share_xattr, self.remove_xattr, self.acl, self.flags]
        for _ in range(count):
            for work in [self.random.choice(works), self.crowd] if self.random.random() < 0.01 else [
                    self.random.choice(works)]:
                try:
                    work()
                    done[work.__name__] += 1
                except OSError as error:
                    if error.errno not in REFUSALS:
                        raise
        return done


print(json.dumps(Changer(sys.argv[1], int(sys.argv[2])).run(int(sys.argv[3]))))
