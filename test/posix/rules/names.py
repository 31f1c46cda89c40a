# Names: rename with its flags, link, unlink, mkdir, rmdir, symlink, mknod, O_TMPFILE.

import socket

from kit import *


# -- rename

@rule('rename: a file moves, keeps its inode and its contents')
def _():
    make('a', b'a')
    os.mkdir('d')
    inode = os.stat('a').st_ino
    os.rename('a', 'd/b')
    equal((exists('a'), slurp('d/b'), os.stat('d/b').st_ino), (False, b'a', inode))


KINDS = {
    'file': lambda path: make(path, b'file'),
    'folder': os.mkdir,
    'fifo': os.mkfifo,
    'symlink': lambda path: os.symlink('nowhere', path),
}


def replaces(old, new):
    wanted = E.EISDIR if new == 'folder' and old != 'folder' else E.ENOTDIR if old == 'folder' and new != 'folder' else 0

    @rule(f'rename: a {old} over a {new}: {code_of(wanted)}')
    def _():
        KINDS[old]('old')
        KINDS[new]('new')
        before = os.lstat('old').st_ino, os.lstat('new').st_ino
        fails(wanted, os.rename, 'old', 'new')
        if wanted:
            equal((os.lstat('old').st_ino, os.lstat('new').st_ino), before)
        else:
            equal((exists('old'), os.lstat('new').st_ino), (False, before[0]))

    @rule(f'rename: RENAME_EXCHANGE of a {old} and a {new}')
    def _():
        os.mkdir('d')
        KINDS[old]('a')
        KINDS[new]('d/b')
        before = os.lstat('a').st_ino, os.lstat('d/b').st_ino
        renameat2('a', 'd/b', EXCHANGE)
        equal((os.lstat('d/b').st_ino, os.lstat('a').st_ino), before)
        equal(os.stat('.').st_nlink, 3 + (new == 'folder'))
        equal(os.stat('d').st_nlink, 2 + (old == 'folder'))
        if new == 'folder':
            equal(os.stat('a/..').st_ino, os.stat('.').st_ino)

    @rule(f'rename: RENAME_NOREPLACE of a {old} to a {new}: EEXIST')
    def _():
        KINDS[old]('old')
        KINDS[new]('new')
        fails(E.EEXIST, renameat2, 'old', 'new', NOREPLACE)
        equal(sorted(os.listdir('.')), ['new', 'old'])


for _old in KINDS:
    for _new in KINDS:
        replaces(_old, _new)


@rule('rename: RENAME_NOREPLACE to a new name')
def _():
    make('a', b'a')
    renameat2('a', 'b', NOREPLACE)
    equal((os.listdir('.'), slurp('b')), (['b'], b'a'))


@rule('rename: flags that do not go together, and unknown ones: EINVAL')
def _():
    make('a')
    make('b')
    for flags in (NOREPLACE | EXCHANGE, EXCHANGE | WHITEOUT, 8, 1 << 31):
        fails(E.EINVAL, renameat2, 'a', 'b', flags)


@rule('rename: RENAME_WHITEOUT leaves a character device 0,0', ROOT)
def _():
    make('a', b'a')
    renameat2('a', 'b', WHITEOUT)
    found = os.lstat('a')
    equal((stat.S_IFMT(found.st_mode), found.st_rdev, stat.S_IMODE(found.st_mode)), (stat.S_IFCHR, 0, 0))
    make('c', b'c')
    renameat2('c', 'b', WHITEOUT)
    equal((slurp('b'), stat.S_ISCHR(os.lstat('c').st_mode)), (b'c', True))
    make('e')
    fails(E.EEXIST, renameat2, 'e', 'b', WHITEOUT | NOREPLACE)


@rule('rename: RENAME_WHITEOUT needs no privilege', ORDINARY)
def _():
    make('a', b'a')
    renameat2('a', 'b', WHITEOUT)
    equal((slurp('b'), os.lstat('a').st_rdev), (b'a', 0))
    os.unlink('a')


@rule('rename: a folder over an empty one takes its place; over one with entries: ENOTEMPTY')
def _():
    os.mkdir('a')
    make('a/x')
    os.mkdir('empty')
    os.rename('a', 'empty')
    equal((exists('a'), os.listdir('empty')), (False, ['x']))
    os.mkdir('b')
    fails((E.ENOTEMPTY, E.EEXIST), os.rename, 'b', 'empty')
    equal(os.stat('.').st_nlink, 4)


@rule('rename: a folder not below itself: EINVAL')
def _():
    os.makedirs('a/b/c')
    fails(E.EINVAL, os.rename, 'a', 'a/x')
    fails(E.EINVAL, os.rename, 'a', 'a/b/c/x')
    fails((E.ENOTEMPTY, E.EEXIST), os.rename, 'a/b/c', 'a')
    os.mkdir('z')
    fails(E.EINVAL, renameat2, 'a', 'a/b', EXCHANGE)
    fails((E.EINVAL, E.ENOTEMPTY), renameat2, 'a/b', 'a', EXCHANGE)


@rule('rename: "." and "..": EBUSY or EINVAL')
def _():
    os.mkdir('d')
    fails((E.EBUSY, E.EINVAL), os.rename, 'd/.', 'x')
    fails((E.EBUSY, E.EINVAL), os.rename, 'd/..', 'x')
    fails((E.EBUSY, E.EINVAL), os.rename, 'd', 'd/..')
    fails((E.EBUSY, E.EINVAL, E.EEXIST, E.ENOTEMPTY), os.rename, 'd', '.')


@rule('rename: to itself, and to another link of the same file, does nothing')
def _():
    make('a', b'a')
    os.link('a', 'b')
    os.rename('a', 'a')
    os.rename('a', 'b')
    equal((sorted(os.listdir('.')), os.stat('a').st_nlink), (['a', 'b'], 2))


@rule('rename: ".." and link counts follow a moved folder')
def _():
    os.makedirs('one/d')
    os.mkdir('two')
    os.rename('one/d', 'two/d')
    equal((os.stat('one').st_nlink, os.stat('two').st_nlink), (2, 3))
    equal(os.stat('two/d/..').st_ino, os.stat('two').st_ino)
    os.chdir('two/d')
    os.rename('../../two', '../../three')
    equal(os.path.basename(os.getcwd()), 'd')
    equal(os.stat('..').st_ino, os.stat('../../three').st_ino)


@rule('rename: a replaced file stays readable where it is open, with 0 links')
def _():
    make('old', b'old')
    make('new', b'new')
    with Open('old') as fd:
        os.rename('new', 'old')
        equal((os.read(fd, 10), os.fstat(fd).st_nlink), (b'old', 0))
    equal(slurp('old'), b'new')


@rule('rename: a replaced file with another link keeps it, with one link less and a new ctime')
def _():
    make('a', b'a')
    os.link('a', 'other')
    make('b')
    before = ctime('other')
    pause()
    os.rename('b', 'a')
    equal((os.stat('other').st_nlink, slurp('other')), (1, b'a'))
    check(ctime('other') > before, 'ctime has not moved')


@rule('rename: a replaced folder in which a process stands takes no new names')
def _():
    os.mkdir('a')
    os.mkdir('b')
    os.chdir('b')
    os.rename('../a', '../b')
    fails(E.ENOENT, make, 'x')
    equal(os.listdir('.'), [])


@rule('rename: a folder of another: its ".." is written, so its owner must agree', ORDINARY)
def _():
    os.mkdir('from')
    os.mkdir('to')
    os.mkdir('from/d')
    os.chmod('from/d', 0o555)
    fails(E.EACCES, os.rename, 'from/d', 'to/d')
    os.rename('from/d', 'from/e')


# -- link

@rule('link: a new name of the same inode')
def _():
    make('a', b'a')
    os.link('a', 'b')
    one, two = os.stat('a'), os.stat('b')
    equal((one.st_ino, one.st_nlink), (two.st_ino, 2))
    os.unlink('a')
    equal((os.stat('b').st_nlink, slurp('b')), (1, b'a'))


@rule('link: folders: EPERM')
def _():
    os.mkdir('d')
    fails(E.EPERM, os.link, 'd', 'e')


@rule('link: of a symbolic link itself, or of what it leads to')
def _():
    make('a')
    os.symlink('a', 'l')
    os.link('l', 'same', follow_symlinks=False)
    equal((os.lstat('same').st_ino, os.lstat('l').st_nlink), (os.lstat('l').st_ino, 2))
    linkat(AT_FDCWD, 'l', 'target', AT_SYMLINK_FOLLOW)
    equal(os.lstat('target').st_ino, os.stat('a').st_ino)


@rule('link: special files')
def _():
    os.mkfifo('fifo')
    os.link('fifo', 'fifo2')
    equal((os.lstat('fifo2').st_ino, os.lstat('fifo').st_nlink), (os.lstat('fifo').st_ino, 2))


@rule('link: a file without a name left: ENOENT')
def _():
    make('a')
    with Open('a') as fd:
        os.unlink('a')
        fails(E.ENOENT, linkat, AT_FDCWD, f'/proc/self/fd/{fd}', 'b', AT_SYMLINK_FOLLOW)


@rule('link: AT_EMPTY_PATH', ROOT)
def _():
    make('a', b'a')
    with Open('a') as fd:
        linkat(fd, '', 'b', AT_EMPTY_PATH)
    equal(os.stat('b').st_nlink, 2)


# -- unlink and rmdir

@rule('unlink: each kind but folders')
def _():
    for kind, maker in KINDS.items():
        maker(kind)
    for kind in KINDS:
        if kind != 'folder':
            os.unlink(kind)
    equal(os.listdir('.'), ['folder'])
    fails((E.EISDIR, E.EPERM), os.unlink, 'folder')
    fails((E.EISDIR, E.EPERM, E.EBUSY), os.unlink, '.')


@rule('unlink: an open file lives on: read, written, cut, its attributes changed')
def _():
    make('a', b'data')
    with Open('a') as fd:
        os.unlink('a')
        equal((os.fstat(fd).st_nlink, os.listdir('.')), (0, []))
        os.pwrite(fd, b'more', 4)
        equal(os.pread(fd, 10, 0), b'datamore')
        os.ftruncate(fd, 2)
        os.fchmod(fd, 0o600)
        os.setxattr(fd, 'user.a', b'v')
        os.fsync(fd)
        found = os.fstat(fd)
        equal((found.st_size, stat.S_IMODE(found.st_mode), os.getxattr(fd, 'user.a')), (2, 0o600, b'v'))
        make('a', b'other')
        equal(os.pread(fd, 10, 0), b'da')


@rule('unlink: of an open file frees its space at the last close')
def _():
    def free():
        return os.statvfs('.').f_bfree
    before = free()
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        fallocate(fd, 0, 0, 16 * MIB)
        os.unlink('a')
        check(before - free() >= 3500, 'the space of an open file was given away')
    for _ in range(100):
        if before - free() < 1000:
            return
        pause()
    check(False, f'{before - free()} blocks are still taken')


@rule('rmdir: empty folders only, and not "." or ".."')
def _():
    os.makedirs('d/e')
    fails((E.ENOTEMPTY, E.EEXIST), os.rmdir, 'd')
    fails(E.EINVAL, os.rmdir, 'd/e/.')
    fails((E.ENOTEMPTY, E.EEXIST), os.rmdir, 'd/e/..')
    make('f')
    fails(E.ENOTDIR, os.rmdir, 'f')
    os.symlink('d/e', 'l')
    fails(E.ENOTDIR, os.rmdir, 'l')
    os.rmdir('d/e')
    equal((os.stat('d').st_nlink, os.stat('.').st_nlink), (2, 3))
    os.rmdir('d')


@rule('rmdir: a folder in which a process stands: it lists nothing and takes nothing')
def _():
    os.mkdir('d')
    with Open('d', os.O_RDONLY) as fd:
        os.rmdir('d')
        equal((os.listdir(fd), os.fstat(fd).st_nlink), ([], 0))
        fails(E.ENOENT, os.open, 'x', os.O_CREAT | os.O_WRONLY, dir_fd=fd)
        fails(E.ENOENT, os.mkdir, 'x', dir_fd=fd)
        os.fsync(fd)


# -- mkdir

@rule('mkdir: mode less umask, links, "." and ".."')
def _():
    os.umask(0o027)
    os.mkdir('d', 0o777)
    found = os.stat('d')
    equal((stat.S_IMODE(found.st_mode), found.st_nlink, os.stat('.').st_nlink), (0o750, 2, 3))
    equal((os.stat('d/.').st_ino, os.stat('d/..').st_ino), (found.st_ino, os.stat('.').st_ino))
    equal((found.st_uid, found.st_gid), (os.geteuid(), os.getegid()))
    os.umask(0)
    os.mkdir('sticky', 0o1777)
    equal(mode_of('sticky'), 0o1777)


# -- symlink

@rule('symlink: targets of 1 to 4,095 bytes')
def _():
    for length in (1, 58, 59, 60, 61, 255, 1000, 2048, 4094, 4095):
        target = (b'/t' * 2048)[:length]
        name = f'l{length}'
        os.symlink(target, name)
        equal(os.fsencode(os.readlink(name)), target)
        found = os.lstat(name)
        equal((found.st_size, stat.S_IMODE(found.st_mode), found.st_nlink), (length, 0o777, 1))
    fails(E.ENAMETOOLONG, os.symlink, 't' * 4096, 'x')
    fails(E.ENOENT, os.symlink, '', 'x')


@rule('symlink: a target of any bytes')
def _():
    target = bytes(range(1, 256))
    os.symlink(target, 'l')
    equal(os.fsencode(os.readlink(b'l')), target)


@rule('symlink: readlink cuts to the room there is; what is none: EINVAL')
def _():
    os.symlink('0123456789', 'l')
    room = ctypes.create_string_buffer(b'x' * 9)
    equal((call('readlink', 'l', room, 4), room.raw[:5]), (4, b'0123x'))
    make('f')
    fails(E.EINVAL, os.readlink, 'f')
    fails(E.EINVAL, os.readlink, '.')


@rule('symlink: owner and times are its own')
def _():
    make('f')
    os.utime('f', (1000, 1000))
    os.symlink('f', 'l')
    os.utime('l', ns=(10**9 + 5, 2 * 10**9 + 7), follow_symlinks=False)
    found = os.lstat('l')
    equal((found.st_atime_ns, found.st_mtime_ns, os.stat('l').st_mtime), (10**9 + 5, 2 * 10**9 + 7, 1000))
    os.lchown('l', os.getuid(), os.getgid())
    fails(E.EOPNOTSUPP, call, 'fchmodat', AT_FDCWD, 'l', 0o600, AT_SYMLINK_NOFOLLOW)


# -- mknod

@rule('mknod: fifos, sockets and files for everyone')
def _():
    os.umask(0o022)
    os.mknod('file', stat.S_IFREG | 0o666)
    os.mknod('fifo', stat.S_IFIFO | 0o666)
    os.mknod('socket', stat.S_IFSOCK | 0o666)
    for name, kind in (('file', stat.S_IFREG), ('fifo', stat.S_IFIFO), ('socket', stat.S_IFSOCK)):
        found = os.lstat(name)
        equal((stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode), found.st_size), (kind, 0o644, 0), name)
    fails((E.EINVAL, E.EPERM), os.mknod, 'folder', stat.S_IFDIR | 0o755)
    fails(E.EINVAL, os.mknod, 'what', 0o030000)


@rule('mknod: devices need privilege', ORDINARY)
def _():
    fails(E.EPERM, os.mknod, 'c', stat.S_IFCHR | 0o600, os.makedev(1, 3))
    fails(E.EPERM, os.mknod, 'b', stat.S_IFBLK | 0o600, os.makedev(7, 0))


@rule('mknod: devices of every number', ROOT)
def _():
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for major, minor in ((1, 3), (0, 1), (255, 255), (256, 0), (4095, 0xFFFFF), (300, 70_000)):
            name = f'{kind}-{major}-{minor}'
            os.mknod(name, kind | 0o640, os.makedev(major, minor))
            found = os.lstat(name)
            equal((stat.S_IFMT(found.st_mode), found.st_rdev), (kind, os.makedev(major, minor)), name)
    os.mknod('null', stat.S_IFCHR | 0o666, os.makedev(1, 3))
    make('null', b'gone')
    equal((slurp('null'), os.lstat('null').st_size), (b'', 0))


@rule('mknod: a fifo carries bytes; a socket is connected to')
def _():
    os.mkfifo('fifo')
    reader = os.open('fifo', os.O_RDONLY | os.O_NONBLOCK)
    with Open('fifo', os.O_WRONLY) as writer:
        os.write(writer, b'through')
        equal(os.read(reader, 100), b'through')
    os.close(reader)
    fails(E.ENXIO, os.open, 'fifo', os.O_WRONLY | os.O_NONBLOCK)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind('socket')
        server.listen()
        client.connect('socket')
        fails(E.EADDRINUSE, socket.socket(socket.AF_UNIX).bind, 'socket')
    fails(E.ENXIO, os.open, 'socket', os.O_RDONLY)
    fails(E.ECONNREFUSED, socket.socket(socket.AF_UNIX).connect, 'socket')


# -- O_TMPFILE

@rule('O_TMPFILE: written, linked by /proc, and then a file like any')
def _():
    with Open('.', os.O_TMPFILE | os.O_RDWR, 0o666) as fd:
        os.write(fd, b'data')
        equal((os.fstat(fd).st_nlink, os.listdir('.'), stat.S_IMODE(os.fstat(fd).st_mode)), (0, [], 0o644))
        linkat(AT_FDCWD, f'/proc/self/fd/{fd}', 'a', AT_SYMLINK_FOLLOW)
        equal(os.fstat(fd).st_nlink, 1)
        os.write(fd, b'more')
        os.link('a', 'b')
    equal((slurp('a'), os.stat('b').st_nlink), (b'datamore', 2))


@rule('O_TMPFILE: with O_EXCL it gets no name; without the right to write it is refused')
def _():
    with Open('.', os.O_TMPFILE | os.O_RDWR | os.O_EXCL) as fd:
        fails(E.ENOENT, linkat, AT_FDCWD, f'/proc/self/fd/{fd}', 'a', AT_SYMLINK_FOLLOW)
    fails(E.EINVAL, os.open, '.', os.O_TMPFILE | os.O_RDONLY)
    make('file')
    fails(E.ENOTDIR, os.open, 'file', os.O_TMPFILE | os.O_RDWR)
    fails(E.ENOENT, os.open, 'missing', os.O_TMPFILE | os.O_RDWR)


@rule('O_TMPFILE: linked with a name that is there: EEXIST, and then another name')
def _():
    make('a')
    with Open('.', os.O_TMPFILE | os.O_RDWR) as fd:
        fails(E.EEXIST, linkat, AT_FDCWD, f'/proc/self/fd/{fd}', 'a', AT_SYMLINK_FOLLOW)
        linkat(AT_FDCWD, f'/proc/self/fd/{fd}', 'b', AT_SYMLINK_FOLLOW)
        os.unlink('b')
        fails(E.ENOENT, linkat, AT_FDCWD, f'/proc/self/fd/{fd}', 'b', AT_SYMLINK_FOLLOW)


@rule('O_TMPFILE: takes space while it is open, and gives it back at the last close')
def _():
    before = os.statvfs('.')
    with Open('.', os.O_TMPFILE | os.O_RDWR) as fd:
        os.write(fd, b'x' * 4 * MIB)
        os.fsync(fd)
        equal((os.fstat(fd).st_nlink, os.listdir('.')), (0, []))
        check(before.f_bfree - os.statvfs('.').f_bfree >= 1024, 'it takes no space')
        copy = os.dup(fd)
    equal(os.pread(copy, 5, 4 * MIB - 5), b'xxxxx')
    os.close(copy)
    for _ in range(200):
        after = os.statvfs('.')
        if after.f_bfree >= before.f_bfree - 8 and after.f_ffree == before.f_ffree:
            return
        pause()
    equal((after.f_bfree, after.f_ffree), (before.f_bfree, before.f_ffree))
