# Every operation that takes a path, under every condition of a path that it must refuse.

from kit import *

LONG = 'n' * 256


def _rename_away(path):
    os.rename(path, 'elsewhere')


def _rename_here(path):
    make('something')
    try:
        os.rename('something', path)
    finally:
        if exists('something'):
            os.unlink('something')


def _link_here(path):
    make('something')
    try:
        os.link('something', path)
    finally:
        os.unlink('something')


def _exchange(path):
    make('something')
    renameat2('something', path, EXCHANGE)


EXISTING = {
    'open for reading': lambda path: os.close(os.open(path, os.O_RDONLY)),
    'open for writing': lambda path: os.close(os.open(path, os.O_WRONLY)),
    'open with O_TRUNC': lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    'open with O_PATH': lambda path: os.close(os.open(path, os.O_PATH)),
    'stat': os.stat,
    'statx': lambda path: Statx(path, 0),
    'lstat': os.lstat,
    'access': lambda path: call('access', path, 0),
    'chmod': lambda path: os.chmod(path, 0o600),
    'chown': lambda path: os.chown(path, os.getuid(), os.getgid()),
    'lchown': lambda path: os.lchown(path, os.getuid(), os.getgid()),
    'truncate': lambda path: os.truncate(path, 0),
    'utimensat': lambda path: os.utime(path, (1, 2)),
    'unlink': os.unlink,
    'rmdir': os.rmdir,
    'rename from': _rename_away,
    'rename exchanging': _exchange,
    'link from': lambda path: os.link(path, 'elsewhere'),
    'readlink': os.readlink,
    'listdir': os.listdir,
    'chdir': os.chdir,
    'setxattr': lambda path: os.setxattr(path, 'user.a', b''),
    'getxattr': lambda path: os.getxattr(path, 'user.a'),
    'listxattr': os.listxattr,
    'removexattr': lambda path: os.removexattr(path, 'user.a'),
    'statvfs': os.statvfs,
    'execve': lambda path: os.execv(path, ['x']),
}
CREATING = {
    'open with O_CREAT': lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    'open with O_EXCL': lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    'mkdir': os.mkdir,
    'mkfifo': os.mkfifo,
    'mknod': lambda path: os.mknod(path, stat.S_IFREG | 0o600),
    'symlink': lambda path: os.symlink('target', path),
    'link to': _link_here,
    'rename to': _rename_here,
}
ALL = {**EXISTING, **CREATING}


def conditions(name, operation):
    @rule(f'paths: {name}: ENOTDIR below a file')
    def _():
        make('file')
        fails(E.ENOTDIR, operation, 'file/x')

    @rule(f'paths: {name}: ENOENT below a folder that is not there')
    def _():
        fails(E.ENOENT, operation, 'missing/x')

    @rule(f'paths: {name}: ENOENT for an empty path')
    def _():
        fails(E.ENOENT, operation, '')

    @rule(f'paths: {name}: ENAMETOOLONG for names of 256 bytes')
    def _():
        fails(E.ENAMETOOLONG, operation, LONG)
        fails(E.ENAMETOOLONG, operation, f'{LONG}/x')
        fails(E.ENAMETOOLONG, operation, 'x/' * 2047 + 'xx')

    @rule(f'paths: {name}: ELOOP through a symbolic link to itself')
    def _():
        os.symlink('loop', 'loop')
        fails(E.ELOOP, operation, 'loop/x')

    @rule(f'paths: {name}: EACCES without the right to search a folder', ORDINARY)
    def _():
        os.mkdir('folder')
        make('folder/x')
        os.chmod('folder', 0o600)
        fails(E.EACCES, operation, 'folder/x')
        os.chmod('folder', 0o700)


for _name, _operation in ALL.items():
    conditions(_name, _operation)


def missing(name, operation):
    @rule(f'paths: {name}: ENOENT for what is not there, and for where a symbolic link leads nowhere')
    def _():
        fails(E.ENOENT, operation, 'missing')
        if name not in ('lstat', 'lchown', 'unlink', 'rmdir', 'rename from', 'rename exchanging', 'readlink',
                        'link from', 'statx'):
            os.symlink('nowhere', 'dangling')
            fails(E.ENOENT, operation, 'dangling')


for _name, _operation in EXISTING.items():
    missing(_name, _operation)


def creating(name, operation):
    @rule(f'paths: {name}: EACCES without the right to write to the folder', ORDINARY)
    def _():
        os.mkdir('folder')
        os.chmod('folder', 0o555)
        if name in ('link to', 'rename to'):
            make('something')
        fails(E.EACCES, operation, 'folder/x')
        os.chmod('folder', 0o755)
        equal(os.listdir('folder'), [])

    @rule(f'paths: {name}: ENOENT in a folder that was removed')
    def _():
        os.mkdir('folder')
        os.chdir('folder')
        os.rmdir('../folder')
        if name in ('link to', 'rename to'):
            make('../something')
            work = os.link if name == 'link to' else os.rename
            fails(E.ENOENT, work, '../something', 'x')
        else:
            fails(E.ENOENT, operation, 'x')

    if name not in ('open with O_CREAT', 'rename to'):
        @rule(f'paths: {name}: EEXIST for every kind of what is there')
        def _():
            make('file')
            os.mkdir('folder')
            os.mkfifo('fifo')
            os.symlink('file', 'link')
            os.symlink('nowhere', 'dangling')
            for path in ('file', 'folder', 'fifo', 'link', 'dangling'):
                fails(E.EEXIST, operation, path)
            fails(E.EEXIST, operation, '.') if name != 'open with O_EXCL' else None
            equal(sorted(os.listdir('.')), ['dangling', 'fifo', 'file', 'folder', 'link'])


for _name, _operation in CREATING.items():
    creating(_name, _operation)


@rule('paths: names of 255 bytes are made, found, renamed and removed')
def _():
    name = 'n' * 255
    make(name, b'x')
    os.link(name, 'm' * 255)
    os.mkdir('d' * 255)
    os.rename(name, 'd' * 255 + '/' + name)
    equal((slurp('d' * 255 + '/' + name), os.listdir('d' * 255)), (b'x', [name]))
    os.unlink('d' * 255 + '/' + name)
    os.rmdir('d' * 255)
    equal(os.listdir('.'), ['m' * 255])


@rule('paths: a name may have every byte but slash and NUL')
def _():
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b'/.'] + [b'..\xff', b'...', b'\xff' * 255]
    for name in names:
        make(name, name)
    equal(sorted(os.listdir(b'.')), sorted(names))
    for name in names:
        equal(slurp(name), name)
        os.unlink(name)
    equal(os.listdir(b'.'), [])


@rule('paths: names are bytes: neither case nor form is folded')
def _():
    names = ['a', 'A', '\u00e4', 'a\u0308', '\u00c4', 'ss', '\u00df']
    for name in names:
        make(name, name.encode())
    equal(sorted(os.listdir('.')), sorted(names))
    for name in names:
        equal(slurp(name), name.encode())


@rule('paths: a slash at the end asks for a folder')
def _():
    make('file')
    os.mkdir('folder')
    os.symlink('folder', 'link')
    fails(E.ENOTDIR, os.stat, 'file/')
    fails(E.EISDIR, os.open, 'new/', os.O_CREAT | os.O_WRONLY)
    fails(E.ENOENT, os.mknod, 'new/', stat.S_IFREG | 0o600)
    fails(E.ENOENT, os.symlink, 'x', 'new/')
    fails(E.ENOTDIR, os.unlink, 'file/')
    fails(E.ENOTDIR, os.rename, 'file/', 'x')
    fails(E.ENOTDIR, os.rename, 'file', 'x/')
    equal(stat.S_ISDIR(os.lstat('link/').st_mode), True)
    fails(E.ENOTDIR, os.rmdir, 'link/')
    os.mkdir('made/')
    os.rename('made/', 'moved/')
    os.rmdir('moved/')


@rule('paths: 40 symbolic links in a row are followed, 41 are not')
def _():
    make('l0', b'end')
    for number in range(1, 42):
        os.symlink(f'l{number - 1}', f'l{number}')
    equal(slurp('l40'), b'end')
    fails(E.ELOOP, os.open, 'l41', os.O_RDONLY)


@rule('paths: a path of 4,095 bytes is followed')
def _():
    make('x')
    os.stat('./' * 2047 + 'x')
    fails(E.ENAMETOOLONG, os.stat, './' * 2047 + 'xx')


@rule('paths: folders 300 deep')
def _():
    start = os.open('.', os.O_RDONLY)
    for number in range(300):
        os.mkdir(f'level-{number:04}-of-the-deep-tree')
        os.chdir(f'level-{number:04}-of-the-deep-tree')
    make('deepest', b'x')
    inode = os.stat('deepest').st_ino
    for _ in range(300):
        os.chdir('..')
    check(os.path.sameopenfile(start, os.open('.', os.O_RDONLY)), '.. did not lead back')
    for number in range(300):
        os.chdir(f'level-{number:04}-of-the-deep-tree')
    equal((slurp('deepest'), os.stat('deepest').st_ino), (b'x', inode))
