# Listing folders: getdents in all sizes, cookies, and what holds while entries come and go.

import random

from kit import *

SYS_getdents64 = 217 if os.uname().machine == 'x86_64' else 61


def getdents(fd, room=32_768):
    """(inode, cookie of the next, type, name)"""
    buffer = ctypes.create_string_buffer(room)
    count = call('syscall', SYS_getdents64, fd, buffer, room)
    found, at = [], 0
    while at < count:
        ino, cookie, length, kind = struct.unpack_from('QqHB', buffer, at)
        found.append((ino, cookie, kind, buffer.raw[at + 19:at + length].split(b'\0')[0]))
        at += length
    return found


def whole(fd, room=32_768):
    found = []
    while entries := getdents(fd, room):
        found += entries
    return found


def names_of(entries):
    return sorted(name for _, _, _, name in entries if name not in (b'.', b'..'))


def fill(count, prefix='entry'):
    names = [b'%s-%05d-%s' % (prefix.encode(), number, b'x' * (number % 50)) for number in range(count)]
    for name in names:
        make(name)
    return sorted(names)


@rule('readdir: "." and "..", inode numbers and types')
def _():
    make('file')
    os.mkdir('folder')
    os.symlink('x', 'link')
    os.mkfifo('fifo')
    os.mknod('socket', stat.S_IFSOCK | 0o600)
    with Open('.', os.O_RDONLY) as fd:
        entries = {name: (ino, kind) for ino, _, kind, name in whole(fd)}
    equal(entries[b'.'], (os.stat('.').st_ino, 4))
    equal(entries[b'..'], (os.stat('..').st_ino, 4))
    for name, kind in (('file', 8), ('folder', 4), ('link', 10), ('fifo', 1), ('socket', 12)):
        equal(entries[name.encode()], (os.lstat(name).st_ino, kind), name)
    equal(len(entries), 7)


@rule('readdir: 3,000 entries, in buffers of every size')
def _():
    names = fill(3000)
    for room in (300, 1000, 4096, 65_536, 1 << 20):
        with Open('.', os.O_RDONLY) as fd:
            equal(names_of(whole(fd, room)) == names, True, f'in {room} bytes')
    with Open('.', os.O_RDONLY) as fd:
        fails(E.EINVAL, getdents, fd, 20)


@rule('readdir: a cookie leads back to the same place, at any time')
def _():
    names = fill(1500)
    with Open('.', os.O_RDONLY) as fd:
        entries = whole(fd, 2000)
        for at in random.Random(3).sample(range(len(entries) - 1), 60):
            os.lseek(fd, entries[at][1], os.SEEK_SET)
            equal(getdents(fd, 400)[0][3], entries[at + 1][3])
        os.lseek(fd, 0, os.SEEK_SET)
        equal(names_of(whole(fd)) == names, True)


@rule('readdir: telldir and seekdir of the C library')
def _():
    fill(300)
    LIBC.opendir.restype = LIBC.readdir.restype = ctypes.c_void_p
    LIBC.telldir.restype = ctypes.c_long
    stream = ctypes.c_void_p(LIBC.opendir(b'.'))
    places = []

    def read():
        entry = LIBC.readdir(stream)
        return ctypes.string_at(entry + 19) if entry else None
    while True:
        place = LIBC.telldir(stream)
        name = read()
        if name is None:
            break
        places.append((place, name))
    equal(len(places), 302)
    for place, name in reversed(places[::7]):
        LIBC.seekdir(stream, ctypes.c_long(place))
        equal(read(), name)
    LIBC.rewinddir(stream)
    equal(read(), places[0][1])
    LIBC.closedir(stream)


@rule('readdir: what stays is seen exactly once while others come and go')
def _():
    stays = fill(2000, 'stays')
    goes = fill(1000, 'goes')
    source = random.Random(5)
    with Open('.', os.O_RDONLY) as fd:
        seen, number = [], 0
        while entries := getdents(fd, 1500):
            seen += [name for _, _, _, name in entries]
            for _ in range(20):
                make(b'comes-%d' % number)
                number += 1
                if goes:
                    os.unlink(goes.pop(source.randrange(len(goes))))
    equal(sorted(name for name in seen if name.startswith(b'stays')) == stays, True)
    check(len(set(seen)) == len(seen), 'a name was seen twice')


@rule('readdir: cookies stay good while entries go')
def _():
    fill(2000)
    with Open('.', os.O_RDONLY) as fd:
        entries = whole(fd)
        middle = len(entries) // 2
        for _, _, _, name in entries[:middle]:
            if name not in (b'.', b'..'):
                os.unlink(name)
        os.lseek(fd, entries[middle - 1][1], os.SEEK_SET)
        equal(names_of(whole(fd)), names_of(entries[middle:]))


@rule('readdir: removing all while reading (rm -r) ends with nothing')
def _():
    fill(2500)
    while True:
        with Open('.', os.O_RDONLY) as fd:
            removed = 0
            while entries := getdents(fd, 4096):
                for _, _, _, name in entries:
                    if name not in (b'.', b'..'):
                        os.unlink(name)
                        removed += 1
            if not removed:
                break
    equal(os.listdir('.'), [])


@rule('readdir: a rewound folder shows what has changed')
def _():
    fill(10)
    with Open('.', os.O_RDONLY) as fd:
        equal(len(whole(fd)), 12)
        make('new')
        os.unlink('entry-00000-')
        os.lseek(fd, 0, os.SEEK_SET)
        names = names_of(whole(fd))
        equal((len(names), b'new' in names, b'entry-00000-' in names), (10, True, False))


@rule('readdir: what is renamed while it is read shows at most once under each name')
def _():
    fill(1000)
    seen = []
    with Open('.', os.O_RDONLY) as fd:
        number = 0
        while entries := getdents(fd, 2000):
            seen += [name for _, _, _, name in entries]
            for _ in range(10):
                name = b'entry-%05d-%s' % (number, b'x' * (number % 50))
                os.rename(name, b'moved-' + name)
                number += 1
    check(len(set(seen)) == len(seen), 'a name was seen twice')
    missing = [number for number in range(1000) if not any(b'entry-%05d-' % number in name for name in seen)]
    check(all(number < 1000 for number in missing), 'impossible')
    equal(len(os.listdir('.')), 1000)


@rule('readdir: size and blocks of a folder are those of its blocks')
def _():
    os.mkdir('d')
    small = os.stat('d')
    equal((small.st_size, small.st_blocks), (4096, 8))
    for number in range(500):
        make(f'd/a-name-of-some-length-{number:05}')
    big = os.stat('d')
    check(big.st_size % 4096 == 0 and big.st_size > 4096 and big.st_blocks == big.st_size // 512,
          f'{big.st_size} bytes, {big.st_blocks} sectors')


@rule('readdir: two readers at once, each sees all')
def _():
    names = fill(1000)
    with Open('.', os.O_RDONLY) as one, Open('.', os.O_RDONLY) as two:
        first, second = [], []
        while True:
            a, b = getdents(one, 700), getdents(two, 1100)
            first += a
            second += b
            if not a and not b:
                break
    equal((names_of(first) == names, names_of(second) == names), (True, True))


@rule('readdir: reading is a right of its own', ORDINARY)
def _():
    os.mkdir('d')
    make('d/a', b'x')
    os.chmod('d', 0o300)
    fails(E.EACCES, os.listdir, 'd')
    equal(slurp('d/a'), b'x')
    os.chmod('d', 0o700)
