# What is known of inodes and of the file system: statx, statfs, numbers and generations, handles, the
# flags of chattr(1), and trimming.

import fcntl
import threading

import ioctls
from ioctls import APPEND, IMMUTABLE
from kit import *


# -- stat

@rule('stat: a new file and a new folder')
def _():
    make('a', b'x' * 5000)
    with Open('a') as fd:
        os.fsync(fd)
    found = os.stat('a')
    equal((stat.S_IFMT(found.st_mode), found.st_nlink, found.st_size, found.st_blocks, found.st_blksize),
          (stat.S_IFREG, 1, 5000, 16, 4096))
    os.mkdir('d')
    found = os.stat('d')
    equal((stat.S_IFMT(found.st_mode), found.st_nlink, found.st_size, found.st_blocks), (stat.S_IFDIR, 2, 4096, 8))
    equal(found.st_dev, os.stat('a').st_dev)


@rule('statx: says the same as stat, and the birth time')
def _():
    make('a', b'x')
    one, two = os.stat('a'), Statx('a')
    equal((two.ino, two.mode, two.nlink, two.uid, two.gid, two.size, two.blocks),
          (one.st_ino, one.st_mode, one.st_nlink, one.st_uid, one.st_gid, one.st_size, one.st_blocks))
    equal((two.atime, two.mtime, two.ctime, two.btime), (one.st_atime_ns, one.st_mtime_ns, one.st_ctime_ns,
                                                         two.btime))
    equal(two.mask & 0xFFF, 0xFFF)
    check(two.btime <= two.mtime, 'born after it was written')


@rule('statx: AT_EMPTY_PATH, and forced or cached attributes')
def _():
    make('a', b'x')
    for flags in (0x2000, 0x4000):
        equal(Statx('a', flags).size, 1)
    fails(E.EINVAL, Statx, 'a', 0x6000)
    fails(E.EINVAL, Statx, 'a', 0, 1 << 31)


@rule('statx: attributes say what is immutable and append-only', ROOT)
def _():
    make('a')
    for flag in (IMMUTABLE, APPEND):
        ioctls.add_flags('a', flag)
        found = Statx('a')
        ioctls.set_flags('a', ioctls.get_flags('a') & ~flag)
        equal(found.attributes & flag, flag)


@rule('statvfs: blocks and inodes are taken and given back')
def _():
    before = os.statvfs('.')
    equal((before.f_bsize, before.f_frsize, before.f_namemax), (4096, 4096, 255))
    make('a', b'x' * (4 * MIB))
    os.mkdir('d')
    with Open('a') as fd:
        os.fsync(fd)
    after = os.statvfs('.')
    equal((before.f_blocks, before.f_files), (after.f_blocks, after.f_files))
    check(1024 <= before.f_bfree - after.f_bfree <= 1100, f'4 MiB took {before.f_bfree - after.f_bfree} blocks')
    equal(before.f_ffree - after.f_ffree, 2)
    check(after.f_bavail <= after.f_bfree, 'more available than free')
    os.unlink('a')
    os.rmdir('d')
    equal(os.statvfs('.').f_ffree, before.f_ffree)


# -- numbers and generations

@rule('inode numbers: an open file keeps its own; a new file gets another')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        number = os.fstat(fd).st_ino
        os.unlink('a')
        for count in range(50):
            make(f'{count}')
            check(os.stat(f'{count}').st_ino != number, 'the number of an open file was given away')


@rule('generations: a number used again has another')
def _():
    seen = set()
    for _ in range(30):
        make('a')
        pair = os.stat('a').st_ino, ioctls.generation('a')
        check(pair not in seen, 'the same number and generation twice')
        seen.add(pair)
        os.unlink('a')


# -- file handles

@rule('handles: opened again, also after a rename', ROOT)
def _():
    make('a', b'data')
    os.mkdir('d')
    handle, folder = Handle('a'), Handle('d')
    os.rename('a', 'd/b')
    fd = handle.open()
    equal(os.read(fd, 10), b'data')
    os.close(fd)
    fd = folder.open(os.O_RDONLY | os.O_DIRECTORY)
    equal(os.listdir(fd), ['b'])
    os.close(fd)
    equal(Handle('d/b').bytes(), handle.bytes())


@rule('handles: of what is gone: ESTALE, also when the number is used again', ROOT)
def _():
    make('a', b'data')
    number = os.stat('a').st_ino
    handle = Handle('a')
    os.unlink('a')
    fails(E.ESTALE, handle.open)
    for count in range(300):
        make(f'{count}', b'other')
        if os.stat(f'{count}').st_ino == number:
            break
    fails(E.ESTALE, handle.open)


@rule('handles: need privilege to open', ROOT)
def _():
    make('a')
    handle = Handle('a')
    as_user(USER, lambda: fails(E.EPERM, handle.open))


@rule('handles: with little room: EOVERFLOW and the size; distinct for distinct files')
def _():
    make('a')
    room = ctypes.create_string_buffer(200)
    mount = ctypes.c_int()
    fails(E.EOVERFLOW, call, 'name_to_handle_at', AT_FDCWD, 'a', room, ctypes.byref(mount), 0)
    check(struct.unpack_from('I', room)[0] >= 8, 'no size')
    make('b')
    check(Handle('a').bytes() != Handle('b').bytes(), 'two files have one handle')


@rule('handles: what was read and dropped is found again', ROOT)
def _():
    handles = []
    for number in range(200):
        make(f'{number}', b'%d' % number)
        handles.append(Handle(f'{number}'))
    with open('/proc/sys/vm/drop_caches', 'w') as file:
        file.write('2')
    for number, handle in enumerate(handles):
        fd = handle.open()
        equal(os.read(fd, 10), b'%d' % number)
        os.close(fd)


@rule('handles: a folder that was dropped is found with its way up', ROOT)
def _():
    os.makedirs('one/two/three')
    make('one/two/three/file', b'deep')
    handle, file = Handle('one/two/three'), Handle('one/two/three/file')
    numbers = [os.stat(path).st_ino for path in ('one/two/three', 'one/two', 'one')]
    with open('/proc/sys/vm/drop_caches', 'w') as drop:
        drop.write('2')
    fd = handle.open(os.O_RDONLY | os.O_DIRECTORY)
    equal([os.stat(path, dir_fd=fd).st_ino for path in ('.', '..', '../..')], numbers)
    equal(os.listdir(fd), ['file'])
    os.close(fd)
    os.rename('one/two/three', 'three')
    fd = file.open(os.O_RDWR)
    os.pwrite(fd, b'DEEP', 0)
    os.close(fd)
    equal(slurp('three/file'), b'DEEP')


@rule('handles: of a file that is unlinked and open: opened until the last close, ESTALE then', ROOT)
def _():
    make('a', b'data')
    handle = Handle('a')
    with Open('a') as fd:
        os.unlink('a')
        again = handle.open()
        equal(os.read(again, 10), b'data')
        os.close(again)
    for _ in range(200):
        try:
            os.close(handle.open())
        except OSError as error:
            return equal(error.errno, E.ESTALE)
        pause()
    check(False, 'it is opened long after the last close')


# -- flags of chattr

@rule('flags: shown and changed')
def _():
    make('a')
    os.mkdir('d')
    for path in ('a', 'd'):
        before = ioctls.get_flags(path)
        ioctls.set_flags(path, before | ioctls.NODUMP | ioctls.NOATIME | ioctls.SYNC)
        equal(ioctls.get_flags(path), before | ioctls.NODUMP | ioctls.NOATIME | ioctls.SYNC)
        ioctls.set_flags(path, before)
        equal(ioctls.get_flags(path), before)
    check(ioctls.get_flags('a') & ioctls.EXTENTS, 'no extents')


@rule('flags: those that are the file system\'s own may be left out and named')
def _():
    make('a', b'data')
    with Open('a') as fd:
        # ext4 refuses to give up extents that are still unwritten.
        os.fsync(fd)
    os.mkdir('d')
    for path in ('a', 'd'):
        before = ioctls.get_flags(path)
        ioctls.set_flags(path, 0)
        equal(ioctls.get_flags(path) & ~ioctls.EXTENTS, 0)
        for others in (0x100, 0x200, 0x400, 0x800, ioctls.INDEX, 0x100000, ioctls.INLINE):
            ioctls.set_flags(path, before | others)
            equal(ioctls.get_flags(path), before, f'{others:#x} on {path}')
    equal(slurp('a'), b'data')


@rule('flags: those that only others act on are kept, and inherited')
def _():
    make('a')
    os.mkdir('d')
    kept = 0x1 | 0x2 | 0x4 | 0x8000
    for path in ('a', 'd'):
        ioctls.add_flags(path, kept)
        equal(ioctls.get_flags(path) & kept, kept)
    make('d/a')
    equal(ioctls.get_flags('d/a') & kept, kept)


@rule('flags: those of directories are refused elsewhere, and unknown ones everywhere: EOPNOTSUPP')
def _():
    make('a')
    os.mkdir('d')
    for flag in (ioctls.DIRSYNC, ioctls.TOPDIR):
        fails(E.EOPNOTSUPP, ioctls.add_flags, 'a', flag)
        ioctls.add_flags('d', flag)
    for path in ('a', 'd'):
        for flag in (0x2000, 0x200000, 0x1000000, 0x4000000, 0x40000000, 0x80000000):
            fails(E.EOPNOTSUPP, ioctls.add_flags, path, flag)


def flags_move_ctime(name, new):
    @rule(f'flags: a change moves ctime of {name}')
    def _():
        new('a')
        was = ctime('a')
        pause()
        ioctls.add_flags('a', ioctls.NODUMP)
        check(ctime('a') > was, 'ctime has not moved')


flags_move_ctime('a file', make)
flags_move_ctime('a folder', os.mkdir)


@rule('flags: P is inherited by folders, T is not')
def _():
    os.mkdir('d')
    both = 0x20000000 | ioctls.TOPDIR
    ioctls.add_flags('d', both)
    make('d/a')
    os.mkdir('d/d')
    equal([ioctls.get_flags(path) & both for path in ('d', 'd/a', 'd/d')], [both, 0, 0x20000000])


@rule('flags: immutable and append-only need privilege', ORDINARY)
def _():
    make('a')
    for flag in (IMMUTABLE, APPEND):
        fails(E.EPERM, ioctls.add_flags, 'a', flag)


@rule('flags: only the owner changes them', ROOT)
def _():
    make('a')
    os.chmod('a', 0o666)
    as_user(USER, lambda: fails((E.EACCES, E.EPERM), ioctls.add_flags, 'a', ioctls.NODUMP))


IMMUTABLE_REFUSES = {
    'open for writing': lambda: os.open('a', os.O_WRONLY),
    'open with O_TRUNC': lambda: os.open('a', os.O_RDWR | os.O_TRUNC),
    'truncate': lambda: os.truncate('a', 0),
    'chmod': lambda: os.chmod('a', 0o600),
    'chown': lambda: os.chown('a', 1, 1),
    'setting times': lambda: os.utime('a', (1, 1)),
    'link': lambda: os.link('a', 'b'),
    'rename': lambda: os.rename('a', 'b'),
    'unlink': lambda: os.unlink('a'),
    'being replaced': lambda: (make('x'), os.rename('x', 'a')),
    'setxattr': lambda: os.setxattr('a', 'user.a', b'x'),
    'removexattr': lambda: os.removexattr('a', 'user.there'),
    'an ACL': lambda: os.setxattr('a', ACCESS_ACL, acl((1, 6), (4, 6), (32, 6))),
}


def frozen(flag, called, name, work, wanted=E.EPERM):
    @rule(f'flags: {called}: {name}: {code_of(wanted)}', ROOT)
    def _():
        make('a', b'data')
        os.setxattr('a', 'user.there', b'')
        ioctls.add_flags('a', flag)
        try:
            fails(wanted, work)
            if wanted:
                equal((slurp('a'), mode_of('a')), (b'data', 0o644))
        finally:
            ioctls.set_flags('a', ioctls.get_flags('a') & ~flag)


for _name, _work in IMMUTABLE_REFUSES.items():
    frozen(IMMUTABLE, 'immutable', _name, _work)
for _name, _work in IMMUTABLE_REFUSES.items():
    if _name not in ('open for writing', 'open with O_TRUNC'):
        frozen(APPEND, 'append-only', _name, _work)
frozen(APPEND, 'append-only', 'open for writing', lambda: os.open('a', os.O_WRONLY))
frozen(APPEND, 'append-only', 'open with O_TRUNC', lambda: os.open('a', os.O_WRONLY | os.O_APPEND | os.O_TRUNC))
frozen(APPEND, 'append-only', 'setting times to now', lambda: os.utime('a'), 0)
frozen(IMMUTABLE, 'immutable', 'setting times to now', lambda: os.utime('a'))
frozen(IMMUTABLE, 'immutable', 'reading', lambda: slurp('a'), 0)


@rule('flags: append-only: appended to, and nothing else', ROOT)
def _():
    make('a', b'data')
    ioctls.add_flags('a', APPEND)
    try:
        with Open('a', os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, b'more')
            fails(E.EPERM, os.ftruncate, fd, 0)
            fails(E.EPERM, fallocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, 4)
    finally:
        ioctls.set_flags('a', ioctls.get_flags('a') & ~APPEND)
    equal(slurp('a'), b'datamore')


FOLDER_WORK = {
    'making a file': lambda: make('d/new'),
    'making a folder': lambda: os.mkdir('d/new'),
    'making a link': lambda: os.link('other', 'd/new'),
    'making a symbolic link': lambda: os.symlink('x', 'd/new'),
    'moving a file in': lambda: os.rename('other', 'd/new'),
    'removing a file': lambda: os.unlink('d/a'),
    'removing a folder': lambda: os.rmdir('d/e'),
    'moving a file out': lambda: os.rename('d/a', 'out'),
    'renaming a file': lambda: os.rename('d/a', 'd/b'),
    'replacing a file': lambda: os.rename('other', 'd/a'),
    'changing a file': lambda: make('d/a', b'changed'),
}


def frozen_folder(flag, called, name, work, wanted):
    @rule(f'flags: {called} folder: {name}: {code_of(wanted)}', ROOT)
    def _():
        os.mkdir('d')
        make('d/a')
        os.mkdir('d/e')
        make('other')
        ioctls.add_flags('d', flag)
        try:
            fails(wanted, work)
        finally:
            ioctls.set_flags('d', ioctls.get_flags('d') & ~flag)


for _number, (_name, _work) in enumerate(FOLDER_WORK.items()):
    frozen_folder(IMMUTABLE, 'immutable', _name, _work, E.EPERM if _name != 'changing a file' else 0)
    frozen_folder(APPEND, 'append-only', _name, _work,
                  0 if _name.startswith('making') or _name in ('moving a file in', 'changing a file') else E.EPERM)


@rule('flags: append-only and dirsync are inherited as ext4 does')
def _():
    os.mkdir('d')
    ioctls.add_flags('d', ioctls.DIRSYNC | ioctls.NOATIME | ioctls.SYNC | ioctls.NODUMP)
    os.mkdir('d/e')
    make('d/a')
    kept = ioctls.SYNC | ioctls.NODUMP | ioctls.NOATIME
    equal(ioctls.get_flags('d/e') & (kept | ioctls.DIRSYNC), kept | ioctls.DIRSYNC)
    equal(ioctls.get_flags('d/a') & (kept | ioctls.DIRSYNC), kept)


@rule('flags: those that the file system owns are not changed')
def _():
    make('a')
    before = ioctls.get_flags('a')
    # ext4 passes over them in silence.
    fails((0, E.EOPNOTSUPP, E.EPERM, E.EINVAL), ioctls.set_flags, 'a', before | 0x100000)
    equal(ioctls.get_flags('a'), before)


@rule('flags: FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR')
def _():
    make('a')
    room = bytearray(28)
    ioctls.ioctl_on('a', ioctls.FSGETXATTR, room)
    equal(struct.unpack_from('I', room)[0] & 0x80, 0)
    struct.pack_into('I', room, 0, struct.unpack_from('I', room)[0] | 0x80)
    ioctls.ioctl_on('a', ioctls.FSSETXATTR, bytes(room))
    equal(ioctls.get_flags('a') & ioctls.NODUMP, ioctls.NODUMP)


@rule('flags: a project needs the feature, which mke2fs does not choose')
def _():
    make('a')
    room = bytearray(28)
    ioctls.ioctl_on('a', ioctls.FSGETXATTR, room)
    equal(struct.unpack_from('I', room, 12)[0], 0)
    struct.pack_into('I', room, 12, 7)
    fails(E.EOPNOTSUPP, ioctls.ioctl_on, 'a', ioctls.FSSETXATTR, bytes(room))


@rule('generations: told by both numbers as an int, and not changed under checksums')
def _():
    make('a')
    before = ioctls.generation('a')
    for number in (0x80087601, 0x80086603):
        room = bytearray(b'\xaa' * 8)
        ioctls.ioctl_on('a', number, room)
        equal(struct.unpack_from('I', room)[0], before)
        equal(bytes(room[4:]), b'\xaa' * 4, 'what lies behind an int')
    for number in (0x40087602, 0x40086604):
        fails(E.ENOTTY, ioctls.ioctl_on, 'a', number, bytes(8))
    equal(ioctls.generation('a'), before)


@rule('ioctls that are unknown: ENOTTY')
def _():
    make('a')
    for number in (0x12345678, 0x80046677, 0x5401):
        fails((E.ENOTTY, E.EINVAL), ioctls.ioctl_on, 'a', number, bytes(64))


@rule('FITRIM: root trims; others may not', ROOT)
def _():
    room = bytearray(struct.pack('QQQ', 0, 2**64 - 1, 0))
    ioctls.ioctl_on('.', ioctls.FITRIM, room)
    room = bytearray(struct.pack('QQQ', 0, 1 << 30, 0))
    ioctls.ioctl_on('.', ioctls.FITRIM, room)
    as_user(USER, lambda: fails(E.EPERM, ioctls.ioctl_on, '.', ioctls.FITRIM, bytes(room)))


@rule('FITRIM: past the end, and of less than a block: EINVAL', ROOT)
def _():
    for start, length, least in ((1 << 62, 1 << 20, 0), (0, 100, 0)):
        fails(E.EINVAL, ioctls.ioctl_on, '.', ioctls.FITRIM, bytearray(struct.pack('QQQ', start, length, least)))


@rule('FIONREAD and FIGETBSZ')
def _():
    make('a', b'x' * 100)
    with Open('a') as fd:
        os.lseek(fd, 30, os.SEEK_SET)
        equal(struct.unpack('i', fcntl.ioctl(fd, 0x541B, bytes(4)))[0], 70)
        equal(struct.unpack('i', fcntl.ioctl(fd, 2, bytes(4)))[0], 4096)


@rule('FS_IOC_GETFSLABEL: the label is told')
def _():
    label()


def label():
    room = bytearray(256)
    with Open('.', os.O_RDONLY) as fd:
        fcntl.ioctl(fd, 0x81009431, room)
    return bytes(room).rstrip(b'\0')


def set_label(value):
    with Open('.', os.O_RDONLY) as fd:
        fcntl.ioctl(fd, 0x41009432, value.ljust(256, b'\0'))


@rule('FS_IOC_SETFSLABEL: root sets up to 16 bytes of any kind', ROOT)
def _():
    before = label()
    for value in (b'a label', b'\xff sixteen byte\xe4', b''):
        set_label(value)
        equal(label(), value)
    fails(E.EINVAL, set_label, b'seventeen bytes !')
    as_user(USER, lambda: fails(E.EPERM, set_label, b'not mine'))
    equal(label(), b'')
    set_label(before)


@rule('FIFREEZE and FITHAW: root freezes and thaws', ROOT)
def _():
    with Open('.', os.O_RDONLY) as fd:
        fcntl.ioctl(fd, 0xC0045877, 0)
        fcntl.ioctl(fd, 0xC0045878, 0)


@rule('FS_IOC_GETFSUUID: the UUID is told')
def _():
    with Open('.', os.O_RDONLY) as fd:
        equal(fcntl.ioctl(fd, 0x80111500, bytearray(17)) >= 0, True)


@rule('FIEMAP: extents of a file are told')
def _():
    make('a', b'x' * 100_000)
    with Open('a') as fd:
        room = bytearray(struct.pack('QQIIII', 0, 2**64 - 1, 1, 0, 10, 0) + bytes(56 * 10))
        fcntl.ioctl(fd, 0xC020660B, room)
        check(struct.unpack_from('I', room, 20)[0] >= 1, 'no extents')


# -- watching

@rule('inotify: what is done is told')
def _():
    LIBC.inotify_init1.restype = ctypes.c_int
    watch = call('inotify_init1', 0o4000)
    call('inotify_add_watch', watch, '.', 0xFFF)
    make('a', b'x')
    os.rename('a', 'b')
    os.unlink('b')
    events = os.read(watch, 65_536)
    seen, at = [], 0
    while at < len(events):
        _, mask, _, length = struct.unpack_from('iIII', events, at)
        seen.append(mask)
        at += 16 + length
    for mask, what in ((0x100, 'create'), (0x2, 'modify'), (0x8, 'close'), (0x40, 'moved from'), (0x80, 'moved to'),
                       (0x200, 'delete')):
        check(any(event & mask for event in seen), f'no event: {what}')
    os.close(watch)


# -- many at once

@rule('8 threads make, rename, write and remove in one folder')
def _():
    failures = []

    def work(number):
        try:
            for count in range(60):
                name = f'{number}-{count}'
                make(name, name.encode() * 100)
                os.rename(name, f'{name}-b')
                os.link(f'{name}-b', f'{name}-c')
                equal(slurp(f'{name}-c'), name.encode() * 100)
                os.unlink(f'{name}-b')
                if count % 2:
                    os.unlink(f'{name}-c')
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures, [])
    equal(len(os.listdir('.')), 240)


@rule('8 processes rename over one name: it is always there, and whole')
def _():
    make('target', b'start' * 1000)
    pids = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            for _ in range(40):
                make(f'mine-{number}', b'%05d' % number * 1000)
                os.rename(f'mine-{number}', 'target')
                data = slurp('target')
                if len(data) != 5000 or data != data[:5] * 1000:
                    os._exit(1)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        equal(os.waitpid(pid, 0)[1], 0)
    equal(os.listdir('.'), ['target'])
