# chmod, chown, suid and sgid, sticky folders, setgid folders, access of others.

from kit import *


# -- chmod

@rule('chmod: every bit of a mode, of every kind of file')
def _():
    make('file')
    os.mkdir('folder')
    os.mkfifo('fifo')
    for name in ('file', 'folder', 'fifo'):
        for mode in (0, 0o777, 0o1777, 0o4711, 0o2755, 0o7777, 0o640):
            os.chmod(name, mode)
            equal(mode_of(name), mode, name)
        with Open(name, os.O_PATH) as fd:
            os.chmod(f'/proc/self/fd/{fd}', 0o600)
            equal(mode_of(name), 0o600)


@rule('chmod: moves ctime, not mtime; one that is refused moves nothing', ROOT)
def _():
    make('a')
    os.utime('a', (1000, 1000))
    before = ctime('a')
    pause()
    as_user(USER, lambda: fails(E.EPERM, os.chmod, 'a', 0o777))
    equal((ctime('a'), mode_of('a')), (before, 0o644))
    os.chmod('a', 0o600)
    check(ctime('a') > before, 'ctime has not moved')
    equal(os.stat('a').st_mtime, 1000)


@rule('chmod: only the owner and root', ROOT)
def _():
    make('a')
    os.chown('a', USER, SHARED_GROUP)
    for uid in (OTHER, STRANGER):
        as_user(uid, lambda: fails(E.EPERM, os.chmod, 'a', 0o777))
    as_user(USER, lambda: os.chmod('a', 0o600))
    equal(mode_of('a'), 0o600)


@rule('chmod: S_ISGID falls where the owner is not of the group', ROOT)
def _():
    make('a')
    os.chown('a', USER, 7777)
    as_user(USER, lambda: os.chmod('a', 0o2755))
    equal(mode_of('a'), 0o755)
    os.chown('a', USER, SHARED_GROUP)
    as_user(USER, lambda: os.chmod('a', 0o2755))
    equal(mode_of('a'), 0o2755)
    os.chown('a', USER, 7777)
    os.chmod('a', 0o2755)
    equal(mode_of('a'), 0o2755)


@rule('chmod: an open descriptor keeps its rights', ORDINARY)
def _():
    make('a', b'x')
    with Open('a') as fd:
        os.chmod('a', 0)
        os.write(fd, b'y')
        fails(E.EACCES, os.open, 'a', os.O_RDONLY)
    os.chmod('a', 0o600)
    equal(slurp('a'), b'y')


@rule('chmod: fchmod of an unlinked file and of a folder')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.unlink('a')
        os.fchmod(fd, 0o711)
        equal(stat.S_IMODE(os.fstat(fd).st_mode), 0o711)
    with Open('.', os.O_RDONLY) as fd:
        os.fchmod(fd, 0o711)
        equal(mode_of('.'), 0o711)


# -- chown

@rule('chown: any user and group, to 2^32 - 2; -1 leaves each', ROOT)
def _():
    make('a')
    os.symlink('a', 'l')
    for uid, gid in ((0, 0), (1, 2), (65_535, 65_536), (100_000, 4_000_000_000), (2**32 - 2, 2**32 - 2)):
        os.chown('a', uid, gid)
        equal((os.stat('a').st_uid, os.stat('a').st_gid), (uid, gid))
    os.chown('a', 5, -1)
    os.chown('a', -1, 6)
    os.chown('a', -1, -1)
    equal((os.stat('a').st_uid, os.stat('a').st_gid, os.lstat('l').st_uid), (5, 6, 0))
    os.lchown('l', 7, 8)
    equal((os.stat('a').st_uid, os.lstat('l').st_uid, os.lstat('l').st_gid), (5, 7, 8))


@rule('chown: moves ctime', ROOT)
def _():
    make('a')
    before = ctime('a')
    pause()
    os.chown('a', 5, 5)
    check(ctime('a') > before, 'ctime has not moved')


@rule('chown: the owner may give a file to a group of his, and to nobody', ROOT)
def _():
    make('a')
    os.chown('a', USER, USER)
    as_user(USER, lambda: os.chown('a', -1, SHARED_GROUP))
    equal(os.stat('a').st_gid, SHARED_GROUP)
    as_user(USER, lambda: os.chown('a', USER, USER))
    as_user(USER, lambda: fails(E.EPERM, os.chown, 'a', -1, 7777))
    as_user(USER, lambda: fails(E.EPERM, os.chown, 'a', OTHER, -1))
    as_user(OTHER, lambda: fails(E.EPERM, os.chown, 'a', -1, OTHER))
    as_user(OTHER, lambda: fails(E.EPERM, os.chown, 'a', OTHER, OTHER))
    equal((os.stat('a').st_uid, os.stat('a').st_gid), (USER, USER))


@rule('chown: by root takes suid and, where the group executes, sgid', ROOT)
def _():
    make('a')
    for mode, wanted in ((0o6755, 0o755), (0o4644, 0o644), (0o2755, 0o755), (0o2644, 0o2644), (0o6711, 0o711),
                         (0o1755, 0o1755)):
        os.chown('a', 0, 0)
        os.chmod('a', mode)
        os.chown('a', USER, SHARED_GROUP)
        equal(mode_of('a'), wanted, f'{mode:o}')
        os.chmod('a', mode)
        os.chown('a', -1, 5)
        equal(mode_of('a'), wanted, f'{mode:o}, group only')


@rule('chown: by the owner takes suid and sgid', ROOT)
def _():
    make('a')
    for mode, wanted in ((0o6755, 0o755), (0o4644, 0o644), (0o2755, 0o755), (0o6711, 0o711)):
        os.chown('a', USER, USER)
        os.chmod('a', mode)
        as_user(USER, lambda: os.chown('a', -1, SHARED_GROUP))
        equal(mode_of('a'), wanted, f'{mode:o}')


@rule('chown: folders keep their bits', ROOT)
def _():
    os.mkdir('d')
    os.chmod('d', 0o6755)
    os.chown('d', USER, SHARED_GROUP)
    equal(mode_of('d'), 0o6755)


@rule('chown: takes capabilities of a file', ROOT)
def _():
    make('a', b'', 0o755)
    capability = struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr('a', 'security.capability', capability)
    equal(os.getxattr('a', 'security.capability'), capability)
    os.chown('a', USER, USER)
    fails(E.ENODATA, os.getxattr, 'a', 'security.capability')


# -- suid and sgid on writing

def _written(mode, work, uid=USER):
    make('a', b'0123456789')
    os.chown('a', uid, SHARED_GROUP)
    os.chmod('a', mode)
    as_user(OTHER if uid != USER else USER, work)
    found = mode_of('a')
    os.unlink('a')
    return found


WAYS = {
    'write': lambda: _with(lambda fd: os.write(fd, b'x')),
    'pwrite': lambda: _with(lambda fd: os.pwrite(fd, b'x', 5)),
    'writev': lambda: _with(lambda fd: os.writev(fd, [b'x', b'y'])),
    'a write past the end': lambda: _with(lambda fd: os.pwrite(fd, b'x', 100_000)),
    'truncate': lambda: os.truncate('a', 3),
    'ftruncate': lambda: _with(lambda fd: os.ftruncate(fd, 3)),
    'O_TRUNC': lambda: os.close(os.open('a', os.O_WRONLY | os.O_TRUNC)),
    'fallocate': lambda: _with(lambda fd: fallocate(fd, 0, 0, 100_000)),
}


def _with(work):
    with Open('a', os.O_RDWR) as fd:
        work(fd)


def suid(way, work):
    @rule(f'suid: {way} by an ordinary user takes suid and sgid', ROOT)
    def _():
        os.chmod('.', 0o777)
        for mode, wanted in ((0o6777, 0o777), (0o4777, 0o777), (0o2777, 0o777), (0o4666, 0o666), (0o6776, 0o776)):
            equal(_written(mode, work), wanted, f'{mode:o}')


for _way, _work in WAYS.items():
    suid(_way, _work)


@rule('suid: direct writing takes them', ROOT)
def _():
    import mmap
    os.chmod('.', 0o777)

    def work():
        with Open('a', os.O_RDWR | os.O_DIRECT) as fd, mmap.mmap(-1, 4096) as page:
            os.pwrite(fd, page, 0)
    equal(_written(0o6777, work), 0o777)


@rule('suid: root\'s writing leaves them', ROOT)
def _():
    for work in WAYS.values():
        make('a', b'0123456789')
        os.chmod('a', 0o6777)
        work()
        equal(mode_of('a'), 0o6777)
        os.unlink('a')


@rule('suid: writing takes capabilities, whoever writes', ROOT)
def _():
    capability = struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0)
    for way, work in WAYS.items():
        if way == 'fallocate':
            continue
        make('a', b'0123456789', 0o755)
        os.setxattr('a', 'security.capability', capability)
        work()
        fails(E.ENODATA, os.getxattr, 'a', 'security.capability')
        os.unlink('a')


@rule('suid: a suid program runs as its owner', ROOT)
def _():
    os.chmod('.', 0o755)
    with open('/usr/bin/id', 'rb') as file:
        make('id', file.read(), 0o755)
    os.chown('id', OTHER, OTHER)
    os.chmod('id', 0o4755)
    mounted = os.statvfs('.').f_flag
    if mounted & os.ST_NOSUID:
        return

    def work():
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(into, 1)
            os.execv('./id', ['id', '-u'])
        os.waitpid(pid, 0)
        return os.read(out, 100).decode()
    equal(as_user(USER, work).strip(), str(OTHER))


# -- sticky folders

def sticky_case(operation, work):
    @rule(f'sticky: {operation}: by the owner of file or folder, not by others', ROOT)
    def _():
        for folder_owner, file_owner, uid, allowed in (
                (0, OTHER, USER, False), (0, USER, USER, True), (USER, OTHER, USER, True), (OTHER, OTHER, USER, False),
                (0, 0, USER, False), (0, OTHER, 0, True)):
            os.mkdir('t')
            make('t/a')
            number = os.stat('t/a').st_ino
            os.chown('t/a', file_owner, 0)
            os.chown('t', folder_owner, 0)
            os.chmod('t', 0o1777)

            def attempt():
                fails(0 if allowed else (E.EPERM, E.EACCES), work)
            attempt() if uid == 0 else as_user(uid, attempt)
            if not allowed:
                equal((os.stat('t/a').st_uid, os.stat('t/a').st_ino), (file_owner, number), 'what may not be touched')
            for name in os.listdir('t'):
                path = f't/{name}'
                os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
            os.rmdir('t')


def _replace():
    make('t/mine')
    os.rename('t/mine', 't/a')


def _exchange_sticky():
    make('t/mine')
    renameat2('t/mine', 't/a', EXCHANGE)


for _operation, _way_of in {'unlink': lambda: os.unlink('t/a'), 'rename': lambda: os.rename('t/a', 't/b'),
                            'replace by rename': _replace, 'exchange': _exchange_sticky}.items():
    sticky_case(_operation, _way_of)


@rule('sticky: rmdir', ROOT)
def _():
    os.mkdir('t')
    os.mkdir('t/d')
    os.chown('t/d', OTHER, OTHER)
    os.chmod('t', 0o1777)
    as_user(USER, lambda: fails((E.EPERM, E.EACCES), os.rmdir, 't/d'))
    as_user(OTHER, lambda: os.rmdir('t/d'))


# -- setgid folders

@rule('setgid folders: what is made there has their group; folders have the bit', ROOT)
def _():
    os.mkdir('d')
    os.chown('d', 0, 5555)
    os.chmod('d', 0o2777)
    os.umask(0)

    def work():
        os.umask(0)
        make('d/file', b'', 0o666)
        os.mkdir('d/folder', 0o755)
        os.mkfifo('d/fifo')
        os.symlink('x', 'd/link')
        os.mkdir('d/folder/deeper')
        with Open('d', os.O_TMPFILE | os.O_RDWR) as fd:
            equal(os.fstat(fd).st_gid, 5555)
    as_user(USER, work)
    for name in ('file', 'folder', 'fifo', 'link', 'folder/deeper'):
        found = os.lstat(f'd/{name}')
        equal((found.st_uid, found.st_gid), (USER, 5555), name)
    equal((mode_of('d/folder'), mode_of('d/folder/deeper') & 0o2000, mode_of('d/file')), (0o2755, 0o2000, 0o666))


@rule('setgid folders: an executable made S_ISGID by who is not of the group loses it', ROOT)
def _():
    os.mkdir('d')
    os.chown('d', 0, 5555)
    os.chmod('d', 0o2777)

    def work():
        os.umask(0)
        os.close(os.open('d/a', os.O_CREAT | os.O_WRONLY, 0o2777))
        os.close(os.open('d/b', os.O_CREAT | os.O_WRONLY, 0o2666))
        os.mknod('d/c', stat.S_IFREG | 0o2777)
    as_user(USER, work)
    equal((mode_of('d/a'), mode_of('d/b'), mode_of('d/c')), (0o777, 0o2666, 0o777))
    os.umask(0)
    os.close(os.open('d/root', os.O_CREAT | os.O_WRONLY, 0o2777))
    equal(mode_of('d/root'), 0o2777)


# -- folders and others

@rule('folders: reading, searching and writing are three rights', ROOT)
def _():
    os.mkdir('d')
    make('d/a', b'x')
    os.chown('d', OTHER, OTHER)

    def work(can_list, can_search, can_write):
        fails(0 if can_list else E.EACCES, os.listdir, 'd')
        fails(0 if can_search else E.EACCES, os.stat, 'd/a')
        fails(0 if can_write and can_search else E.EACCES, lambda: os.close(os.open('d/b', os.O_CREAT | os.O_RDWR)))
        fails(0 if can_write and can_search else E.EACCES, os.rename, 'd/b', 'd/c') if can_write and can_search else None
        fails(0 if can_write and can_search else E.EACCES, os.unlink, 'd/c' if can_write and can_search else 'd/a')
    for bits in range(8):
        os.chmod('d', 0o700 | bits)
        as_user(USER, lambda: work(bits & 4, bits & 1, bits & 2))
    equal(os.listdir('d'), ['a'])


@rule('folders: a group of the caller\'s other groups counts', ROOT)
def _():
    os.mkdir('d')
    os.chown('d', 0, SHARED_GROUP)
    os.chmod('d', 0o770)
    as_user(USER, lambda: make('d/a'))
    as_user(OTHER, lambda: os.unlink('d/a'))
    as_user(STRANGER, lambda: fails(E.EACCES, os.listdir, 'd'))
    os.chmod('d', 0o707)
    as_user(USER, lambda: fails(E.EACCES, os.listdir, 'd'))
    as_user(STRANGER, lambda: os.listdir('d'))


@rule('access(2): by the real user, faccessat with AT_EACCESS by the effective one', ROOT)
def _():
    make('a')
    os.chown('a', USER, USER)
    os.chmod('a', 0o400)

    def work():
        equal((os.access('a', os.R_OK), os.access('a', os.W_OK), os.access('a', os.X_OK)), (True, False, False))
        equal(os.access('a', os.R_OK, effective_ids=True), True)
    as_user(USER, work)
    as_user(OTHER, lambda: equal(os.access('a', os.R_OK), False))
    equal((os.access('a', os.W_OK), os.access('a', os.X_OK)), (True, False))
    os.chmod('a', 0o100)
    equal(os.access('a', os.X_OK), True)


@rule('root without CAP_DAC_OVERRIDE is a user like any: fsuid', ROOT)
def _():
    make('a')
    os.chmod('a', 0o600)

    def work():
        LIBC.setfsuid(USER)
        fails(E.EACCES, os.open, 'a', os.O_RDONLY)
        LIBC.setfsuid(0)
        os.close(os.open('a', os.O_RDONLY))
    in_child(work)


# -- what /proc/sys/fs protects

def is_protected(what):
    with open(f'/proc/sys/fs/protected_{what}') as file:
        return file.read().strip() != '0'


@rule('protected_hardlinks: no link to another\'s file that one may not read and write, or that is suid', ROOT)
def _():
    os.chmod('.', 0o777)
    for name, mode, may in (('read', 0o644, False), ('both', 0o666, True), ('suid', 0o4777, False),
                            ('sgid', 0o2777, False), ('none', 0o600, False)):
        make(name)
        os.chmod(name, mode)
        expected = 0 if may or not is_protected('hardlinks') else E.EPERM
        as_user(USER, lambda: fails(expected, os.link, name, f'{name}-link'))
        os.chown(name, USER, USER)
        os.chmod(name, mode)
        as_user(USER, lambda: os.link(name, f'{name}-own'))
    os.mkfifo('fifo', 0o666)
    os.chmod('fifo', 0o666)
    as_user(USER, lambda: fails(E.EPERM if is_protected('hardlinks') else 0, os.link, 'fifo', 'fifo-link'))


@rule('protected_symlinks: in a sticky folder that all may write, links lead only their owner\'s way', ROOT)
def _():
    make('target', b'x')
    os.mkdir('t')
    os.chmod('t', 0o1777)
    as_user(OTHER, lambda: os.symlink('../target', 't/theirs'))
    as_user(USER, lambda: os.symlink('../target', 't/mine'))
    os.symlink('../target', 't/folders-owner')
    expected = E.EACCES if is_protected('symlinks') else 0
    as_user(USER, lambda: fails(expected, slurp, 't/theirs'))
    as_user(USER, lambda: equal((slurp('t/mine'), slurp('t/folders-owner')), (b'x', b'x')))
    as_user(USER, lambda: equal(os.readlink('t/theirs'), '../target'))


@rule('protected_regular and protected_fifos: O_CREAT of another\'s in a sticky folder: EACCES', ROOT)
def _():
    os.mkdir('t')
    os.chmod('t', 0o1777)
    as_user(OTHER, lambda: (make('t/file'), os.chmod('t/file', 0o666), os.mkfifo('t/fifo'), os.chmod('t/fifo', 0o666)))
    for name, what in (('file', 'regular'), ('fifo', 'fifos')):
        expected = E.EACCES if is_protected(what) else 0
        flags = os.O_RDWR | os.O_NONBLOCK
        as_user(USER, lambda: fails(expected, lambda: os.close(os.open(f't/{name}', flags | os.O_CREAT))))
        as_user(USER, lambda: os.close(os.open(f't/{name}', flags)))
        as_user(OTHER, lambda: os.close(os.open(f't/{name}', flags | os.O_CREAT)))
