# The contents of files: truncate, fallocate in its modes, SEEK_DATA and SEEK_HOLE, copy_file_range,
# O_DIRECT, mapped files, reading and writing at borders.

import mmap
import random

from kit import *


def pattern(length, seed=1):
    return random.Random(seed).randbytes(length)


# -- reading and writing

@rule('data: what is written is read, at every border of a page')
def _():
    model = bytearray(3 * PAGE)
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, len(model))
        for seed, (at, length) in enumerate((at, length) for at in (0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1)
                                            for length in (1, 2, PAGE - 1, PAGE, PAGE + 1)):
            data = pattern(length, seed)
            os.pwrite(fd, data, at)
            model[at:at + length] = data
            equal(os.pread(fd, 4 * PAGE, 0), bytes(model))
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        equal(os.pread(fd, 4 * PAGE, 0), bytes(model))


@rule('data: readv and writev, preadv2 and pwritev2 with their flags')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        equal(os.writev(fd, [b'one', b'', b'two' * 2000]), 6003)
        rooms = [bytearray(3), bytearray(5000), bytearray(5000)]
        equal(os.preadv(fd, rooms, 0), 6003)
        equal((bytes(rooms[0]), bytes(rooms[1][:3])), (b'one', b'two'))
        equal(os.pwritev(fd, [b'sync'], 0, os.RWF_SYNC), 4)
        equal(os.pwritev(fd, [b'data'], 0, os.RWF_DSYNC), 4)
        equal(os.pwritev(fd, [b'end'], 0, 0x10), 3)
        equal(os.pread(fd, 100, 6000), b'two' + b'end')


@rule('data: reading at and past the end')
def _():
    make('a', b'0123456789')
    with Open('a') as fd:
        equal((os.pread(fd, 10, 10), os.pread(fd, 10, 9), os.pread(fd, 10, 1 << 40)), (b'', b'9', b''))
        fails(E.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
        equal(os.lseek(fd, -1, os.SEEK_END), 9)


@rule('data: what is between the end and a later write reads as zeros')
def _():
    make('a', b'x' * 100)
    with Open('a') as fd:
        for at in (200, 5000, 70_000, 5 << 30):
            os.pwrite(fd, b'y', at)
        equal(os.pread(fd, 101, 100), bytes(100) + b'y')
        equal(os.pread(fd, 10, (5 << 30) - 9), bytes(9) + b'y')
        os.fsync(fd)
        check(os.fstat(fd).st_blocks <= 64, f'{os.fstat(fd).st_blocks} blocks')


@rule('data: a write of no bytes changes nothing, also past the end')
def _():
    make('a', b'x')
    with Open('a') as fd:
        equal(os.pwrite(fd, b'', 1000), 0)
        equal(os.fstat(fd).st_size, 1)


# -- truncate

@rule('truncate: shorter and longer: what comes back is zeros')
def _():
    data = pattern(3 * PAGE + 100)
    for size in (0, 1, 100, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE):
        make('a', data)
        os.truncate('a', size)
        equal(os.stat('a').st_size, size)
        os.truncate('a', 4 * PAGE)
        equal(slurp('a'), data[:size] + bytes(4 * PAGE - size), str(size))


@rule('truncate: frees blocks')
def _():
    make('a', b'x' * (1 << 20))
    with Open('a') as fd:
        os.fsync(fd)
    equal(os.stat('a').st_blocks, 2048)
    os.truncate('a', 10 * PAGE)
    equal(os.stat('a').st_blocks, 80)
    os.truncate('a', 0)
    equal(os.stat('a').st_blocks, 0)


@rule('truncate: what is no file: EISDIR or EINVAL; a negative size: EINVAL')
def _():
    os.mkdir('d')
    os.mkfifo('f')
    make('a')
    fails(E.EISDIR, os.truncate, 'd', 0)
    fails(E.EINVAL, os.truncate, 'f', 0)
    fails(E.EINVAL, os.truncate, 'a', -1)


@rule('truncate: to 16 TiB less a block, and no further: EFBIG')
def _():
    make('a')
    top = (2**32 - 1) * PAGE
    os.truncate('a', top)
    equal(os.stat('a').st_size, top)
    fails(E.EFBIG, os.truncate, 'a', top + 1)
    with Open('a') as fd:
        os.pwrite(fd, b'last', top - 4)
        os.fsync(fd)
        equal(os.pread(fd, 100, top - 8), bytes(4) + b'last')
        equal(os.lseek(fd, 0, os.SEEK_DATA), top - PAGE)


@rule('EFBIG: writes past 16 TiB are refused, at the latest by fsync')
def _():
    make('a')
    top = (2**32 - 1) * PAGE

    def work():
        with Open('a') as fd:
            os.pwrite(fd, b'x' * 10, top)
            os.fsync(fd)
    fails(E.EFBIG, work)
    with Open('a') as fd:
        fails(E.EFBIG, fallocate, fd, 0, top, PAGE)


@rule('EFBIG: a buffered write past 16 TiB is refused at once')
def _():
    make('a')
    with Open('a') as fd:
        fails(E.EFBIG, os.pwrite, fd, b'x' * 10, (2**32 - 1) * PAGE)


@rule('EFBIG: a write that begins below 16 TiB is cut there')
def _():
    make('a')
    top = (2**32 - 1) * PAGE
    with Open('a') as fd:
        equal(os.pwrite(fd, b'x' * 100, top - 10), 10)
        equal(os.fstat(fd).st_size, top)


@rule('EFBIG: direct writes past 16 TiB are refused at once')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR | os.O_DIRECT) as fd, mmap.mmap(-1, PAGE) as page:
        fails(E.EFBIG, os.pwrite, fd, page, (2**32 - 1) * PAGE)


# -- fallocate

@rule('fallocate: makes longer, keeps what is there, and takes space')
def _():
    make('a', b'data')
    with Open('a') as fd:
        fallocate(fd, 0, 0, 1 << 20)
        os.fsync(fd)
        equal((os.fstat(fd).st_size, os.fstat(fd).st_blocks), (1 << 20, 2048))
        equal(os.pread(fd, 8, 0), b'data' + bytes(4))
        fallocate(fd, 0, 0, 100)
        equal(os.fstat(fd).st_size, 1 << 20)


@rule('fallocate: KEEP_SIZE takes space past the end')
def _():
    make('a', b'data')
    with Open('a') as fd:
        os.fsync(fd)
        fallocate(fd, KEEP_SIZE, 0, 1 << 20)
        equal((os.fstat(fd).st_size, os.fstat(fd).st_blocks), (4, 2048))
        os.pwrite(fd, b'later', 500_000)
        os.fsync(fd)
        equal((os.fstat(fd).st_blocks, os.pread(fd, 10, 499_999)), (2048, b'\0later'))


@rule('fallocate: PUNCH_HOLE makes zeros, keeps the size, frees whole blocks')
def _():
    data = pattern(16 * PAGE)
    make('a', data)
    with Open('a') as fd:
        os.fsync(fd)
        equal(os.fstat(fd).st_blocks, 128)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4 * PAGE, 4 * PAGE)
        equal(os.fstat(fd).st_blocks, 96)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 9 * PAGE + 100, PAGE)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 15 * PAGE, 100 * PAGE)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 100 * PAGE, PAGE)
        wanted = bytearray(data)
        wanted[4 * PAGE:8 * PAGE] = bytes(4 * PAGE)
        wanted[9 * PAGE + 100:10 * PAGE + 100] = bytes(PAGE)
        wanted[15 * PAGE:] = bytes(PAGE)
        equal((os.pread(fd, 20 * PAGE, 0) == bytes(wanted), os.fstat(fd).st_size), (True, 16 * PAGE))


@rule('fallocate: ZERO_RANGE makes zeros, with and without KEEP_SIZE')
def _():
    data = pattern(8 * PAGE)
    make('a', data)
    with Open('a') as fd:
        fallocate(fd, ZERO_RANGE, PAGE + 10, PAGE)
        wanted = bytearray(data)
        wanted[PAGE + 10:2 * PAGE + 10] = bytes(PAGE)
        equal(os.pread(fd, 20 * PAGE, 0) == bytes(wanted), True)
        fallocate(fd, ZERO_RANGE, 7 * PAGE, 3 * PAGE)
        equal((os.fstat(fd).st_size, os.pread(fd, PAGE, 9 * PAGE)), (10 * PAGE, bytes(PAGE)))
        fallocate(fd, ZERO_RANGE | KEEP_SIZE, 9 * PAGE, 9 * PAGE)
        equal(os.fstat(fd).st_size, 10 * PAGE)


@rule('fallocate: what is refused')
def _():
    make('a', b'x' * 100_000)
    os.mkfifo('f')
    with Open('a') as fd:
        fails(E.EINVAL, fallocate, fd, 0, 0, 0)
        fails(E.EINVAL, fallocate, fd, 0, -1, 10)
        fails(E.EINVAL, fallocate, fd, 0, 0, -10)
        fails(E.EOPNOTSUPP, fallocate, fd, PUNCH_HOLE, 0, PAGE)
        fails((E.EOPNOTSUPP, E.EINVAL), fallocate, fd, 0x4000, 0, PAGE)
        fails((E.EOPNOTSUPP, E.EINVAL), fallocate, fd, PUNCH_HOLE | ZERO_RANGE | KEEP_SIZE, 0, PAGE)
        fails(E.EFBIG, fallocate, fd, 0, 1 << 62, PAGE)
    with Open('f') as fd:
        fails(E.ESPIPE, fallocate, fd, 0, 0, 10)
    with Open('.', os.O_RDONLY) as fd:
        fails(E.EBADF, fallocate, fd, 0, 0, 10)


@rule('fallocate: COLLAPSE_RANGE and INSERT_RANGE')
def _():
    data = pattern(8 * PAGE)
    make('a', data)
    with Open('a') as fd:
        fallocate(fd, COLLAPSE_RANGE, PAGE, PAGE)
        equal(os.pread(fd, 20 * PAGE, 0) == data[:PAGE] + data[2 * PAGE:], True)
        fallocate(fd, INSERT_RANGE, PAGE, PAGE)
        equal(os.pread(fd, 20 * PAGE, 0) == data[:PAGE] + bytes(PAGE) + data[2 * PAGE:], True)


# -- holes

@rule('seek: data and holes are found, block by block')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 20 * PAGE)
        for page in (3, 4, 10):
            os.pwrite(fd, b'x' * PAGE, page * PAGE)
        os.fsync(fd)
        found = [os.lseek(fd, at * PAGE, whence) // PAGE for at, whence in
                 ((0, os.SEEK_DATA), (3, os.SEEK_DATA), (4, os.SEEK_DATA), (5, os.SEEK_DATA), (0, os.SEEK_HOLE),
                  (3, os.SEEK_HOLE), (5, os.SEEK_HOLE), (10, os.SEEK_HOLE), (11, os.SEEK_HOLE))]
        equal(found, [3, 3, 4, 10, 0, 5, 5, 11, 11])
        equal(os.lseek(fd, 3 * PAGE + 7, os.SEEK_DATA), 3 * PAGE + 7)
        equal(os.lseek(fd, 11 * PAGE + 7, os.SEEK_HOLE), 11 * PAGE + 7)


@rule('seek: ENXIO where there is none; the end is a hole')
def _():
    make('a', b'x' * 10_000)
    make('empty')
    with Open('a') as fd, Open('empty') as empty:
        equal(os.lseek(fd, 0, os.SEEK_HOLE), 10_000)
        fails(E.ENXIO, os.lseek, fd, 10_000, os.SEEK_DATA)
        fails(E.ENXIO, os.lseek, fd, 10_000, os.SEEK_HOLE)
        fails(E.ENXIO, os.lseek, fd, 20_000, os.SEEK_DATA)
        fails(E.ENXIO, os.lseek, fd, -5, os.SEEK_DATA)
        fails(E.ENXIO, os.lseek, empty, 0, os.SEEK_DATA)
        fails(E.ENXIO, os.lseek, empty, 0, os.SEEK_HOLE)
        os.ftruncate(fd, 1 << 20)
        fails(E.ENXIO, os.lseek, fd, 20_000, os.SEEK_DATA)


@rule('seek: what was just written is data, and what was just punched is a hole')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, b'x' * PAGE, 20 * PAGE)
        equal(os.lseek(fd, 0, os.SEEK_DATA), 20 * PAGE)
        os.pwrite(fd, b'x' * 10 * PAGE, 100 * PAGE)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 102 * PAGE, PAGE)
        equal(os.lseek(fd, 100 * PAGE, os.SEEK_HOLE), 102 * PAGE)
        equal(os.lseek(fd, 102 * PAGE, os.SEEK_DATA), 103 * PAGE)


@rule('seek: folders and fifos')
def _():
    os.mkfifo('f')
    with Open('f') as fd:
        fails(E.ESPIPE, os.lseek, fd, 0, os.SEEK_SET)
    make('a')
    with Open('a') as fd:
        fails(E.EINVAL, os.lseek, fd, 0, 17)


# -- copy_file_range

def copy_all(one, two, length, from_=0, to=0):
    done = 0
    while done < length:
        count = os.copy_file_range(one, two, length - done, from_ + done, to + done)
        if count == 0:
            break
        done += count
    return done


@rule('copy_file_range: whole files, odd ranges, and within one file')
def _():
    data = pattern(300_000)
    make('a', data)
    with Open('a') as one, Open('b', os.O_CREAT | os.O_RDWR) as two:
        equal(copy_all(one, two, 400_000), 300_000)
        equal(os.pread(two, 400_000, 0) == data, True)
        equal(copy_all(one, two, 5000, 123, 250_001), 5000)
        equal(os.pread(two, 400_000, 0) == data[:250_001] + data[123:5123] + data[255_001:], True)
        equal(copy_all(one, one, 1000, 0, 400_000), 1000)
        equal(os.pread(one, 2000, 400_000), data[:1000])
        equal(os.copy_file_range(one, two, 10, 1 << 30, 0), 0)
    with Open('a', os.O_RDONLY) as one, Open('b', os.O_CREAT | os.O_WRONLY | os.O_TRUNC) as two:
        equal(os.copy_file_range(one, two, 10), 10)
        equal((os.lseek(one, 0, os.SEEK_CUR), os.lseek(two, 0, os.SEEK_CUR)), (10, 10))


@rule('copy_file_range: what is refused')
def _():
    make('a', b'x' * 10_000)
    make('b')
    with Open('a') as one, Open('b', os.O_WRONLY | os.O_APPEND) as append, Open('b', os.O_RDONLY) as reading:
        fails(E.EBADF, os.copy_file_range, one, append, 10)
        fails(E.EBADF, os.copy_file_range, one, reading, 10)
        fails(E.EINVAL, os.copy_file_range, one, one, 1000, 0, 500)
        with Open('.', os.O_RDONLY) as folder:
            fails(E.EISDIR, os.copy_file_range, folder, one, 10)
        fails(E.EINVAL, call, 'copy_file_range', one, None, one, None, 10, 1)


@rule('copy_file_range: by an ordinary user takes suid', ROOT)
def _():
    os.chmod('.', 0o777)
    make('s', b'0123')
    make('a', b'0123456789')
    os.chown('a', USER, USER)
    os.chmod('a', 0o6777)

    def work():
        with Open('s', os.O_RDONLY) as one, Open('a') as two:
            os.copy_file_range(one, two, 4)
    as_user(OTHER, work)
    equal(mode_of('a'), 0o777)


@rule('sendfile and splice carry a file')
def _():
    data = pattern(200_000)
    make('a', data)
    with Open('a', os.O_RDONLY) as one, Open('b', os.O_CREAT | os.O_RDWR) as two:
        done = 0
        while done < len(data):
            done += os.sendfile(two, one, done, len(data) - done)
        equal(os.pread(two, 300_000, 0) == data, True)
        out, into = os.pipe()
        count = os.splice(one, into, 5000, offset_src=100)
        equal(os.read(out, count), data[100:100 + count])


@rule('cloning is refused, so that cp --reflink=auto copies')
def _():
    import fcntl
    make('a', b'x' * PAGE)
    with Open('a') as one, Open('b', os.O_CREAT | os.O_RDWR) as two:
        fails((E.EOPNOTSUPP, E.EINVAL, E.ENOTTY), fcntl.ioctl, two, 0x40049409, one)


# -- O_DIRECT

@rule('O_DIRECT: aligned reading and writing, seen by buffered ones and the other way')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR | os.O_DIRECT) as direct, Open('a') as plain, mmap.mmap(-1, 65536) as area:
        area[:] = b'd' * 65536
        equal(os.pwrite(direct, area, 8192), 65536)
        equal(os.pread(plain, 10, 8190), b'\0\0dddddddd')
        os.pwrite(plain, b'plain', 10_000)
        area[:] = bytes(65536)
        equal(os.preadv(direct, [area], 8192), 65536)
        equal(area[1800:1816], b'd' * 8 + b'plain' + b'ddd')
        equal(os.preadv(direct, [area], 8192 + 61440), 4096)
        equal(os.preadv(direct, [area], 8192 + 65536), 0)


@rule('O_DIRECT: 4 processes write their own blocks of one file')
def _():
    make('a', bytes(4 * 64 * PAGE))
    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            fd = os.open('a', os.O_RDWR | os.O_DIRECT)
            with mmap.mmap(-1, PAGE) as page:
                for at in range(64):
                    page[:] = bytes([number * 64 + at]) * PAGE
                    os.pwrite(fd, page, (at * 4 + number) * PAGE)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        equal(os.waitpid(pid, 0)[1], 0)
    data = slurp('a')
    for number in range(4):
        for at in range(64):
            equal(data[(at * 4 + number) * PAGE], number * 64 + at)


@rule('O_DIRECT: what is not aligned: EINVAL')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR | os.O_DIRECT) as fd:
        fails(E.EINVAL, os.pwrite, fd, b'x' * 100, 0)


# -- mapped files

@rule('mmap: shared: seen by reading, and what is written is seen in the map')
def _():
    make('a', b'x' * 10_000)
    with Open('a') as fd, mmap.mmap(fd, 10_000) as area:
        area[5000:5003] = b'map'
        equal(os.pread(fd, 5, 4999), b'xmapx')
        os.pwrite(fd, b'write', 100)
        equal(area[99:106], b'xwritex')
        area.flush()
    equal(slurp('a')[4999:5004], b'xmapx')


@rule('mmap: shared: between two processes, over close')
def _():
    make('a', bytes(PAGE))

    def work():
        with Open('a') as fd:
            with mmap.mmap(fd, PAGE) as area:
                os.close(fd)
                area[10:15] = b'child'
    with Open('a') as fd, mmap.mmap(fd, PAGE) as area:
        in_child(work)
        equal(area[10:15], b'child')
    equal(slurp('a')[10:15], b'child')


@rule('mmap: shared: written after the file was closed and unlinked')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 4 * PAGE)
        area = mmap.mmap(fd, 4 * PAGE)
        os.link('a', 'b')
        os.unlink('a')
    area[PAGE:PAGE + 4] = b'late'
    area.flush()
    area.close()
    equal(slurp('b')[PAGE:PAGE + 4], b'late')


@rule('mmap: private: not written to the file')
def _():
    make('a', b'x' * PAGE)
    with Open('a') as fd, mmap.mmap(fd, PAGE, flags=mmap.MAP_PRIVATE) as area:
        area[0:3] = b'own'
        equal((area[0:3], slurp('a')[:3]), (b'own', b'xxx'))


@rule('mmap: moves mtime by the time of msync')
def _():
    make('a', b'x' * PAGE)
    os.utime('a', (1000, 1000))
    with Open('a') as fd, mmap.mmap(fd, PAGE) as area:
        area[0:3] = b'map'
        area.flush()
    check(os.stat('a').st_mtime > 10_000, 'mtime has not moved')


@rule('mmap: past the end: SIGBUS; the rest of the last page is zeros and stays out of the file')
def _():
    make('a', b'x' * 100)

    def work():
        with Open('a') as fd:
            area = mmap.mmap(fd, 0)
            os.ftruncate(fd, 0)
            area[0]
    fails_with_signal(signal.SIGBUS, work)
    make('b', b'x' * 100)
    with Open('b') as fd:
        os.ftruncate(fd, PAGE)
        with mmap.mmap(fd, PAGE) as area:
            os.ftruncate(fd, 100)
            equal(area[100:200], bytes(100))
            area[100:104] = b'junk'
            area.flush()
    equal(os.stat('b').st_size, 100)
    os.truncate('b', 200)
    equal(slurp('b'), b'x' * 100 + bytes(100))


def fails_with_signal(number, work):
    pid = os.fork()
    if pid == 0:
        signal.signal(number, signal.SIG_DFL)
        work()
        os._exit(0)
    equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), -number)


@rule('mmap: of a hole: written pages become data')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.ftruncate(fd, 100 * PAGE)
        with mmap.mmap(fd, 100 * PAGE) as area:
            area[50 * PAGE] = 1
            area.flush()
        os.fsync(fd)
        equal((os.lseek(fd, 0, os.SEEK_DATA), os.fstat(fd).st_blocks), (50 * PAGE, 8))


@rule('mmap: rights')
def _():
    make('a', b'x' * PAGE)
    with Open('a', os.O_RDONLY) as fd:
        fails(E.EACCES, mmap.mmap, fd, PAGE)
        mmap.mmap(fd, PAGE, flags=mmap.MAP_PRIVATE).close()
    with Open('a', os.O_WRONLY) as fd:
        fails(E.EACCES, mmap.mmap, fd, PAGE)


# -- making durable

@rule('fsync and fdatasync: of every kind that is opened; fifos: EINVAL; O_PATH: EBADF')
def _():
    make('a', b'x' * 10_000)
    os.mkdir('d')
    os.mkfifo('f')
    for path, flags in (('a', os.O_RDONLY), ('a', os.O_WRONLY), ('a', os.O_RDWR), ('d', os.O_RDONLY)):
        with Open(path, flags) as fd:
            os.fsync(fd)
            os.fdatasync(fd)
            call('syncfs', fd)
    with Open('a') as fd:
        call('sync_file_range', fd, 0, 0, 7)
        os.unlink('a')
        os.write(fd, b'gone')
        os.fsync(fd)
    with Open('f') as fd:
        fails(E.EINVAL, os.fsync, fd)
    with Open('d', os.O_PATH) as fd:
        fails(E.EBADF, os.fsync, fd)


@rule('O_SYNC, O_DSYNC and O_DIRECT together, appending and past the end')
def _():
    for flags in (os.O_SYNC | os.O_DIRECT, os.O_DSYNC | os.O_DIRECT, os.O_SYNC | os.O_DIRECT | os.O_APPEND):
        make('a', b'x' * PAGE)
        with Open('a', os.O_RDWR | flags) as fd, mmap.mmap(-1, 2 * PAGE) as area:
            area[:] = b'y' * (2 * PAGE)
            if flags & os.O_APPEND:
                equal(os.write(fd, area), 2 * PAGE)
            else:
                equal(os.pwrite(fd, area, PAGE), 2 * PAGE)
            equal(os.fstat(fd).st_size, 3 * PAGE)
        equal(slurp('a'), b'x' * PAGE + b'y' * (2 * PAGE))


@rule('fallocate: of what was unlinked, by one who may only read: EBADF, and UNSHARE_RANGE: EOPNOTSUPP')
def _():
    make('a', b'x' * PAGE)
    with Open('a') as fd, Open('a', os.O_RDONLY) as reading:
        fails(E.EBADF, fallocate, reading, 0, 0, PAGE)
        fails(E.EOPNOTSUPP, fallocate, fd, 0x40, 0, PAGE)
        os.unlink('a')
        fallocate(fd, 0, 0, 10 * PAGE)
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, PAGE)
        equal((os.fstat(fd).st_size, os.pread(fd, 10, 0)), (10 * PAGE, bytes(10)))


@rule('mmap: shared and private of one file at once; MAP_PRIVATE sees what is written until it is written')
def _():
    make('a', b'x' * 2 * PAGE)
    with Open('a') as fd, mmap.mmap(fd, 2 * PAGE) as shared, \
            mmap.mmap(fd, 2 * PAGE, flags=mmap.MAP_PRIVATE) as private:
        shared[0:6] = b'shared'
        equal(private[0:6], b'shared')
        private[PAGE:PAGE + 3] = b'own'
        shared[PAGE:PAGE + 3] = b'new'
        equal((private[PAGE:PAGE + 3], shared[PAGE:PAGE + 3]), (b'own', b'new'))
        shared.flush()
        os.fsync(fd)
        equal(os.pread(fd, 3, PAGE), b'new')


@rule('mmap: of a file that grows: what was past the end is there')
def _():
    make('a', b'x' * 100)
    with Open('a') as fd:
        os.ftruncate(fd, 2 * PAGE)
        with mmap.mmap(fd, 2 * PAGE) as area:
            os.ftruncate(fd, 100)
            os.ftruncate(fd, 2 * PAGE)
            equal((area[50], area[100], area[PAGE + 1]), (ord('x'), 0, 0))
            area[PAGE + 1] = 7
            area.flush()
            equal(os.pread(fd, 1, PAGE + 1), bytes([7]))
