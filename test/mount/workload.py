# A random history of file operations, done in every ROOT alike; a second root on a file system that
# nobody doubts is the judge of the first: each operation must end alike in all of them.
#
# Usage: workload.py SEED ROOT [ROOT ...]; then on standard input: `run COUNT`, `release` (closes the
# files that are held open), `spans FILE` (adds when each operation since the last time began and ended in
# each root, in nanoseconds: operation-times.ts), `quit`; each is answered by one line: `done`, or
# `differs WHAT`.
# Ends with exit code 3 when a root dies under it.

import ctypes
import errno
import mmap
import os
import random
import stat
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
NOREPLACE, EXCHANGE = 1, 2
AT_FDCWD = -100
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV}
FILE_MAX = 3 << 20


def libc(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def acl(entries):
    """The form of the xattr interface: version 2, then (tag, permissions, id)."""
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)


class Differs(Exception):
    pass


class Workload:
    def __init__(self, seed, roots):
        self.random = random.Random(seed)
        self.roots = [os.path.realpath(os.fsencode(root)) for root in roots]
        self.directories = [b'']
        self.files = []
        self.others = []
        self.held = []
        self.count = 0
        self.spans = []
        operations = {
            self.create: 14, self.write: 14, self.append: 8, self.overwrite: 8, self.sparse: 4, self.truncate: 6,
            self.mkdir: 5, self.rmdir: 2, self.rename: 8, self.rename_flags: 3, self.unlink: 8, self.link: 5,
            self.fast_symlink: 2, self.slow_symlink: 2, self.special: 3, self.set_xattr: 6, self.remove_xattr: 2,
            self.set_acl: 3, self.allocate: 4, self.punch: 5, self.zero: 3, self.chmod: 4, self.chown: 3,
            self.times: 5, self.hold: 2, self.map: 3, self.copy_range: 2, self.tmpfile: 2, self.direct: 2,
            self.fsync: 2, self.crowd: 1,
        }
        self.operations = list(operations)
        self.weights = list(operations.values())

    def run(self, count):
        for _ in range(count):
            self.random.choices(self.operations, self.weights)[0]()

    def everywhere(self, what, act):
        """@returns whether it succeeded, in all roots alike"""
        self.count += 1
        outcomes, span = [], []
        for root in self.roots:
            span.append(time.time_ns())
            try:
                outcomes.append(('ok', act(root)))
            except OSError as error:
                if error.errno in DEAD or not os.path.isdir(self.roots[0]):
                    sys.exit(3)
                outcomes.append((errno.errorcode.get(error.errno, error.errno), None))
            span.append(time.time_ns())
        self.spans.append(span)
        if any(outcome != outcomes[0] for outcome in outcomes):
            raise Differs(f'operation {self.count} {what}: {outcomes}')
        return outcomes[0][0] == 'ok'

    def tell_spans(self, path):
        with open(path, 'a', encoding='ascii') as file:
            file.writelines(' '.join(map(str, span)) + '\n' for span in self.spans)
        self.spans = []

    # -- choices

    def name(self):
        kind = self.random.random()
        number = self.random.randrange(200)
        if kind < 0.7:
            return b'f%d' % number
        if kind < 0.8:
            return b'a long name with spaces, as people give them, %d' % number + b'.x' * self.random.randrange(60)
        if kind < 0.9:
            return b'\xff\xfe\n\t"\\%d' % number
        return 'grüße-日本-%d'.encode() % number

    def new_path(self):
        return self.random.choice(self.directories) + b'/' + self.name()

    def file(self):
        return self.random.choice(self.files) if self.files else None

    def bytes(self, length):
        kind = self.random.random()
        if kind < 0.1:
            return bytes(length)
        if kind < 0.3:
            return (b'line %d\n' % self.random.randrange(1000) * (length // 6 + 1))[:length]
        return self.random.randbytes(length)

    def length(self):
        kind = self.random.random()
        if kind < 0.3:
            return self.random.randrange(1, 200)
        if kind < 0.8:
            return self.random.randrange(1, 20_000)
        return self.random.randrange(1, 400_000)

    def range(self):
        offset = self.random.randrange(FILE_MAX // 2)
        if self.random.random() < 0.5:
            offset -= offset % 4096
        length = self.length() * 4
        return offset, length - length % 4096 + 4096 if self.random.random() < 0.5 else length

    def forget(self, path):
        def stays(entry):
            return entry != path and not entry.startswith(path + b'/')
        self.files = [entry for entry in self.files if stays(entry)]
        self.others = [entry for entry in self.others if stays(entry)]
        self.directories = [entry for entry in self.directories if stays(entry)]

    def note(self, path):
        self.forget(path)
        kind = os.lstat(self.roots[0] + path).st_mode
        target = self.files if stat.S_ISREG(kind) else self.directories if stat.S_ISDIR(kind) else self.others
        target.append(path)

    def with_file(self, what, flags, act):
        path = self.file()
        if path is None:
            return

        def do(root):
            descriptor = os.open(root + path, flags)
            try:
                return act(descriptor)
            finally:
                os.close(descriptor)
        self.everywhere(f'{what} {path}', do)

    # -- operations

    def create(self):
        path, content, mode = self.new_path(), self.bytes(self.length()), self.random.choice([0o600, 0o644, 0o755])

        def do(root):
            descriptor = os.open(root + path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            try:
                return os.write(descriptor, content)
            finally:
                os.close(descriptor)
        if self.everywhere(f'create {path}', do):
            self.note(path)

    def write(self):
        offset, content = self.random.randrange(200_000), self.bytes(self.length())
        self.with_file('write', os.O_WRONLY, lambda fd: os.pwrite(fd, content, offset))

    def overwrite(self):
        content, at = self.bytes(self.length()), self.random.random()
        self.with_file('overwrite', os.O_RDWR,
                       lambda fd: os.pwrite(fd, content, int(os.fstat(fd).st_size * at) // 4096 * 4096))

    def append(self):
        content = self.bytes(self.length())
        self.with_file('append', os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, content))

    def sparse(self):
        offset, content = self.random.randrange(FILE_MAX), self.bytes(self.random.randrange(1, 9000))
        self.with_file('sparse', os.O_WRONLY, lambda fd: os.pwrite(fd, content, offset))

    def truncate(self):
        size = self.random.choice([0, self.random.randrange(100), self.random.randrange(50_000),
                                   self.random.randrange(FILE_MAX)])
        self.with_file(f'truncate to {size}', os.O_WRONLY, lambda fd: os.ftruncate(fd, size))

    def allocate(self):
        mode, (offset, length) = self.random.choice([0, KEEP_SIZE]), self.range()
        self.with_file(f'fallocate {mode} {offset} {length}', os.O_WRONLY,
                       lambda fd: libc(LIBC.fallocate(fd, mode, offset, length)))

    def punch(self):
        offset, length = self.range()
        self.with_file(f'punch {offset} {length}', os.O_WRONLY,
                       lambda fd: libc(LIBC.fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)))

    def zero(self):
        mode, (offset, length) = self.random.choice([ZERO_RANGE, ZERO_RANGE | KEEP_SIZE]), self.range()
        self.with_file(f'zero {mode} {offset} {length}', os.O_WRONLY,
                       lambda fd: libc(LIBC.fallocate(fd, mode, offset, length)))

    def map(self):
        content, at = self.bytes(self.random.randrange(1, 6000)), self.random.random()

        def do(fd):
            size = os.fstat(fd).st_size
            if size < len(content):
                return None
            with mmap.mmap(fd, size) as memory:
                start = int((size - len(content)) * at)
                memory[start:start + len(content)] = content
            return start
        self.with_file('mmap', os.O_RDWR, do)

    def direct(self):
        offset, length = self.random.randrange(100) * 4096, self.random.randrange(1, 20) * 4096
        content = self.bytes(length)

        def do(fd):
            with mmap.mmap(-1, length) as aligned:
                aligned[:] = content
                return os.pwritev(fd, [aligned], offset)
        self.with_file(f'O_DIRECT {offset} {length}', os.O_WRONLY | os.O_DIRECT, do)

    def copy_range(self):
        source = self.file()
        if source is None:
            return
        length, offset = self.length(), self.random.randrange(100_000)

        def do(target):
            # One call may copy less, so the loop; each root has the same source.
            root = self.root_of(target)
            fd = os.open(root + source, os.O_RDONLY)
            try:
                if os.path.samestat(os.fstat(fd), os.fstat(target)):
                    return None
                done = 0
                while done < length:
                    copied = os.copy_file_range(fd, target, length - done, done, offset + done)
                    if copied == 0:
                        break
                    done += copied
                return done
            finally:
                os.close(fd)
        self.with_file(f'copy_file_range of {source}', os.O_RDWR, do)

    def root_of(self, descriptor):
        path = os.readlink(b'/proc/self/fd/%d' % descriptor)
        return next(root for root in self.roots if path.startswith(root + b'/'))

    def tmpfile(self):
        path, content = self.new_path(), self.bytes(self.length())

        def do(root):
            fd = os.open(root + os.path.dirname(path), os.O_TMPFILE | os.O_RDWR, 0o640)
            try:
                os.write(fd, content)
                os.link(b'/proc/self/fd/%d' % fd, root + path, follow_symlinks=True)
            finally:
                os.close(fd)
        if self.everywhere(f'tmpfile {path}', do):
            self.note(path)

    def fsync(self):
        self.with_file('fsync', os.O_RDONLY, os.fsync)

    def hold(self):
        """Keeps a file open, sometimes one that is then unlinked, and writes into what is held."""
        path, content = self.file(), self.bytes(self.length())
        if path is None or len(self.held) > 20:
            return
        opened = []
        if self.everywhere(f'hold {path}', lambda root: opened.append(os.open(root + path, os.O_RDWR))):
            self.held.append(opened)
        if self.random.random() < 0.5 and self.everywhere(f'unlink held {path}', lambda root: os.unlink(root + path)):
            self.forget(path)
        held = iter(self.random.choice(self.held))
        self.everywhere('write held', lambda _: os.pwrite(next(held), content, 5000))

    def release(self):
        for descriptor in [descriptor for opened in self.held for descriptor in opened]:
            os.close(descriptor)
        self.held = []

    def mkdir(self):
        path = self.new_path()
        if len(path) < 600 and self.everywhere(f'mkdir {path}', lambda root: os.mkdir(root + path, 0o755)):
            self.note(path)

    def rmdir(self):
        path = self.random.choice(self.directories)
        if path and self.everywhere(f'rmdir {path}', lambda root: os.rmdir(root + path)):
            self.forget(path)

    def rename(self):
        entries = self.files + self.others + self.directories[1:]
        if not entries:
            return
        old = self.random.choice(entries)
        new = self.random.choice(entries) if self.random.random() < 0.3 else self.new_path()
        if self.everywhere(f'rename {old} {new}', lambda root: os.rename(root + old, root + new)):
            self.moved()

    def rename_flags(self):
        entries = self.files + self.others + self.directories[1:]
        if not entries:
            return
        flags = self.random.choice([NOREPLACE, EXCHANGE])
        old = self.random.choice(entries)
        new = self.random.choice(entries) if flags == EXCHANGE else self.new_path()

        def do(root):
            return libc(LIBC.renameat2(AT_FDCWD, root + old, AT_FDCWD, root + new, flags))
        if self.everywhere(f'renameat2 {flags} {old} {new}', do):
            self.moved()

    def moved(self):
        """Whole subtrees may have moved: look again what there is."""
        self.files, self.others, self.directories = [], [], [b'']
        for folder, directories, files in os.walk(self.roots[0]):
            below = folder[len(self.roots[0]):]
            if not below:
                directories[:] = [name for name in directories if name != b'lost+found']
            directories.sort()
            links = [name for name in directories if os.path.islink(folder + b'/' + name)]
            self.directories += [below + b'/' + name for name in directories if name not in links]
            for name in sorted(files + links):
                mode = os.lstat(folder + b'/' + name).st_mode
                (self.files if stat.S_ISREG(mode) else self.others).append(below + b'/' + name)

    def unlink(self):
        entries = self.files + self.others
        if not entries:
            return
        path = self.random.choice(entries)
        if self.everywhere(f'unlink {path}', lambda root: os.unlink(root + path)):
            self.forget(path)

    def link(self):
        old, new = self.file(), self.new_path()
        if old and self.everywhere(f'link {old} {new}',
                                   lambda root: os.link(root + old, root + new, follow_symlinks=False)):
            self.note(new)

    def symlink(self, target):
        path = self.new_path()
        if self.everywhere(f'symlink {path}', lambda root: os.symlink(target, root + path)):
            self.note(path)

    def fast_symlink(self):
        self.symlink(b't' * self.random.randrange(1, 60))

    def slow_symlink(self):
        self.symlink(b'/t' * self.random.randrange(30, 2000))

    def special(self):
        path = self.new_path()
        kind = self.random.choice([stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
        device = os.makedev(self.random.choice([1, 8, 300]), self.random.choice([0, 5, 70_000]))
        if self.everywhere(f'mknod {path}', lambda root: os.mknod(root + path, kind | 0o644, device)):
            self.note(path)

    def entry(self):
        return self.random.choice(self.files + self.directories[1:] or [b''])

    def set_xattr(self):
        path = self.entry()
        name = self.random.choice(['user.a', 'user.b', 'user.colour of it', 'trusted.t', 'security.s', 'user.c' * 20])
        length = self.random.choice([0, 5, 40, 90, 300, 1000, 2500])
        value = self.random.randbytes(length)
        if not self.has_xattr(path, name, value):
            self.everywhere(f'setxattr {path} {name} {length}', lambda root: os.setxattr(root + path, name, value))

    def has_xattr(self, path, name, value):
        """ext4 then lets the time of change be; behind FUSE the kernel moves it (docs/DRIVERS.md)."""
        try:
            return os.getxattr(self.roots[0] + path, name) == value
        except OSError:
            return False

    def remove_xattr(self):
        path, name = self.entry(), self.random.choice(['user.a', 'user.b', 'trusted.t'])
        self.everywhere(f'removexattr {path} {name}', lambda root: os.removexattr(root + path, name))

    def set_acl(self):
        path, user, none = self.entry(), self.random.randrange(1, 5000), 0xFFFFFFFF
        value = acl([(1, 7, none), (2, 6, user), (4, 5, none), (8, 4, user + 1), (16, 7, none), (32, 4, none)])
        name = 'system.posix_acl_access'
        if path in self.directories and self.random.random() < 0.5:
            name = 'system.posix_acl_default'
        if not self.has_xattr(path, name, value):
            self.everywhere(f'{name} {path}', lambda root: os.setxattr(root + path, name, value))

    def chmod(self):
        path = self.entry()
        mode = self.random.choice([0o400, 0o640, 0o777, 0o4755, 0o2750, 0o1777, 0])
        self.everywhere(f'chmod {path} {mode:o}', lambda root: os.chmod(root + path, mode))

    def chown(self):
        path = self.random.choice(self.files + self.others + self.directories[1:] or [b''])
        owner, group = self.random.choice([0, 1000, 70_000, 4_000_000_000]), self.random.choice([0, 100, 65_534])
        self.everywhere(f'chown {path}', lambda root: os.lchown(root + path, owner, group))

    def times(self):
        path = self.random.choice(self.files + self.others + self.directories[1:] or [b''])
        seconds = self.random.choice([0, 1, 1_700_000_000, 2**31 - 1, 2**31, 2**32 + 7, 15_000_000_000, -1, -2**31])
        at = seconds * 10**9 + self.random.randrange(10**9)
        self.everywhere(f'utimes {path} {at}',
                        lambda root: os.utime(root + path, ns=(at, at + 10**9 + 1), follow_symlinks=False))

    def crowd(self):
        """Many names in one directory, so that its index grows and shrinks."""
        directory, first = self.random.choice(self.directories), self.random.randrange(10_000)
        names = [directory + b'/crowd-%d-with-a-name-of-some-length' % (first + i) for i in range(150)]

        def fill(root):
            for name in names:
                os.close(os.open(root + name, os.O_CREAT | os.O_WRONLY, 0o644))

        def thin(root):
            for name in names[::2]:
                os.unlink(root + name)
        if self.everywhere(f'crowd {directory}', fill) and self.everywhere(f'thin {directory}', thin):
            for name in names:
                self.forget(name)
            for name in names[1::2]:
                self.note(name)


def main():
    serve(Workload(int(sys.argv[1]), sys.argv[2:]))


def serve(workload):
    os.umask(0)
    workload.moved()
    for line in sys.stdin:
        words = line.split()
        try:
            if words[0] == 'quit':
                break
            if words[0] == 'run':
                workload.run(int(words[1]))
            elif words[0] == 'release':
                workload.release()
            elif words[0] == 'spans':
                workload.tell_spans(words[1])
            print('done', flush=True)
        except Differs as difference:
            print(f'differs {difference}', flush=True)
        except OSError as error:
            if error.errno not in DEAD:
                raise
            sys.exit(3)


if __name__ == '__main__':
    main()
