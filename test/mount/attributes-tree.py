# Makes a tree that has every kind of node and attribute which ext4 can hold, in an empty folder.
#
# Usage: attributes-tree.py FOLDER

import errno
import fcntl
import os
import socket
import stat
import struct
import sys

GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
KIB, TIB = 1 << 10, 1 << 40
ANY = 0xFFFFFFFF
FILE_FLAGS = {'s': 1, 'u': 2, 'c': 4, 'S': 8, 'i': 0x10, 'a': 0x20, 'd': 0x40, 'A': 0x80, 't': 0x8000}
FOLDER_FLAGS = {**FILE_FLAGS, 'D': 0x10000, 'T': 0x20000, 'P': 0x20000000}
SECONDS = [-(2**31), -1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32 + 7, 2**33, 2**34 - 2**31 - 1]
OWNERS = [(0, 0), (1000, 100), (65_535, 65_536), (70_000, 4_000_000_000), (4_294_967_294, 1)]
DEVICES = [(1, 3), (8, 0), (255, 255), (255, 256), (256, 0), (300, 70_000), (4095, 1_048_575)]


def acl(*entries):
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)


NAMED = acl((1, 7, ANY), (2, 6, 1000), (2, 4, 4_000_000_000), (4, 5, ANY), (8, 4, 70_000), (16, 6, ANY), (32, 0, ANY))
LONG = acl((1, 7, ANY), *[(2, 6, 1000 + user) for user in range(200)], (4, 5, ANY), (16, 7, ANY), (32, 4, ANY))


def make(path, data=b'', mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, mode)
    os.write(fd, data)
    os.close(fd)
    return path


def folder(path, mode=0o755):
    os.mkdir(path, mode)
    return path


def allocate(fd, mode, offset, length):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), f'fallocate {mode}')


def kinds():
    os.chdir(folder('kinds'))
    os.mkfifo('fifo', 0o640)
    for kind, name in ((stat.S_IFCHR, 'character'), (stat.S_IFBLK, 'block')):
        for major, minor in DEVICES:
            os.mknod(f'{name}-{major}-{minor}', kind | 0o600, os.makedev(major, minor))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind('socket')
    listener.close()
    for length in (1, 59, 60, 61, 2000, 4094, 4095):
        target = ('t' * 50 + '/') * 100
        os.symlink(target[:length], f'link-{length}')
    os.symlink(b'\xff\x01 \xc3\xa4', b'link-of-bytes')
    make(b'name-\xff\xfe \x01 \xc3\xa4'), make('n' * 255), folder('d' * 255), make(' '), make('back\\slash')


def modes():
    os.chdir(folder('modes'))
    for mode in (0, 0o400, 0o644, 0o1755, 0o2755, 0o4711, 0o6777, 0o7777):
        os.chmod(make(f'file-{mode:o}', b'm'), mode)
        os.chmod(folder(f'folder-{mode:o}'), mode)
    for uid, gid in OWNERS:
        for path in (make(f'file-of-{uid}-{gid}'), folder(f'folder-of-{uid}-{gid}')):
            os.chown(path, uid, gid)
        os.symlink('x', f'link-of-{uid}-{gid}')
        os.lchown(f'link-of-{uid}-{gid}', uid, gid)
    # What a folder with S_ISGID gives on.
    os.chown(folder('giving'), 0, 4321)
    os.chmod('giving', 0o2775)
    folder('giving/folder'), make('giving/file')


def nanoseconds(sec, nsec):
    """At the ends of ext4's range it keeps no fraction, which a kernel that holds back a file's time learns later."""
    return sec * 10**9 + (nsec if SECONDS[0] < sec < SECONDS[-1] else 0)


def times():
    os.chdir(folder('times'))
    for number, sec in enumerate(SECONDS):
        nsec = (0, 1, 999_999_999, 123_456_789)[number % 4]
        other = SECONDS[-1 - number]
        paths = [make(f'file-{sec}', b'x' * number), folder(f'folder-{sec}'), f'link-{sec}', f'fifo-{sec}']
        os.symlink('x', paths[2])
        os.mkfifo(paths[3])
        for path in paths:
            os.utime(path, ns=(nanoseconds(sec, nsec), nanoseconds(other, 999_999_999 - nsec)), follow_symlinks=False)


def attributes():
    os.chdir(folder('attributes'))
    sets = {
        'small': {'user.a': b'value'},
        'empty': {'user.empty': b''},
        'binary': {'user.b': bytes(range(256))[:70]},
        'in-a-block': {'user.large': b'L' * 3000},
        'both': {'user.small': b's', 'user.large': os.urandom(2500), 'trusted.t': b'\x00\x01'},
        'many': {f'user.{number:03}': b'v' * (number % 7) for number in range(90)},
        'long-name': {'user.' + 'n' * 250: b'x', 'trusted.' + 'm' * 247: b'y'},
        'kinds': {'user.u': b'1', 'trusted.t': b'2', 'security.s': b'3'},
        'capability': {'security.capability': struct.pack('<5I', 0x02000001, 1 << 10, 0, 0, 0)},
        'label': {'security.other': b'system_u:object_r:any_t:s0\0'},
    }
    for name, values in sets.items():
        for path in (make(f'file-{name}', b'x'), folder(f'folder-{name}')):
            for key, value in values.items():
                os.setxattr(path, key, value)
    # One value, on several: the kernel may share a block.
    for number in range(4):
        os.setxattr(make(f'same-{number}'), 'user.same', b'S' * 2000)
    os.symlink('x', 'link')
    os.setxattr('link', 'trusted.of-a-link', b'l' * 100, follow_symlinks=False)
    os.mkfifo('fifo')
    os.setxattr('fifo', 'trusted.of-a-fifo', b'f' * 1000)
    for name, value in (('named', NAMED), ('long', LONG)):
        os.setxattr(make(f'acl-{name}'), 'system.posix_acl_access', value)
        os.setxattr(folder(f'acl-folder-{name}'), 'system.posix_acl_access', value)
        os.setxattr(folder(f'acl-default-{name}'), 'system.posix_acl_default', value)
        folder(f'acl-default-{name}/folder'), make(f'acl-default-{name}/file')
        os.setxattr(f'acl-default-{name}/file', 'user.beside', b'x' * 500)


def data():
    os.chdir(folder('data'))
    for length in (0, 1, 4095, 4096, 4097, 300_000):
        make(f'bytes-{length}', os.urandom(length))
    for name in ('hole', 'ahead', 'behind', 'punched', 'zeroed', 'pieces', 'unwritten-pieces', 'deep', 'far'):
        fd = os.open(name, os.O_CREAT | os.O_RDWR, 0o600)
        if name == 'hole':
            os.pwrite(fd, b'after a hole', 10_000_000)
        elif name == 'ahead':
            allocate(fd, 0, 0, 1 << 20)
            os.pwrite(fd, b'w' * 5000, 100_000)
        elif name == 'behind':
            os.write(fd, b'w' * 5000)
            allocate(fd, KEEP_SIZE, 0, 1 << 20)
        elif name == 'punched':
            os.write(fd, os.urandom(1 << 20))
            allocate(fd, PUNCH_HOLE | KEEP_SIZE, 100_000, 300_000)
            os.ftruncate(fd, 900_001)
        elif name == 'zeroed':
            os.write(fd, os.urandom(1 << 20))
            allocate(fd, ZERO_RANGE, 100_000, 2_000_000)
        elif name == 'pieces':
            for piece in range(300):
                os.pwrite(fd, b'p', piece * 8192)
        elif name == 'unwritten-pieces':
            allocate(fd, 0, 0, 4 << 20)
            for piece in range(0, 400, 2):
                os.pwrite(fd, b'p' * 4096, piece * 4096)
        elif name == 'deep':
            for piece in range(2500):
                os.pwrite(fd, b'd', piece * 12_288)
        elif name == 'far':
            os.pwrite(fd, b'the end', 16 * TIB - 4096 - 7)
            os.pwrite(fd, b'the middle', 5 * TIB)
        os.fsync(fd)
        os.close(fd)


def links():
    os.chdir(folder('links'))
    for count in (2, 5, 300):
        make(f'file-{count}', b'linked')
        for number in range(1, count):
            os.link(f'file-{count}', f'file-{count}-{number}')
    folder('folders')
    for number in range(40):
        folder(f'folders/{number}')
    os.symlink('x', 'link-1')
    os.link('link-1', 'link-2', follow_symlinks=False)
    os.link('../kinds/fifo', 'fifo-2')


def crowds():
    """Folders of one block, of an index of one level, and of two, with names taken out again."""
    make('crowded')
    for name, count, length in (('flat', 30, 20), ('indexed', 900, 40), ('indexed-twice', 9000, 220)):
        folder(f'crowd-{name}')
        for number in range(count):
            if number % 500 == 0:
                source = make(f'crowd-{name}/{number}')
            os.link(source, f'crowd-{name}/' + f'{number}-'.ljust(length, 'n'))
        for number in range(0, count, 7):
            os.unlink(f'crowd-{name}/' + f'{number}-'.ljust(length, 'n'))


def flags():
    os.chdir(folder('flags'))
    for letters, new in ((FILE_FLAGS, make), (FOLDER_FLAGS, folder)):
        for letter, flag in letters.items():
            path = new(f'{new.__name__}-{letter}{flag:x}')
            if letter == 'D':
                folder(f'{path}/of-many')
            os.setxattr(path, 'user.beside', b'f')
            os.utime(path, ns=(10**18, 10**18 + 1))
            fd = os.open(path, os.O_RDONLY)
            now = struct.unpack('i', fcntl.ioctl(fd, GETFLAGS, bytes(8))[:4])[0]
            fcntl.ioctl(fd, SETFLAGS, struct.pack('q', now | flag))
            os.close(fd)
    # What folders give on to what is made in them.
    giving = [name for name in os.listdir('.') if name.startswith('folder-') and name[7] not in 'i']
    for name in giving:
        for work in (lambda: make(f'{name}/file'), lambda: folder(f'{name}/folder'), lambda: os.symlink('x', f'{name}/l')):
            try:
                work()
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EACCES):
                    raise


def main():
    os.umask(0o022)
    top = os.path.abspath(sys.argv[1])
    for part in (kinds, modes, times, attributes, data, links, crowds, flags):
        os.chdir(top)
        part()
    os.chdir('/')
    fd = os.open(top, os.O_RDONLY)
    os.fsync(fd)


main()
