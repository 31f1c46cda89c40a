# The client of the FUSE driver contract: does to a mount what programs do, and says of each rule whether
# it held. Output: one JSON line a rule, {"rule", "failure"}, where failure is null or what went wrong.
#
# Always true: each rule works in a folder of its own, and the failure of one leaves the others alone.
#
# Usage: fuse-driver-client.py MOUNT-POINT       (as root)

import ctypes, errno, fcntl, hashlib, json, mmap, os, random, socket, stat, struct, sys, threading

LIBC = ctypes.CDLL(None, use_errno=True)
RULES = []
OTHER_UID = 54321
MIB = 1 << 20


def rule(name):
    def register(function):
        RULES.append((name, function))
        return function
    return register


def equal(found, wanted, what=''):
    if found != wanted:
        raise AssertionError(f'{what}: {found!r} is not {wanted!r}')


def refused(number, work, *args):
    try:
        work(*args)
    except OSError as error:
        equal(errno.errorcode.get(error.errno), errno.errorcode[number])
        return
    raise AssertionError(f'not refused with {errno.errorcode[number]}')


def write(path, data=b'', mode='wb'):
    with open(path, mode) as file:
        file.write(data)


def read(path):
    with open(path, 'rb') as file:
        return file.read()


def call(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), name)


def as_other(work):
    """Runs work() as a user without privilege; gives its failure."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            os.setgroups([])
            os.setgid(OTHER_UID)
            os.setuid(OTHER_UID)
            work()
        except OSError as error:
            code = error.errno
        except BaseException:
            code = 255
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise AssertionError(f'as another user: {errno.errorcode.get(code, code)}')


@rule('files are made, written and read')
def _():
    write('a', b'hello')
    equal(read('a'), b'hello')
    equal(os.listdir('.'), ['a'])
    refused(errno.EEXIST, os.open, 'a', os.O_CREAT | os.O_EXCL)
    write('a', b'x')
    equal(read('a'), b'x')


@rule('writes append')
def _():
    write('a', b'one')
    write('a', b'two', 'ab')
    with open('a', 'ab', buffering=0) as one, open('a', 'ab', buffering=0) as two:
        for _ in range(20):
            one.write(b'1')
            two.write(b'2')
    equal(read('a'), b'onetwo' + b'12' * 20)


@rule('files are truncated, by path and by descriptor')
def _():
    write('a', b'0123456789')
    os.truncate('a', 4)
    equal(read('a'), b'0123')
    os.truncate('a', 10000)
    equal(read('a'), b'0123' + bytes(9996))
    with open('a', 'r+b') as file:
        file.truncate(2)
        equal(os.fstat(file.fileno()).st_size, 2)
    equal(read('a'), b'01')


@rule('files and folders are renamed')
def _():
    write('a', b'a')
    write('b', b'b')
    os.mkdir('d')
    os.mkdir('d/e')
    write('d/e/f', b'f')
    os.rename('a', 'b')
    equal(read('b'), b'a')
    file = open('d/e/f', 'r+b', buffering=0)
    os.rename('d', 'g')
    equal(read('g/e/f'), b'f')
    refused(errno.ENOENT, os.stat, 'd/e/f')
    file.write(b'new')
    file.close()
    equal(read('g/e/f'), b'new')
    os.mkdir('h')
    refused(errno.ENOTEMPTY, os.rename, 'h', 'g')
    refused(errno.EINVAL, os.rename, 'g', 'g/e/x')
    equal(sorted(os.listdir('.')), ['b', 'g', 'h'])


@rule('a file that was replaced stays readable where it is open')
def _():
    write('old', b'old')
    write('new', b'new')
    with open('old', 'rb') as file:
        os.rename('new', 'old')
        equal(os.listdir('.'), ['old'])
        equal(file.read(), b'old')
        equal(os.fstat(file.fileno()).st_nlink, 0)
    equal(read('old'), b'new')


@rule('hard links are one file')
def _():
    write('a', b'one')
    os.link('a', 'b')
    one, two = os.stat('a'), os.stat('b')
    equal((one.st_ino, one.st_nlink, two.st_nlink), (two.st_ino, 2, 2))
    write('b', b'two!')
    equal((read('a'), os.stat('a').st_size), (b'two!', 4))
    os.chmod('a', 0o640)
    equal(stat.S_IMODE(os.stat('b').st_mode), 0o640)
    os.unlink('a')
    equal((read('b'), os.stat('b').st_nlink), (b'two!', 1))
    refused(errno.EEXIST, os.link, 'b', 'b')


@rule('what is written by one hard link is read by another that is open')
def _():
    write('a', b'1' * 100)
    os.link('a', 'b')
    with open('a', 'r+b', buffering=0) as one, open('b', 'rb', buffering=0) as two:
        equal(two.read(), b'1' * 100)
        one.write(b'2' * 100)
        two.seek(0)
        equal(two.read(), b'2' * 100)


@rule('symbolic links lead on')
def _():
    target = 'x/' * 2000 + 'end'
    os.symlink(target, 'long')
    os.symlink('a', 'b')
    write('a', b'a')
    equal((os.readlink('long'), os.readlink('b'), read('b')), (target, 'a', b'a'))
    equal(os.lstat('long').st_size, len(target))
    os.symlink('loop', 'loop')
    refused(errno.ELOOP, os.stat, 'loop')
    refused(errno.EINVAL, os.readlink, 'a')


@rule('extended attributes')
def _():
    write('a')
    os.mkdir('d')
    for path in ('a', 'd'):
        equal(os.listxattr(path), [])
        os.setxattr(path, 'user.empty', b'')
        os.setxattr(path, 'user.big', b'v' * 3000)
        os.setxattr(path, 'trusted.bin', bytes(range(256)))
        equal(sorted(os.listxattr(path)), ['trusted.bin', 'user.big', 'user.empty'])
        equal(os.getxattr(path, 'user.empty'), b'')
        equal(os.getxattr(path, 'user.big'), b'v' * 3000)
        equal(os.getxattr(path, 'trusted.bin'), bytes(range(256)))
        refused(errno.EEXIST, os.setxattr, path, 'user.big', b'', os.XATTR_CREATE)
        refused(errno.ENODATA, os.setxattr, path, 'user.none', b'', os.XATTR_REPLACE)
        os.removexattr(path, 'user.big')
        refused(errno.ENODATA, os.getxattr, path, 'user.big')
        refused(errno.ENODATA, os.removexattr, path, 'user.big')


@rule('extended attributes that do not fit are refused')
def _():
    write('a')
    os.setxattr('a', 'user.big', b'v' * 3000)
    room = ctypes.create_string_buffer(4096)
    for size, wanted in ((0, 3000), (1, -1), (2999, -1), (3000, 3000), (4096, 3000)):
        equal(LIBC.getxattr(b'a', b'user.big', room, size), wanted, f'getxattr with room for {size}')
    for size, wanted in ((0, 9), (1, -1), (8, -1), (9, 9), (4096, 9)):
        equal(LIBC.listxattr(b'a', room, size), wanted, f'listxattr with room for {size}')


@rule('modes and owners')
def _():
    write('a')
    for mode in (0o000, 0o777, 0o4755, 0o2755, 0o1644):
        os.chmod('a', mode)
        equal(stat.S_IMODE(os.stat('a').st_mode), mode)
    os.chown('a', 1234, 70000)
    os.chown('a', -1, 4321)
    os.chown('a', 99999, -1)
    equal((os.stat('a').st_uid, os.stat('a').st_gid), (99999, 4321))
    os.umask(0o027)
    write('b')
    os.mkdir('d')
    os.umask(0o022)
    equal([stat.S_IMODE(os.stat(name).st_mode) for name in 'bd'], [0o640, 0o750])
    os.chmod('d', 0o2775)
    os.chown('d', 0, 555)
    write('d/a')
    os.mkdir('d/e')
    equal((os.stat('d/a').st_gid, os.stat('d/e').st_gid), (555, 555))
    equal(os.stat('d/e').st_mode & stat.S_ISGID, stat.S_ISGID)


@rule('modes are enforced')
def _():
    os.chmod('.', 0o777)
    write('a', b'secret')
    os.chmod('a', 0o600)
    as_other(lambda: refused(errno.EACCES, open, 'a'))
    os.chmod('a', 0o644)
    as_other(lambda: equal(read('a'), b'secret'))
    os.mkdir('d', 0o700)
    as_other(lambda: refused(errno.EACCES, os.listdir, 'd'))


@rule('a new file belongs to who made it')
def _():
    os.chmod('.', 0o777)
    as_other(lambda: (write('a'), os.mkdir('d'), os.symlink('x', 'l')))
    equal([os.lstat(name).st_uid for name in 'adl'], [OTHER_UID] * 3)


@rule('access control lists are enforced')
def _():
    write('a', b'shared')
    os.chmod('a', 0o600)
    entries = ((1, 6, -1), (2, 4, OTHER_UID), (4, 0, -1), (16, 4, -1), (32, 0, -1))
    acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', t, p, i & 0xFFFFFFFF) for t, p, i in entries)
    os.setxattr('a', 'system.posix_acl_access', acl)
    as_other(lambda: equal(read('a'), b'shared'))


@rule('both times of a file are set, to the millisecond')
def _():
    write('a')
    os.mkdir('d')
    for path in ('a', 'd'):
        os.utime(path, ns=(1_111_111_111_123_000_000, 1_222_222_222_456_000_000))
        found = os.stat(path)
        equal((found.st_atime_ns, found.st_mtime_ns), (1_111_111_111_123_000_000, 1_222_222_222_456_000_000))


@rule('times have nanoseconds')
def _():
    write('a')
    os.utime('a', ns=(1_111_111_111_123_456_789, 1_222_222_222_987_654_321))
    equal((os.stat('a').st_atime_ns, os.stat('a').st_mtime_ns), (1_111_111_111_123_456_789, 1_222_222_222_987_654_321))


@rule('times before 1970')
def _():
    write('a')
    os.utime('a', (-1000, -2000))
    equal((os.stat('a').st_atime, os.stat('a').st_mtime), (-1000, -2000))


class Timespec(ctypes.Structure):
    _fields_ = [('sec', ctypes.c_long), ('nsec', ctypes.c_long)]


@rule('one time of a file is set alone')
def _():
    write('a')
    os.utime('a', (1000, 2000))
    omit, times = (1 << 30) - 2, (Timespec * 2)()
    times[0].nsec, times[1].sec = omit, 3000
    call('utimensat', -100, b'a', times, 0)
    equal((os.stat('a').st_atime, os.stat('a').st_mtime), (1000, 3000))


@rule('changes move the times that POSIX says')
def _():
    write('a', b'x')
    os.utime('a', (1000, 2000))
    write('a', b'y', 'ab')
    if os.stat('a').st_mtime < 1_000_000_000:
        raise AssertionError('mtime has not moved with a write')
    os.utime('a', (1000, 2000))
    os.truncate('a', 1)
    if os.stat('a').st_mtime < 1_000_000_000:
        raise AssertionError('mtime has not moved with a truncation')
    os.utime('.', (1000, 2000))
    write('b')
    if os.stat('.').st_mtime < 1_000_000_000:
        raise AssertionError("the folder's mtime has not moved with a new name")


@rule('big files')
def _():
    source, digest = random.Random(7), hashlib.sha256()
    with open('a', 'wb', buffering=0) as file:
        for _ in range(40):
            chunk = source.randbytes(MIB)
            digest.update(chunk)
            equal(file.write(chunk), MIB)
    equal(os.stat('a').st_size, 40 * MIB)
    equal(hashlib.sha256(read('a')).hexdigest(), digest.hexdigest())
    with open('a', 'r+b', buffering=0) as file:
        for _ in range(100):
            at, data = source.randrange(39 * MIB), source.randbytes(source.randrange(1, 300_000))
            os.pwrite(file.fileno(), data, at)
            equal(os.pread(file.fileno(), len(data), at), data, 'a random place')


@rule('sparse files, past 4 GiB')
def _():
    with open('a', 'wb') as file:
        file.seek(9 << 30)
        file.write(b'end')
    found = os.stat('a')
    equal(found.st_size, (9 << 30) + 3)
    if found.st_blocks > 64:
        raise AssertionError(f'{found.st_blocks} blocks of 512 bytes')
    with open('a', 'rb') as file:
        equal(file.read(MIB), bytes(MIB))
        file.seek((9 << 30) - 5)
        equal(file.read(), bytes(5) + b'end')


@rule('holes are found')
def _():
    with open('a', 'wb') as file:
        file.seek(MIB)
        file.write(b'x' * 4096)
        file.truncate(2 * MIB)
    with open('a', 'rb') as file:
        equal(os.lseek(file.fileno(), 0, os.SEEK_DATA), MIB)
        equal(os.lseek(file.fileno(), MIB, os.SEEK_HOLE), MIB + 4096)


@rule('space is allocated ahead, and holes are punched')
def _():
    with open('a', 'w+b', buffering=0) as file:
        call('fallocate', file.fileno(), 0, ctypes.c_long(0), ctypes.c_long(MIB))
        equal((os.fstat(file.fileno()).st_size, os.fstat(file.fileno()).st_blocks), (MIB, 2048))
        file.write(b'x' * MIB)
        call('fallocate', file.fileno(), 3, ctypes.c_long(4096), ctypes.c_long(8192))
        equal(os.pread(file.fileno(), 8194, 4095), b'x' + bytes(8192) + b'x')


@rule('what is synced, and how')
def _():
    with open('a', 'wb', buffering=0) as file:
        file.write(b'x' * 10000)
        os.fsync(file.fileno())
        file.write(b'y')
        os.fdatasync(file.fileno())
    folder = os.open('.', os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    os.close(os.open('b', os.O_CREAT | os.O_WRONLY | os.O_SYNC))


@rule('free space')
def _():
    before = os.statvfs('.')
    equal((before.f_bsize, before.f_namemax), (4096, 255))
    write('a', b'x' * (8 * MIB))
    after = os.statvfs('.')
    if not 2048 <= before.f_bfree - after.f_bfree <= 2200:
        raise AssertionError(f'8 MiB took {before.f_bfree - after.f_bfree} blocks')
    equal(before.f_ffree - after.f_ffree, 1)


@rule('a folder of 2,000 entries is listed')
def _():
    names = {f'entry-{i:04}-{"x" * (i % 60)}' for i in range(2000)}
    for name in names:
        os.mkdir(name) if name.startswith('entry-19') else write(name)
    found = list(os.scandir('.'))
    equal(len(found), 2000)
    equal({entry.name for entry in found}, names)
    for entry in found[::50]:
        equal(entry.inode(), os.stat(entry.name).st_ino, 'd_ino')
        equal(entry.is_dir(), entry.name.startswith('entry-19'), 'd_type')
    for name in names:
        os.rmdir(name) if name.startswith('entry-19') else os.unlink(name)
    equal(os.listdir('.'), [])


@rule('an unlinked open file lives on, unseen')
def _():
    os.mkdir('d')
    with open('d/a', 'w+b', buffering=0) as file, open('d/a', 'rb', buffering=0) as again:
        file.write(b'data')
        os.unlink('d/a')
        equal(os.listdir('d'), [])
        refused(errno.ENOENT, os.stat, 'd/a')
        write('d/a', b'another')
        file.write(b' and more')
        equal(again.read(), b'data and more')
        os.fchmod(file.fileno(), 0o600)
        os.setxattr(file.fileno(), 'user.x', b'y')
        equal(os.getxattr(again.fileno(), 'user.x'), b'y')
        file.truncate(4)
        found = os.fstat(again.fileno())
        equal((found.st_nlink, found.st_size, stat.S_IMODE(found.st_mode)), (0, 4, 0o600))
        os.rename('d', 'e')
        equal(os.pread(file.fileno(), 10, 0), b'data')
    equal((os.listdir('e'), read('e/a')), (['a'], b'another'))
    os.link('e/a', 'e/b')
    with open('e/a', 'rb') as file:
        os.unlink('e/a')
        equal((os.fstat(file.fileno()).st_nlink, os.stat('e/b').st_nlink), (1, 1))
        os.unlink('e/b')
        equal(os.fstat(file.fileno()).st_nlink, 0)


@rule('the folder of an unlinked open file is removed')
def _():
    os.mkdir('d')
    with open('d/a', 'w+b', buffering=0) as file:
        file.write(b'data')
        os.unlink('d/a')
        os.rmdir('d')
        equal(os.pread(file.fileno(), 10, 0), b'data')


@rule('files are mapped')
def _():
    write('a', b'x' * 10000)
    with open('a', 'r+b') as file, mmap.mmap(file.fileno(), 10000) as area:
        area[5000:5003] = b'map'
        area.flush()
        equal(read('a')[4999:5004], b'xmapx')


@rule('special files')
def _():
    os.mkfifo('fifo')
    os.mknod('null', stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod('far', stat.S_IFBLK | 0o600, os.makedev(300, 70000))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind('socket')
    kinds = [stat.S_IFMT(os.stat(name).st_mode) for name in ('fifo', 'null', 'far', 'socket')]
    equal(kinds, [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
    equal((os.stat('null').st_rdev, os.stat('far').st_rdev), (os.makedev(1, 3), os.makedev(300, 70000)))
    write('null', b'gone')
    equal(read('null'), b'')


@rule('folders')
def _():
    os.makedirs('/'.join(str(i) for i in range(60)))
    write('0/1/2/a', b'deep')
    os.rename('0/1', 'moved')
    equal((read('moved/2/a'), os.listdir('0')), (b'deep', []))
    equal((os.stat('.').st_nlink, os.stat('0').st_nlink, os.stat('moved').st_nlink), (4, 2, 3))
    refused(errno.ENOTEMPTY, os.rmdir, 'moved')
    refused(errno.EISDIR, os.unlink, '0')
    refused(errno.ENOTDIR, os.rmdir, 'moved/2/a')
    refused(errno.ENOTDIR, os.stat, 'moved/2/a/x')
    refused(errno.ENOENT, os.stat, 'moved/3/x')
    os.rmdir('0')
    equal(os.stat('moved/2/..').st_ino, os.stat('moved').st_ino)


@rule('names of 255 bytes, in UTF-8')
def _():
    names = ['n' * 255, 'ä' * 127, '名' * 85, 'a\u0308', '\u00e4', 'with space\nand line', '\U0001f512']
    for name in names:
        write(name, name.encode())
    equal(sorted(os.listdir('.')), sorted(names))
    for name in names:
        equal(read(name), name.encode())
    refused(errno.ENAMETOOLONG, write, 'n' * 256)


@rule('names of any bytes')
def _():
    name = bytes(range(0x80, 0x100))
    write(name, b'x')
    equal((os.listdir(b'.'), read(name)), ([name], b'x'))


@rule('a temporary file without a name gets one')
def _():
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b'x')
    call('linkat', -100, f'/proc/self/fd/{fd}'.encode(), -100, b'a', 0x400)
    os.close(fd)
    equal(read('a'), b'x')


@rule('rename exchanges, and refuses to replace')
def _():
    write('a', b'a')
    write('b', b'b')
    call('renameat2', -100, b'a', -100, b'b', 2)
    equal((read('a'), read('b')), (b'b', b'a'))
    refused(errno.EEXIST, call, 'renameat2', -100, b'a', -100, b'b', 1)


@rule('flags of chattr')
def _():
    write('a')
    with open('a') as file:
        flags = bytearray(4)
        fcntl.ioctl(file, 0x80086601, flags)
        fcntl.ioctl(file, 0x40086602, struct.pack('<I', struct.unpack('<I', flags)[0] | 0x40))
        fcntl.ioctl(file, 0x80086601, flags)
        equal(struct.unpack('<I', flags)[0] & 0x40, 0x40)


@rule('a range is copied from file to file')
def _():
    data = random.Random(3).randbytes(200_000)
    write('a', data)
    with open('a', 'rb') as one, open('b', 'wb') as two:
        done = 0
        while done < len(data):
            count = os.copy_file_range(one.fileno(), two.fileno(), len(data) - done)
            if count == 0:
                break
            done += count
    equal(read('b'), data)


@rule('locks hold between descriptors')
def _():
    write('a')
    with open('a', 'r+') as one, open('a', 'r+') as two:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        refused(errno.EAGAIN, fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)


@rule('direct reads and writes')
def _():
    fd = os.open('a', os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 65536) as area:
        area[:] = b'd' * 65536
        equal(os.pwrite(fd, area, 8192), 65536)
        area[:] = bytes(65536)
        equal(os.preadv(fd, [area], 4096), 65536)
        equal(area[:4096] + area[4096:4100], bytes(4096) + b'dddd')
    os.close(fd)


@rule('eight threads at once')
def _():
    failures = []
    def work(number):
        try:
            source = random.Random(number)
            for i in range(40):
                data = source.randbytes(source.randrange(20_000))
                write(f'{number}-{i}', data)
                os.rename(f'{number}-{i}', f'{number}')
                equal(read(f'{number}'), data)
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(failures, [])
    equal(sorted(os.listdir('.')), [str(number) for number in range(8)])


@rule('a snapshot is made, entered and deleted by mkdir and rmdir')
def _():
    write('a', b'then')
    here, root = os.path.basename(os.getcwd()), os.path.dirname(os.getcwd())
    os.mkdir(f'{root}/.snapshots/by-mkdir')
    write('a', b'now')
    shadow = f'{root}/.snapshots/by-mkdir/{here}'
    equal((read(f'{shadow}/a'), read('a'), os.listdir(shadow)), (b'then', b'now', ['a']))
    equal('by-mkdir' in os.listdir(f'{root}/.snapshots'), True)
    equal('.snapshots' in os.listdir(root), False)
    refused(errno.EROFS, write, f'{shadow}/a')
    refused(errno.EROFS, os.mkdir, f'{shadow}/b')
    refused(errno.EEXIST, os.mkdir, f'{root}/.snapshots/by-mkdir')
    with open(f'{shadow}/a', 'rb') as file:
        refused(errno.EBUSY, os.rmdir, f'{root}/.snapshots/by-mkdir')
        equal(file.read(), b'then')
    os.rmdir(f'{root}/.snapshots/by-mkdir')
    refused(errno.ENOENT, os.stat, shadow)
    os.mkdir(f'{root}/.snapshots/by-mkdir')
    equal(read(f'{shadow}/a'), b'now')
    os.rmdir(f'{root}/.snapshots/by-mkdir')


@rule('a file and its shadow copy are two')
def _():
    write('a', b'then')
    here, root = os.path.basename(os.getcwd()), os.path.dirname(os.getcwd())
    os.mkdir(f'{root}/.snapshots/two')
    one, other = os.stat('a'), os.stat(f'{root}/.snapshots/two/{here}/a')
    os.rmdir(f'{root}/.snapshots/two')
    equal((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino), False)


def main():
    root = os.path.abspath(sys.argv[1])
    for number, (name, function) in enumerate(RULES):
        folder = f'{root}/rule-{number}'
        os.umask(0o022)
        failure = None
        try:
            os.mkdir(folder)
            os.chdir(folder)
            function()
        except BaseException as error:
            failure = f'{type(error).__name__}: {error}'
        os.chdir('/')
        print(json.dumps({'rule': name, 'failure': failure}), flush=True)


main()
