# open(2): its flags, what they refuse, and what they do to the file.

import resource

from kit import *


@rule('open: O_CREAT makes a file of mode less umask, owned by who asks')
def _():
    os.umask(0o027)
    with Open('a', os.O_CREAT | os.O_RDWR, 0o777) as fd:
        found = os.fstat(fd)
        equal((stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_nlink, found.st_size),
              (0o750, os.geteuid(), os.getegid(), 1, 0))
    os.umask(0)
    for mode in (0o000, 0o001, 0o400, 0o4755, 0o1644, 0o6711):
        os.close(os.open(f'{mode}', os.O_CREAT | os.O_WRONLY, mode))
        equal(mode_of(f'{mode}'), mode)


@rule('open: a file of mode 0 is written by who has just made it')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR, 0) as fd:
        os.write(fd, b'x')
        equal(os.pread(fd, 1, 0), b'x')


@rule('open: O_CREAT of what is there changes nothing of it')
def _():
    make('a', b'data', 0o640)
    before = os.stat('a')
    pause()
    os.close(os.open('a', os.O_CREAT | os.O_RDWR, 0o777))
    after = os.stat('a')
    equal((after.st_mode, after.st_size, after.st_mtime_ns, after.st_ctime_ns),
          (before.st_mode, before.st_size, before.st_mtime_ns, before.st_ctime_ns))


@rule('open: O_CREAT follows a symbolic link that leads nowhere; O_EXCL does not')
def _():
    os.symlink('target', 'l')
    fails(E.EEXIST, os.open, 'l', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(os.open('l', os.O_CREAT | os.O_WRONLY))
    equal(sorted(os.listdir('.')), ['l', 'target'])


@rule('open: O_NOFOLLOW: ELOOP; with O_PATH the link itself')
def _():
    make('a')
    os.symlink('a', 'l')
    fails(E.ELOOP, os.open, 'l', os.O_RDONLY | os.O_NOFOLLOW)
    with Open('l', os.O_PATH | os.O_NOFOLLOW) as fd:
        equal(stat.S_ISLNK(os.fstat(fd).st_mode), True)
        equal(os.readlink(b'', dir_fd=fd), b'a')


@rule('open: O_DIRECTORY of what is none: ENOTDIR')
def _():
    make('a')
    os.mkdir('d')
    fails(E.ENOTDIR, os.open, 'a', os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open('d', os.O_RDONLY | os.O_DIRECTORY))


@rule('open: folders are not written: EISDIR')
def _():
    os.mkdir('d')
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_RDONLY | os.O_CREAT):
        fails(E.EISDIR, os.open, 'd', flags)
    with Open('d', os.O_RDONLY) as fd:
        fails(E.EISDIR, os.read, fd, 10)
        fails(E.EBADF, os.write, fd, b'x')
        fails((E.EINVAL, E.EISDIR), os.ftruncate, fd, 0)


@rule('open: O_TRUNC empties, moves mtime and ctime, and frees')
def _():
    make('a', b'x' * 100_000)
    os.utime('a', (1000, 1000))
    before = ctime('a')
    pause()
    os.close(os.open('a', os.O_WRONLY | os.O_TRUNC))
    found = os.stat('a')
    equal((found.st_size, found.st_blocks), (0, 0))
    check(found.st_mtime > 10_000 and found.st_ctime_ns > before, 'the times have not moved')


@rule('open: O_TRUNC of an empty file moves its times too')
def _():
    make('a')
    os.utime('a', (1000, 1000))
    os.close(os.open('a', os.O_WRONLY | os.O_TRUNC))
    check(os.stat('a').st_mtime > 10_000, 'mtime has not moved')


@rule('open: O_TRUNC is seen by who has the file open')
def _():
    make('a', b'0123456789')
    with Open('a') as fd:
        equal(os.pread(fd, 100, 0), b'0123456789')
        make('a', b'ab')
        equal((os.pread(fd, 100, 0), os.fstat(fd).st_size), (b'ab', 2))


@rule('open: O_APPEND writes at the end, wherever the offset and whoever else writes')
def _():
    make('a', b'start')
    with Open('a', os.O_RDWR | os.O_APPEND) as one, Open('a') as two:
        os.lseek(one, 0, os.SEEK_SET)
        os.write(one, b'1')
        os.pwrite(two, b'plain', 6)
        os.write(one, b'2')
        equal(os.lseek(one, 0, os.SEEK_CUR), 12)
        # Linux: pwrite of an append descriptor appends too.
        os.pwrite(one, b'3', 0)
        os.ftruncate(two, 3)
        os.write(one, b'4')
    equal(slurp('a'), b'sta4')


@rule('open: O_APPEND of 8 processes at once loses nothing')
def _():
    make('a')
    pids = []
    for number in range(8):
        pid = os.fork()
        if pid == 0:
            fd = os.open('a', os.O_WRONLY | os.O_APPEND)
            for count in range(200):
                os.write(fd, b'%d:%03d;' % (number, count) * 20)
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        equal(os.waitpid(pid, 0)[1], 0)
    data = slurp('a')
    equal(len(data), 8 * 200 * 120)
    records = [data[at:at + 120] for at in range(0, len(data), 120)]
    equal(sorted(records), sorted(b'%d:%03d;' % (n, c) * 20 for n in range(8) for c in range(200)))


@rule('open: reading what is open for writing, and the other way: EBADF')
def _():
    make('a', b'x')
    with Open('a', os.O_WRONLY) as fd:
        fails(E.EBADF, os.read, fd, 1)
    with Open('a', os.O_RDONLY) as fd:
        fails(E.EBADF, os.write, fd, b'x')
        fails(E.EINVAL, os.ftruncate, fd, 0)
        fails(E.EBADF, fallocate, fd, 0, 0, 10)
    with Open('a', os.O_PATH) as fd:
        fails(E.EBADF, os.read, fd, 1)
        fails(E.EBADF, os.fchmod, fd, 0o600)


@rule('open: a program that runs is not written, one that is written does not run: ETXTBSY')
def _():
    with open('/bin/sleep', 'rb') as file:
        make('sleep', file.read(), 0o755)
    pid = os.fork()
    if pid == 0:
        os.execv('./sleep', ['sleep', '30'])
    try:
        for _ in range(200):
            if b'sleep\0' in slurp(f'/proc/{pid}/cmdline'):
                break
            pause()
        fails(E.ETXTBSY, os.open, 'sleep', os.O_WRONLY)
        fails(E.ETXTBSY, os.truncate, 'sleep', 0)
        os.unlink('sleep')
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@rule('open: a program is run, mapped and as a script')
def _():
    with open('/bin/true', 'rb') as file:
        make('true', file.read(), 0o755)
    make('script', b'#!/bin/sh\nexit 7\n', 0o755)
    for path, wanted in (('./true', 0), ('./script', 7)):
        pid = os.fork()
        if pid == 0:
            os.execv(path, [path])
        equal(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), wanted)
    os.chmod('true', 0o644)
    fails(E.EACCES, os.execv, './true', ['true'])


@rule('open: permissions by owner, group and others', ROOT)
def _():
    os.chmod('.', 0o777)
    for mode in range(0o1000):
        if mode not in (0o000, 0o400, 0o200, 0o600, 0o040, 0o020, 0o004, 0o002, 0o077, 0o700, 0o070, 0o007, 0o644):
            continue
        make(f'{mode:o}')
        os.chown(f'{mode:o}', USER, SHARED_GROUP)
        os.chmod(f'{mode:o}', mode)

    def probe(shift):
        for name in os.listdir('.'):
            for bit, flags in ((4, os.O_RDONLY), (2, os.O_WRONLY), (6, os.O_RDWR)):
                allowed = (int(name, 8) >> shift) & bit == bit
                fails(0 if allowed else E.EACCES, lambda: os.close(os.open(name, flags)))
    for uid, shift in ((USER, 6), (OTHER, 3), (STRANGER, 0)):
        as_user(uid, lambda: probe(shift))


@rule('open: O_NOATIME is the owner\'s alone', ROOT)
def _():
    make('a')
    as_user(USER, lambda: fails(E.EPERM, os.open, 'a', os.O_RDONLY | os.O_NOATIME))
    os.chown('a', USER, USER)
    as_user(USER, lambda: os.close(os.open('a', os.O_RDONLY | os.O_NOATIME)))


@rule('open: truncating needs the right to write', ROOT)
def _():
    os.chmod('.', 0o777)
    make('a', b'data')
    as_user(USER, lambda: fails(E.EACCES, os.truncate, 'a', 0))
    as_user(USER, lambda: fails(E.EACCES, os.open, 'a', os.O_RDONLY | os.O_TRUNC))
    equal(slurp('a'), b'data')


@rule('open: many at once')
def _():
    make('a', b'x')
    fds = [os.open('a', os.O_RDONLY) for _ in range(500)]
    os.unlink('a')
    for fd in fds:
        equal(os.read(fd, 1), b'x')
        os.close(fd)


@rule('open: O_CREAT|O_EXCL of 8 processes at once is won by one')
def _():
    for turn in range(20):
        pids = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                try:
                    os.open(f'{turn}', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                except FileExistsError:
                    os._exit(1)
                os._exit(0)
            pids.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        equal(sorted(statuses), [0] + [1] * 7)


@rule('open: O_SYNC and O_DSYNC write')
def _():
    for flag in (os.O_SYNC, os.O_DSYNC):
        with Open('a', os.O_CREAT | os.O_RDWR | flag) as fd:
            os.write(fd, b'x' * 10_000)
            os.pwrite(fd, b'y', 5000)
        equal(slurp('a')[4999:5002], b'xyx')
    with Open('.', os.O_RDONLY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
        call('syncfs', fd)


@rule('open: RLIMIT_FSIZE: EFBIG and SIGXFSZ')
def _():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        equal(os.write(fd, b'x' * 10_000), 5000)
        fails(E.EFBIG, os.write, fd, b'x')
        fails(E.EFBIG, os.ftruncate, fd, 5001)
