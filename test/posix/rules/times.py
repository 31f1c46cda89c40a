# Times: utimensat with all its forms, and which operation moves which time.

import mmap

import ioctls
from kit import *

OLD = 1_000_000_000 * 10**9


def age(*paths):
    for path in paths:
        os.utime(path, ns=(OLD, OLD), follow_symlinks=False)
    pause()


@rule('utimens: nanoseconds of both times')
def _():
    make('a')
    os.mkdir('d')
    os.symlink('x', 'l')
    for path in ('a', 'd', 'l'):
        os.utime(path, ns=(1_111_111_111_123_456_789, 1_222_222_222_987_654_321), follow_symlinks=False)
        found = os.lstat(path)
        equal((found.st_atime_ns, found.st_mtime_ns), (1_111_111_111_123_456_789, 1_222_222_222_987_654_321), path)


@rule('utimens: from 1901 to 2446')
def _():
    make('a')
    for second in (-2**31, -1, 0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 3 * 2**32 - 1, 2**34 - 2**31 - 1):
        at = second * 10**9 + (7 if -2**31 < second < 2**34 - 2**31 - 1 else 0)
        os.utime('a', ns=(at, at))
        equal((os.stat('a').st_atime_ns, os.stat('a').st_mtime_ns), (at, at), str(second))


#: Before, at and past the ends of what an inode holds, and what becomes of it.
ENDS = [
    (-2**31 - 1, -2**31 * 10**9), (-2**31, -2**31 * 10**9), (-2**40, -2**31 * 10**9),
    (2**34 - 2**31 - 1, (2**34 - 2**31 - 1) * 10**9), (2**34, (2**34 - 2**31 - 1) * 10**9),
]


@rule('utimens: at the ends of the range and past them it is the end, without nanoseconds')
def _():
    os.mkdir('d')
    make('a')
    for second, end in ENDS:
        os.utime('d', ns=(second * 10**9 + 5, second * 10**9 + 6))
        os.utime('a', ns=(second * 10**9 + 5, OLD))
        found = os.stat('d')
        equal((found.st_atime_ns, found.st_mtime_ns, os.stat('a').st_atime_ns), (end, end, end), str(second))


@rule('utimens: at the ends of the range and past them: mtime of a file')
def _():
    make('a')
    for second, end in ENDS:
        os.utime('a', ns=(OLD, second * 10**9 + 6))
        equal(os.stat('a').st_mtime_ns, end, str(second))


@rule('utimens: UTIME_OMIT leaves a time, UTIME_NOW is now')
def _():
    make('a')
    before = time.time() - 1
    utimens('a', (1000, 0), (2000, 0))
    utimens('a', (0, UTIME_OMIT), (3000, 5))
    equal((os.stat('a').st_atime_ns, os.stat('a').st_mtime_ns), (1000 * 10**9, 3000 * 10**9 + 5))
    utimens('a', (4000, 6), (0, UTIME_OMIT))
    equal((os.stat('a').st_atime_ns, os.stat('a').st_mtime_ns), (4000 * 10**9 + 6, 3000 * 10**9 + 5))
    utimens('a', (0, UTIME_NOW), (0, UTIME_OMIT))
    equal(os.stat('a').st_mtime_ns, 3000 * 10**9 + 5)
    check(before < os.stat('a').st_atime < time.time() + 1, 'atime is not now')
    utimens('a', (1, 0), (0, UTIME_NOW))
    check(os.stat('a').st_atime == 1 and before < os.stat('a').st_mtime < time.time() + 1, 'mtime is not now')


@rule('utimens: both omitted changes nothing, and asks for no right', ROOT)
def _():
    make('a')
    before = os.stat('a')
    pause()
    as_user(USER, lambda: utimens('a', (0, UTIME_OMIT), (0, UTIME_OMIT)))
    equal(os.stat('a').st_ctime_ns, before.st_ctime_ns)


@rule('utimens: nanoseconds past a second: EINVAL')
def _():
    make('a')
    fails(E.EINVAL, utimens, 'a', (0, 10**9), (0, 0))
    fails(E.EINVAL, utimens, 'a', (0, 0), (0, -1))


@rule('utimens: rights: now for who may write, a time for the owner', ROOT)
def _():
    make('a')
    os.chmod('a', 0o666)
    as_user(USER, lambda: os.utime('a'))
    as_user(USER, lambda: fails(E.EPERM, os.utime, 'a', (1, 1)))
    as_user(USER, lambda: fails(E.EPERM, utimens, 'a', (0, UTIME_NOW), (0, UTIME_OMIT)))
    os.chmod('a', 0o644)
    as_user(USER, lambda: fails(E.EACCES, os.utime, 'a'))
    os.chown('a', USER, USER)
    os.chmod('a', 0o400)
    as_user(USER, lambda: (os.utime('a'), os.utime('a', (5, 6))))
    equal(os.stat('a').st_mtime, 6)


@rule('utimens: moves ctime to now')
def _():
    make('a')
    before = ctime('a')
    pause()
    os.utime('a', (1, 1))
    check(ctime('a') > before, 'ctime has not moved')


@rule('utimens: on a descriptor, also of an unlinked file')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.utime(fd, ns=(5, 6))
        os.unlink('a')
        equal(os.fstat(fd).st_mtime_ns, 6)
        os.utime(fd, ns=(7, 8))
        equal((os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns), (7, 8))


@rule('times: set after writing, they stay over close and fsync')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.write(fd, b'x' * 100_000)
        os.utime(fd, ns=(OLD, OLD + 5))
        os.fsync(fd)
        equal(os.fstat(fd).st_mtime_ns, OLD + 5)
    equal(os.stat('a').st_mtime_ns, OLD + 5)
    with Open('a', os.O_RDWR) as fd:
        os.write(fd, b'y')
        check(os.fstat(fd).st_mtime_ns > OLD + 5, 'mtime has not moved with a write')


@rule('times: a new file has one time: now')
def _():
    before = time.time_ns() - 10**8
    make('a')
    os.mkdir('d')
    os.mkfifo('f')
    os.symlink('x', 'l')
    for path in ('a', 'd', 'f', 'l'):
        found = os.lstat(path)
        for at in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns, Statx(path).btime):
            check(before <= at <= time.time_ns(), f'{path}: {at} is not now')


def _touch_file(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


PARENT_MOVES = {
    'open with O_CREAT': (lambda: None, lambda: _touch_file('d/new')),
    'mkdir': (lambda: None, lambda: os.mkdir('d/new')),
    'mkfifo': (lambda: None, lambda: os.mkfifo('d/new')),
    'symlink': (lambda: None, lambda: os.symlink('x', 'd/new')),
    'link': (lambda: make('a'), lambda: os.link('a', 'd/new')),
    'unlink': (lambda: make('d/old'), lambda: os.unlink('d/old')),
    'rmdir': (lambda: os.mkdir('d/old'), lambda: os.rmdir('d/old')),
    'rename from': (lambda: make('d/old'), lambda: os.rename('d/old', 'new')),
    'rename to': (lambda: make('a'), lambda: os.rename('a', 'd/new')),
    'rename within': (lambda: make('d/old'), lambda: os.rename('d/old', 'd/new')),
    'rename over': (lambda: (make('d/old'), make('a')), lambda: os.rename('a', 'd/old')),
    'exchange': (lambda: (make('d/old'), make('a')), lambda: renameat2('a', 'd/old', EXCHANGE)),
}


def parent_moves(name, before, work):
    @rule(f'times: {name} moves mtime and ctime of the folder')
    def _():
        os.mkdir('d')
        before()
        age('d')
        was = ctime('d')
        work()
        check(mtime('d') > OLD, 'mtime has not moved')
        check(ctime('d') > was, 'ctime has not moved')
        equal(os.stat('d').st_atime_ns, OLD, 'atime')


for _name, (_before, _work) in PARENT_MOVES.items():
    parent_moves(_name, _before, _work)


def _write_some():
    with Open('a', os.O_WRONLY) as fd:
        os.write(fd, b'x')


def _punch():
    with Open('a') as fd:
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 4096)


def _allocate():
    with Open('a') as fd:
        fallocate(fd, 0, 0, 100_000)


"""Which of mtime and ctime each moves, of a file with 10,000 bytes."""
FILE_MOVES = {
    'write': (_write_some, True, True),
    'truncate shorter': (lambda: os.truncate('a', 5), True, True),
    'truncate longer': (lambda: os.truncate('a', 50_000), True, True),
    'truncate to the same size': (lambda: os.truncate('a', 10_000), True, True),
    'a hole punched': (_punch, True, True),
    'fallocate that makes it longer': (_allocate, True, True),
    'chmod': (lambda: os.chmod('a', 0o600), False, True),
    'chown': (lambda: os.chown('a', os.getuid(), os.getgid()), False, True),
    'link': (lambda: os.link('a', 'b'), False, True),
    'unlink of one of two': (lambda: os.unlink('z'), False, True),
    'rename': (lambda: os.rename('a', 'b'), False, True),
    'setxattr': (lambda: os.setxattr('a', 'user.x', b'1'), False, True),
    'removexattr': (lambda: os.removexattr('a', 'user.there'), False, True),
    'reading': (lambda: slurp('a'), False, False),
    'stat': (lambda: os.stat('a'), False, False),
    'open and close': (lambda: _touch_file('a'), False, False),
    'a write of no bytes': (lambda: make_nothing('a'), False, False),
}


def make_nothing(path):
    with Open(path, os.O_WRONLY) as fd:
        os.write(fd, b'')


def file_moves(name, work, moves_mtime, moves_ctime):
    moved = ' and '.join(what for what, flag in (('mtime', moves_mtime), ('ctime', moves_ctime)) if flag) or 'neither'

    @rule(f'times: {name} moves {moved} of the file')
    def _():
        make('a', b'x' * 10_000)
        os.link('a', 'z')
        os.setxattr('a', 'user.there', b'')
        with Open('a') as fd:
            os.fsync(fd)
            age('a')
            was = ctime('a')
            work()
            found = os.fstat(fd)
            equal((found.st_mtime_ns > OLD, found.st_ctime_ns > was), (moves_mtime, moves_ctime))


for _name, (_work, _m, _c) in FILE_MOVES.items():
    file_moves(_name, _work, _m, _c)


@rule('times: reading what is cached moves atime once it is older than mtime (relatime)')
def _():
    make('a', b'x' * 10_000)
    utimens('a', (1000, 0), (2000, 0))
    slurp('a')
    check(os.stat('a').st_atime > 2000, 'atime of the file has not moved')


def uncached(path):
    """Nothing of the file is in the kernel's page cache."""
    with Open(path, os.O_RDONLY | os.O_NOATIME) as fd:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _read_direct(path):
    with Open(path, os.O_RDONLY | os.O_DIRECT) as fd, mmap.mmap(-1, 8192) as room:
        check(os.readv(fd, [room]) > 0, 'nothing was read')


def _read_mapped(path):
    with Open(path, os.O_RDONLY) as fd, mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
        equal(memory[5000], 120)


def _copy_range(path):
    with Open(path, os.O_RDONLY) as fd, Open('copy', os.O_CREAT | os.O_WRONLY) as into:
        equal(os.copy_file_range(fd, into, 10_000), 10_000)


READS = {
    'read': slurp,
    'a direct read': _read_direct,
    'a mapping': _read_mapped,
    'copy_file_range': _copy_range,
    'sendfile': lambda path: in_child(lambda: _send(path)),
}


def _send(path):
    with Open(path, os.O_RDONLY) as fd, Open('copy', os.O_CREAT | os.O_WRONLY) as into:
        equal(os.sendfile(into, fd, 0, 10_000), 10_000)


def read_moves(name, work):
    @rule(f'times: {name} of what is not cached moves atime (relatime)')
    def _():
        make('a', b'x' * 10_000)
        uncached('a')
        utimens('a', (1000, 0), (2000, 0))
        before = mtime('a'), ctime('a')
        work('a')
        check(os.stat('a').st_atime > 2000, 'atime has not moved')
        equal((mtime('a'), ctime('a')), before, 'mtime and ctime')


for _name, _work in READS.items():
    read_moves(_name, _work)


@rule('times: reading what is not cached moves atime within a day of mtime only if that is younger')
def _():
    now = int(time.time())
    for atime, moves in ((now + 600, False), (now - 25 * 3600, True)):
        make('a', b'x' * 10_000)
        uncached('a')
        pause()
        # ctime is now as well: what is younger than that has to lie ahead.
        utimens('a', (atime, 0), (500, 0))
        slurp('a')
        equal(os.stat('a').st_atime != atime, moves)


@rule('times: reading a file or a folder with the flag A leaves atime')
def _():
    make('a', b'x' * 10_000)
    uncached('a')
    os.mkdir('d')
    for path in ('a', 'd'):
        ioctls.add_flags(path, ioctls.NOATIME)
        utimens(path, (1000, 0), (2000, 0))
    slurp('a')
    os.listdir('d')
    equal([os.stat(path).st_atime for path in ('a', 'd')], [1000, 1000])


@rule('times: opening, asking and seeking leave atime')
def _():
    make('a', b'x' * 10_000)
    uncached('a')
    utimens('a', (1000, 0), (2000, 0))
    with Open('a') as fd:
        os.fstat(fd)
        os.lseek(fd, 0, os.SEEK_HOLE)
        os.fsync(fd)
    os.access('a', os.R_OK)
    os.listxattr('a')
    equal(os.stat('a').st_atime, 1000)


@rule('times: reading a folder and a link moves their atime (relatime)')
def _():
    os.mkdir('d')
    make('d/x')
    os.symlink('a', 'l')
    for path in ('d', 'l'):
        os.utime(path, (1000, 2000), follow_symlinks=False)
    os.listdir('d')
    os.readlink('l')
    check(os.stat('d').st_atime > 2000, 'atime of the folder has not moved')
    check(os.lstat('l').st_atime > 2000, 'atime of the link has not moved')


@rule('times: O_NOATIME, and reading what is younger, leave atime')
def _():
    make('a', b'x' * 10_000)
    utimens('a', (1000, 0), (500, 0))
    utimens('a', (int(time.time()) + 5, 0), (500, 0))
    before = os.stat('a').st_atime_ns
    slurp('a')
    equal(os.stat('a').st_atime_ns, before)
    uncached('a')
    utimens('a', (1000, 0), (2000, 0))
    with Open('a', os.O_RDONLY | os.O_NOATIME) as fd:
        os.read(fd, 100)
    equal(os.stat('a').st_atime, 1000)
    os.mkdir('d')
    utimens('d', (1000, 0), (2000, 0))
    with Open('d', os.O_RDONLY | os.O_NOATIME) as fd:
        os.listdir(fd)
    equal(os.stat('d').st_atime, 1000)


@rule('times: what fails moves nothing')
def _():
    make('a')
    os.mkdir('d')
    make('d/x')
    age('d', 'a', 'd/x')
    was = [os.stat(path).st_ctime_ns for path in ('a', 'd', 'd/x')]
    fails(E.EEXIST, os.mkdir, 'd/x')
    fails(E.EEXIST, os.link, 'a', 'd/x')
    fails(E.ENOENT, os.unlink, 'd/missing')
    fails((E.ENOTEMPTY, E.EEXIST), os.rmdir, 'd')
    fails(E.EEXIST, renameat2, 'a', 'd/x', NOREPLACE)
    fails(E.ENODATA, os.removexattr, 'a', 'user.none')
    equal([os.stat(path).st_ctime_ns for path in ('a', 'd', 'd/x')], was)
    equal([mtime(path) for path in ('a', 'd', 'd/x')], [OLD] * 3)


@rule('times: the time of birth stays')
def _():
    make('a')
    born = Statx('a').btime
    pause()
    os.utime('a', (1, 1))
    os.chmod('a', 0o600)
    make('a', b'again')
    os.rename('a', 'b')
    equal(Statx('b').btime, born)
    check(Statx('b').mask & 0x800, 'statx says that there is none')
