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


# -- waiting

KINDS = {
    'flock': (lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
              lambda fd: call('flock', fd, fcntl.LOCK_EX),
              lambda fd: fcntl.flock(fd, fcntl.LOCK_UN)),
    'POSIX locks': (lambda fd: posix_lock(fd, fcntl.F_WRLCK, 0, 10),
                    lambda fd: call('fcntl', fd, fcntl.F_SETLKW, lock(fcntl.F_WRLCK, 5, 10)),
                    lambda fd: posix_lock(fd, fcntl.F_UNLCK)),
    'OFD locks': (lambda fd: ofd(fd, fcntl.F_WRLCK, 0, 10),
                  lambda fd: call('fcntl', fd, OFD_SETLKW, lock(fcntl.F_WRLCK, 5, 10)),
                  lambda fd: ofd(fd, fcntl.F_UNLCK)),
}


class Holder:
    """Another process that has the lock until it is told to let it go, or is killed."""
    def __init__(self, take, give):
        out, into = os.pipe()
        back, self.forth = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.forth)
            fd = os.open('a', os.O_RDWR)
            take(fd)
            os.write(into, b'.')
            os.read(back, 1)
            give(fd)
            os.write(into, b'.')
            os.read(back, 1)
            os._exit(0)
        os.close(into)
        os.close(back)
        self.said = out
        equal(os.read(out, 1), b'.', 'the holder')

    def let_go(self):
        os.write(self.forth, b'.')
        equal(os.read(self.said, 1), b'.', 'the holder')

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def signalled(work):
    """Calls work() while a signal with a handler comes again and again."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    waiter = os.getpid()
    pid = os.fork()
    if pid == 0:
        for _ in range(500):
            pause()
            os.kill(waiter, signal.SIGUSR1)
        os._exit(0)
    try:
        work()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def waits(kind, take, wait, give):
    @rule(f'{kind}: a wait is interrupted by a signal: EINTR')
    def _():
        make('a')
        holder = Holder(take, give)
        with Open('a') as fd:
            signalled(lambda: fails(E.EINTR, wait, fd))
            refused(lambda: take(fd))
            holder.let_go()
            take(fd)
        holder.kill()

    @rule(f'{kind}: a wait ends when the other lets go')
    def _():
        make('a')
        holder = Holder(take, give)
        pid = os.fork()
        if pid == 0:
            fd = os.open('a', os.O_RDWR)
            wait(fd)
            os._exit(0)
        pause()
        equal(os.waitpid(pid, os.WNOHANG), (0, 0), 'it does not wait')
        holder.let_go()
        equal(os.waitpid(pid, 0)[1], 0)
        holder.kill()

    @rule(f'{kind}: a killed process holds none, nor does one killed while it waits')
    def _():
        make('a')
        holder = Holder(take, give)
        pid = os.fork()
        if pid == 0:
            fd = os.open('a', os.O_RDWR)
            wait(fd)
            os._exit(0)
        pause()
        os.kill(pid, signal.SIGKILL)
        equal(os.waitpid(pid, 0)[1], signal.SIGKILL)
        with Open('a') as fd:
            refused(lambda: take(fd))
            holder.kill()
            take(fd)


for _kind, (_take, _wait, _give) in KINDS.items():
    waits(_kind, _take, _wait, _give)


@rule('POSIX locks: two who read wait for one who writes, and go on together')
def _():
    make('a', b'x')
    holder = Holder(lambda fd: posix_lock(fd, fcntl.F_WRLCK), lambda fd: posix_lock(fd, fcntl.F_UNLCK))
    out, into = os.pipe()
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            fd = os.open('a', os.O_RDONLY)
            call('fcntl', fd, fcntl.F_SETLKW, lock(fcntl.F_RDLCK))
            os.write(into, b'.')
            time.sleep(30)
            os._exit(0)
        pids.append(pid)
    holder.let_go()
    equal((os.read(out, 1), os.read(out, 1)), (b'.', b'.'))
    with Open('a') as fd:
        posix_lock(fd, fcntl.F_RDLCK)
        refused(lambda: posix_lock(fd, fcntl.F_WRLCK))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    holder.kill()


@rule('locks: ranges to the last byte, before the offset, and none that is no range: EINVAL')
def _():
    make('a', b'x' * 100)
    top = 2**63 - 1
    with Open('a') as one, Open('a') as two:
        ofd(one, fcntl.F_WRLCK, top - 1, 1)
        refused(lambda: ofd(two, fcntl.F_WRLCK, top - 1, 1))
        refused(lambda: ofd(two, fcntl.F_WRLCK, 0, 0))
        ofd(one, fcntl.F_UNLCK)
        ofd(one, fcntl.F_WRLCK, 50, -10)
        refused(lambda: ofd(two, fcntl.F_WRLCK, 40, 1))
        ofd(two, fcntl.F_WRLCK, 50, 1)
        ofd(two, fcntl.F_WRLCK, 39, 1)
        fails(E.EINVAL, ofd, one, fcntl.F_WRLCK, -1, 10)
        fails(E.EINVAL, ofd, one, fcntl.F_WRLCK, 5, -10)
        fails((E.EINVAL, E.EOVERFLOW), ofd, one, fcntl.F_WRLCK, top, 10)
        fails(E.EINVAL, ofd, one, 17, 0, 10)


@rule('OFD locks: who asks is told of a holder without a process; O_PATH has no locks: EBADF')
def _():
    make('a')
    with Open('a') as one, Open('a') as two, Open('a', os.O_PATH) as path:
        ofd(one, fcntl.F_WRLCK, 3, 4)
        found = struct.unpack('hhqqi4x', fcntl.fcntl(two, OFD_GETLK, lock(fcntl.F_RDLCK, 0, 100)))
        equal(found, (fcntl.F_WRLCK, os.SEEK_SET, 3, 4, -1))
        fails(E.EBADF, fcntl.flock, path, fcntl.LOCK_EX)
        fails(E.EBADF, posix_lock, path, fcntl.F_WRLCK)


@rule('locks: kept over rename and unlink, and not by a new file of the name')
def _():
    make('a')
    with Open('a') as one:
        fcntl.flock(one, fcntl.LOCK_EX)
        ofd(one, fcntl.F_WRLCK)
        os.rename('a', 'b')
        with Open('b') as two:
            refused(lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB))
            refused(lambda: ofd(two, fcntl.F_WRLCK))
            os.unlink('b')
            refused(lambda: ofd(two, fcntl.F_WRLCK))
        make('b')
        with Open('b') as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ofd(other, fcntl.F_WRLCK)
