# Prints a tree as JSON, one line a path: everything that must be the same in a snapshot, in its export
# mounted by the kernel, and in what was in the mount when it was taken.
#
# Usage: tree-record.py FOLDER [SKIPPED-NAME-AT-THE-TOP ...]
#
# Reading is done with O_NOATIME, but for links, which have no such thing: these are read before they are
# looked at, so that recorded is what stays. Paths are bytes in hexadecimal; times are nanoseconds in digits,
# as JavaScript's numbers would round them. `links` names the first path (in the order of names) of the same inode.

import hashlib
import json
import os
import stat
import sys


def digest(path):
    total = hashlib.sha256()
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        while chunk := os.read(fd, 1 << 20):
            total.update(chunk)
    finally:
        os.close(fd)
    return total.hexdigest()


def names_in(path):
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        return sorted((os.fsencode(name) for name in os.listdir(fd)), reverse=True)
    finally:
        os.close(fd)


def xattrs(path):
    return {
        name: os.getxattr(path, name, follow_symlinks=False).hex()
        for name in sorted(os.listxattr(path, follow_symlinks=False))
    }


def walk(root, skipped):
    first_of = {}
    pending = [b'']
    while pending:
        path = pending.pop()
        full = root + path
        target = os.readlink(full).hex() if os.path.islink(full) else None
        status = os.lstat(full)
        mode = status.st_mode
        line = {
            'path': path.hex(),
            'ino': status.st_ino,
            'mode': oct(mode),
            'owner': f'{status.st_uid}:{status.st_gid}',
            'nlink': status.st_nlink,
            'links': first_of.setdefault(status.st_ino, path).hex(),
            'atime': str(status.st_atime_ns),
            'mtime': str(status.st_mtime_ns),
            'ctime': str(status.st_ctime_ns),
            'xattrs': xattrs(full),
        }
        if stat.S_ISREG(mode):
            line['size'] = status.st_size
            line['sha256'] = digest(full)
        elif stat.S_ISLNK(mode):
            line['target'] = target
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            line['device'] = f'{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}'
        elif stat.S_ISDIR(mode):
            names = names_in(full)
            pending += [path + b'/' + name for name in names if path or name not in skipped]
        print(json.dumps(line, sort_keys=True))


walk(os.fsencode(sys.argv[1]), [os.fsencode(name) for name in sys.argv[2:]])
