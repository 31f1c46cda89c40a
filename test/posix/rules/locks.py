# Locks: flock(2), POSIX locks and those of open file descriptions, within and between processes.

import fcntl

from kit import *

OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38


def lock(kind, start=0, length=0):
    return struct.pack('hhqqi4x', kind, os.SEEK_SET, start, length, 0)


def ofd(fd, kind, start=0, length=0):
    fcntl.fcntl(fd, OFD_SETLK, lock(kind, start, length))


def posix_lock(fd, kind, start=0, length=0):
    fcntl.fcntl(fd, fcntl.F_SETLK, lock(kind, start, length))


def refused(work):
    fails((E.EAGAIN, E.EACCES), work)


@rule('flock: exclusive and shared, between descriptions')
def _():
    make('a')
    with Open('a') as one, Open('a') as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        refused(lambda: fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB))
        fcntl.flock(one, fcntl.LOCK_SH)
        fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
        refused(lambda: fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB))
        fcntl.flock(two, fcntl.LOCK_UN)
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)


@rule('flock: held by a copy of the descriptor, dropped with the last')
def _():
    make('a')
    with Open('a') as one, Open('a') as two:
        copy = os.dup(one)
        fcntl.flock(one, fcntl.LOCK_EX)
        os.close(one)
        refused(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
        os.close(copy)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)


@rule('flock: of folders and of what was unlinked')
def _():
    os.mkdir('d')
    with Open('d', os.O_RDONLY) as one, Open('d', os.O_RDONLY) as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        refused(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
        os.rmdir('d')
        refused(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))


@rule('flock: waits until the other ends')
def _():
    make('a')
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        fd = os.open('a', os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(into, b'.')
        pause()
        os.pwrite(fd, b'child', 0)
        os._exit(0)
    os.close(into)
    equal(os.read(out, 1), b'.', 'the other process')
    with Open('a') as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        equal(os.pread(fd, 10, 0), b'child')
    os.waitpid(pid, 0)


@rule('POSIX locks: ranges, between processes')
def _():
    make('a', b'x' * 100)
    with Open('a') as fd:
        posix_lock(fd, fcntl.F_WRLCK, 10, 10)
        posix_lock(fd, fcntl.F_RDLCK, 50, 10)

        def other():
            with Open('a') as mine:
                refused(lambda: posix_lock(mine, fcntl.F_WRLCK, 15, 1))
                refused(lambda: posix_lock(mine, fcntl.F_RDLCK, 0, 11))
                refused(lambda: posix_lock(mine, fcntl.F_WRLCK, 59, 1))
                posix_lock(mine, fcntl.F_RDLCK, 55, 1)
                posix_lock(mine, fcntl.F_WRLCK, 20, 30)
                kind, _, start, length, pid = struct.unpack('hhqqi4x', fcntl.fcntl(mine, fcntl.F_GETLK,
                                                                                   lock(fcntl.F_WRLCK, 0, 100)))
                equal((kind, start, length, pid), (fcntl.F_WRLCK, 10, 10, os.getppid()))
        in_child(other)
        posix_lock(fd, fcntl.F_WRLCK, 0, 0)


@rule('POSIX locks: any close of the file drops those of the process')
def _():
    make('a')
    with Open('a') as fd:
        posix_lock(fd, fcntl.F_WRLCK)
        os.close(os.open('a', os.O_RDONLY))

        def other():
            with Open('a') as mine:
                posix_lock(mine, fcntl.F_WRLCK)
        in_child(other)


@rule('POSIX locks: split, joined and not inherited by fork')
def _():
    make('a')
    with Open('a') as fd:
        posix_lock(fd, fcntl.F_WRLCK, 0, 100)
        posix_lock(fd, fcntl.F_UNLCK, 40, 10)

        def other():
            posix_lock(fd, fcntl.F_WRLCK, 40, 10)
            refused(lambda: posix_lock(fd, fcntl.F_WRLCK, 39, 1))
            refused(lambda: posix_lock(fd, fcntl.F_WRLCK, 50, 1))
        in_child(other)


@rule('POSIX locks: a deadlock is found: EDEADLK')
def _():
    make('a')
    out, into = os.pipe()
    back, forth = os.pipe()
    with Open('a') as fd:
        posix_lock(fd, fcntl.F_WRLCK, 0, 1)
        pid = os.fork()
        if pid == 0:
            posix_lock(fd, fcntl.F_WRLCK, 1, 1)
            os.write(into, b'.')
            os.read(back, 1)
            code = 0
            try:
                fcntl.fcntl(fd, fcntl.F_SETLKW, lock(fcntl.F_WRLCK, 0, 1))
            except OSError as error:
                code = error.errno
            os._exit(code)
        os.read(out, 1)
        os.write(forth, b'.')
        mine = 0
        try:
            fcntl.fcntl(fd, fcntl.F_SETLKW, lock(fcntl.F_WRLCK, 1, 1))
        except OSError as error:
            mine = error.errno
            posix_lock(fd, fcntl.F_UNLCK)
        theirs = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        equal(sorted((mine, theirs)), [0, E.EDEADLK])


@rule('POSIX locks: need the right to read or write: EBADF')
def _():
    make('a')
    with Open('a', os.O_RDONLY) as fd:
        fails(E.EBADF, posix_lock, fd, fcntl.F_WRLCK)
        posix_lock(fd, fcntl.F_RDLCK)
    with Open('a', os.O_WRONLY) as fd:
        fails(E.EBADF, posix_lock, fd, fcntl.F_RDLCK)


@rule('OFD locks: belong to the description')
def _():
    make('a')
    with Open('a') as one, Open('a') as two:
        ofd(one, fcntl.F_WRLCK, 0, 10)
        refused(lambda: ofd(two, fcntl.F_WRLCK, 5, 1))
        ofd(two, fcntl.F_WRLCK, 10, 10)
        os.close(os.open('a', os.O_RDONLY))
        refused(lambda: ofd(two, fcntl.F_WRLCK, 5, 1))
        refused(lambda: posix_lock(two, fcntl.F_WRLCK, 5, 1))
        in_child(lambda: ofd(one, fcntl.F_UNLCK, 0, 10))
        ofd(two, fcntl.F_WRLCK, 5, 1)


@rule('locks: flock and POSIX locks do not meet')
def _():
    make('a')
    with Open('a') as one, Open('a') as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        ofd(two, fcntl.F_WRLCK)


@rule('leases: broken by opening')
def _():
    make('a')
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    with Open('a', os.O_RDONLY) as fd:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        equal(fcntl.fcntl(fd, fcntl.F_GETLEASE), fcntl.F_RDLCK)
        fails(E.EAGAIN, os.open, 'a', os.O_WRONLY | os.O_NONBLOCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os.close(os.open('a', os.O_WRONLY | os.O_NONBLOCK))
