# A full volume. Only for a small one that nobody else writes to: it is filled to the last block.

import random

from kit import *


def fill(path='filler', chunk=MIB):
    """Fills the volume by direct writing, so that nothing waits in a cache. @returns bytes that went in"""
    import mmap
    total = 0
    with Open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT) as fd:
        while chunk >= PAGE:
            try:
                with mmap.mmap(-1, chunk) as area:
                    total += os.pwrite(fd, area, total)
            except OSError as error:
                if error.errno != E.ENOSPC:
                    raise
                chunk //= 2
    return total


@rule('full: direct and synchronous writing: ENOSPC; what was written before stays', ROOT)
def _():
    data = random.Random(2).randbytes(3 * MIB)
    make('before', data)
    with Open('before') as fd:
        os.fsync(fd)
    check(fill() > 10 * MIB, 'it was full already')
    with Open('more', os.O_CREAT | os.O_WRONLY | os.O_SYNC) as fd:
        def work():
            for _ in range(1000):
                os.write(fd, bytes(65_536))
        fails(E.ENOSPC, work)
    equal(slurp('before') == data, True)


@rule('full: buffered writing: ENOSPC at the latest by fsync or close', ROOT)
def _():
    fill()

    def work():
        fd = os.open('more', os.O_CREAT | os.O_WRONLY)
        try:
            for _ in range(100):
                os.write(fd, bytes(65_536))
            os.fsync(fd)
        finally:
            os.close(fd)
    fails(E.ENOSPC, work)


@rule('full: buffered writing that never syncs is refused in the end: ENOSPC', ROOT)
def _():
    fill()

    def work():
        with Open('more', os.O_CREAT | os.O_WRONLY) as fd:
            while True:
                os.write(fd, bytes(65_536))
    fails(E.ENOSPC, work)
    os.unlink('filler')
    os.unlink('more')
    wait_for_free(4000)
    make('again', b'x' * MIB)
    with Open('again') as fd:
        os.fsync(fd)
    equal(slurp('again'), b'x' * MIB)


@rule('full: fallocate: ENOSPC', ROOT)
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        free = os.statvfs('.').f_bfree * PAGE
        fails(E.ENOSPC, fallocate, fd, 0, 0, free + MIB)
        fallocate(fd, 0, 0, MIB)


@rule('full: what is allocated is written when nothing is left', ROOT)
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        fallocate(fd, 0, 0, 4 * MIB)
        fill()
        data = random.Random(4).randbytes(4 * MIB)
        equal(os.pwrite(fd, data, 0), 4 * MIB)
        os.fsync(fd)
        equal(os.pread(fd, 4 * MIB, 0) == data, True)
        os.pwrite(fd, data[:MIB], MIB)
        os.fsync(fd)
        equal(os.pread(fd, MIB, MIB) == data[:MIB], True)


@rule('full: making folders and long links: ENOSPC, with nothing left behind', ROOT)
def _():
    os.mkdir('d')
    fill()

    def work():
        for number in range(100_000):
            os.mkdir(f'd/{number}')
    fails(E.ENOSPC, work)
    made = len(os.listdir('d'))
    equal(os.stat('d').st_nlink, made + 2)
    fails(E.ENOSPC, os.symlink, 't' * 1000, 'd/link')
    equal(len(os.listdir('d')), made)


@rule('full: making files until there is no more: ENOSPC, with nothing left behind', ROOT)
def _():
    os.mkdir('d')
    fill()

    def work():
        for number in range(100_000):
            os.close(os.open(f'd/file-{number}-{"x" * 100}', os.O_CREAT | os.O_WRONLY | os.O_EXCL))
    fails(E.ENOSPC, work)
    for name in os.listdir('d'):
        equal(os.stat(f'd/{name}').st_size, 0)


@rule('full: attributes of files change, names move, files are cut', ROOT)
def _():
    make('a', b'x' * 100_000)
    os.mkdir('d')
    make('d/b')
    with Open('a') as fd:
        os.fsync(fd)
    fill()
    os.chmod('a', 0o600)
    os.chown('a', 5, 5)
    os.utime('a', (1, 2))
    os.rename('a', 'c')
    os.rename('c', 'd/b')
    os.truncate('d/b', 50_000)
    os.truncate('d/b', 0)
    equal((os.stat('d/b').st_size, os.listdir('d')), (0, ['b']))


@rule('full: overwriting what is there', ROOT)
def _():
    make('a', b'x' * MIB)
    with Open('a') as fd:
        os.fsync(fd)
        fill()
        os.pwrite(fd, b'y' * MIB, 0)
        os.fsync(fd)
        equal(os.pread(fd, MIB, 0), b'y' * MIB)


@rule('full: deleting works, and gives the space back', ROOT)
def _():
    os.mkdir('d')
    for number in range(200):
        make(f'd/{number}', b'x' * 20_000)
    with Open('.', os.O_RDONLY) as fd:
        # What earlier rules lost is told once.
        fails((0, E.ENOSPC), call, 'syncfs', fd)
        call('syncfs', fd)
    fill()
    for number in range(200):
        os.unlink(f'd/{number}')
    os.rmdir('d')
    os.unlink('filler')
    wait_for_free(4000)
    make('again', b'x' * 10 * MIB)
    with Open('again') as fd:
        os.fsync(fd)


def wait_for_free(blocks):
    for _ in range(200):
        if os.statvfs('.').f_bavail > blocks:
            return
        pause()
    check(False, f'{os.statvfs(".").f_bavail} blocks are free')


@rule('full: a hole punched makes room', ROOT)
def _():
    total = fill()
    with Open('filler') as fd:
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, total // 2)
    wait_for_free(total // 2 // PAGE - 600)
    make('a', b'x' * 2 * MIB)
    with Open('a') as fd:
        os.fsync(fd)


@rule('full: 20 times filled and emptied, everything is there again', ROOT, 120)
def _():
    first = os.statvfs('.').f_bfree
    for _ in range(20):
        fill(chunk=4 * MIB)
        os.unlink('filler')
    for _ in range(200):
        if os.statvfs('.').f_bfree >= first - 8:
            return
        pause()
    equal(os.statvfs('.').f_bfree, first)
