# Prints all that a mounted tree says of each path, one JSON line a path: statx, flags, generation and
# project, extended attributes, where its data are, and what getfacl and lsattr make of it.
#
# Usage: attributes-record.py FOLDER
#
# Reading is done with O_NOATIME. Paths and values are bytes in hexadecimal; times in nanoseconds.

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import stat
import struct
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
GETFLAGS, GETVERSION, FSGETXATTR = 0x80086601, 0x80087601, 0x801C581F
CROWD = b'crowd-'


def statx(path):
    room = ctypes.create_string_buffer(256)
    if LIBC.syscall(332, -100, path, 0x100, 0xFFF, room) != 0:
        raise OSError(ctypes.get_errno(), 'statx')
    values = {}
    for name, at, form in (('nlink', 16, 'I'), ('uid', 20, 'I'), ('gid', 24, 'I'), ('mode', 28, 'H'), ('ino', 32, 'Q'),
                           ('size', 40, 'Q'), ('blocks', 48, 'Q')):
        values[name] = struct.unpack_from(form, room, at)[0]
    for name, at in (('atime', 64), ('btime', 80), ('ctime', 96), ('mtime', 112)):
        sec, nsec = struct.unpack_from('qI', room, at)
        values[name] = sec * 10**9 + nsec
    major, minor = struct.unpack_from('II', room, 128)
    if stat.S_ISCHR(values['mode']) or stat.S_ISBLK(values['mode']):
        values['device'] = f'{major}:{minor}'
    return values


def segments(fd, size):
    found, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append([start, at])
    return found


def digest(fd, ranges):
    total = hashlib.sha256()
    for start, end in ranges:
        while start < end:
            chunk = os.pread(fd, min(1 << 20, end - start), start)
            if not chunk:
                raise AssertionError('data end early')
            total.update(chunk)
            start += len(chunk)
    return total.hexdigest()


def number_of(fd, request):
    return struct.unpack('I', fcntl.ioctl(fd, request, bytes(8))[:4])[0]


def entries(fd):
    """Names with inode numbers and types, as a digest where there are many."""
    with os.scandir(fd) as listed:
        return sorted([os.fsencode(entry.name).hex(), entry.inode()] for entry in listed)


def record(root, path):
    full = root + path
    line = {'path': path.hex()}
    mode = os.lstat(full).st_mode
    if stat.S_ISLNK(mode):
        line['target'] = os.readlink(full).hex()
    elif stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        fd = os.open(full, os.O_RDONLY | os.O_NOATIME)
        line['flags'], line['generation'] = number_of(fd, GETFLAGS), number_of(fd, GETVERSION)
        line['project'] = struct.unpack_from('I', fcntl.ioctl(fd, FSGETXATTR, bytes(28)), 12)[0]
        if stat.S_ISREG(mode):
            # Of what is allocated ahead, the kernel takes pages in its cache for data, though nobody wrote them.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            line['data'] = segments(fd, os.fstat(fd).st_size)
            line['sha256'] = digest(fd, line['data'])
        else:
            line['entries'] = entries(fd)
        os.close(fd)
    line['xattrs'] = {name: os.getxattr(full, name, follow_symlinks=False).hex()
                      for name in sorted(os.listxattr(full, follow_symlinks=False))}
    line.update(statx(full))
    return line


def tool(name, *args, paths):
    """What a tool says of all paths; what it cannot look at (a device, a link) is no matter here."""
    made = subprocess.run(['xargs', '-0', name, *args], input=b'\0'.join(paths), capture_output=True)
    return made.stdout


def main():
    root = os.fsencode(sys.argv[1])
    top = os.open(root, os.O_RDONLY)
    LIBC.syncfs(top)
    os.close(top)
    lines, pending = [], [b'.']
    while pending:
        path = pending.pop()
        line = record(root + b'/', path)
        lines.append(line)
        if 'entries' in line and not os.path.basename(path).startswith(CROWD):
            pending += [path + b'/' + bytes.fromhex(name) for name, _ in line['entries'] if name != b'lost+found'.hex()]
    os.chdir(root)
    paths = sorted(bytes.fromhex(line['path']) for line in lines)
    plain = [path for path in paths if stat.S_ISREG(os.lstat(path).st_mode) or stat.S_ISDIR(os.lstat(path).st_mode)]
    for name, args in (('getfacl', ['-n', '--']), ('lsattr', ['-d', '-v', '-l', '--'])):
        lines.append({'path': name.encode().hex(), 'text': tool(name, *args, paths=plain).hex()})
    for line in lines:
        print(json.dumps(line, sort_keys=True))


main()
