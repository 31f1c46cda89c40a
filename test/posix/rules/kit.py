# What the rules are written with: registration, what an assertion says, other users, and the system
# calls that Python's os lacks.
#
# Always true: a rule runs in a process of its own, in an empty folder of its own that belongs to who runs
# it, with umask 022. It says what went wrong by raising. A rule of `ANYONE` runs twice: as root, and as
# USER; so it must hold for both.

import ctypes
import errno as E
import os
import signal
import stat
import struct
import time

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = 0x100, 0x1000, 0x400
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
MIB = 1 << 20
PAGE = 4096

USER, OTHER, STRANGER = 1000, 1001, 1002
"""The first two share SHARED_GROUP; each has a group of its own number."""
SHARED_GROUP = 2000
GROUPS = {USER: [USER, SHARED_GROUP], OTHER: [OTHER, SHARED_GROUP], STRANGER: [STRANGER]}

ROOT, ANYONE, ORDINARY = 'root', 'anyone', 'user'
RULES = []


class Rule:
    def __init__(self, name, who, seconds, body):
        self.name, self.who, self.seconds, self.body = name, who, seconds, body


def rule(name, who=ANYONE, seconds=60):
    """Registers a function; its name says what holds."""
    def register(body):
        if any(other.name == name for other in RULES):
            raise ValueError(f'two rules are called {name}')
        RULES.append(Rule(name, who, seconds, body))
        return body
    return register


# -- assertions

def code_of(number):
    return E.errorcode.get(number, str(number)) if number else 'success'


def fails(wanted, work, *args, **named):
    """`wanted`: an errno, or a tuple of those that are all right."""
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    got = 0
    try:
        work(*args, **named)
    except OSError as error:
        got = error.errno
    if got not in wanted:
        what = f'{getattr(work, "__name__", "call")}{args!r}'[:160]
        raise AssertionError(f'got {code_of(got)} wanted {" or ".join(map(code_of, wanted))} from {what}')


def equal(found, wanted, what=''):
    if found != wanted:
        raise AssertionError(f'{what}: got {found!r:.200} wanted {wanted!r:.200}'.lstrip(': '))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


# -- system calls

def call(name, *args):
    """A function of the C library by name; numbers go as longs. @returns its result"""
    function = getattr(LIBC, name)
    function.restype = ctypes.c_long
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else os.fsencode(arg) if isinstance(arg, str) else arg
                 for arg in args]
    result = function(*converted)
    if ctypes.c_int(result & 0xFFFFFFFF).value == -1 or result == -1:
        code = ctypes.get_errno()
        raise OSError(code, f'{name}: {os.strerror(code)}')
    return result


def renameat2(old, new, flags):
    call('renameat2', AT_FDCWD, old, AT_FDCWD, new, flags)


def fallocate(fd, mode, offset, length):
    call('fallocate', fd, mode, offset, length)


def linkat(old_fd, old, new, flags):
    call('linkat', old_fd, old, AT_FDCWD, new, flags)


class Timespec(ctypes.Structure):
    _fields_ = [('sec', ctypes.c_long), ('nsec', ctypes.c_long)]


def utimens(path, atime, mtime, flags=0):
    """Each (seconds, nanoseconds); UTIME_NOW and UTIME_OMIT as nanoseconds."""
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    call('utimensat', AT_FDCWD, path, times, flags)


class Statx:
    """statx(2): the fields by name."""
    FIELDS = {'mask': (0, 'I'), 'blksize': (4, 'I'), 'attributes': (8, 'Q'), 'nlink': (16, 'I'), 'uid': (20, 'I'),
              'gid': (24, 'I'), 'mode': (28, 'H'), 'ino': (32, 'Q'), 'size': (40, 'Q'), 'blocks': (48, 'Q'),
              'attributes_mask': (56, 'Q'), 'mnt_id': (144, 'Q'), 'dio_mem_align': (152, 'I')}
    TIMES = {'atime': 64, 'btime': 80, 'ctime': 96, 'mtime': 112}

    def __init__(self, path, flags=AT_SYMLINK_NOFOLLOW, mask=0xFFF):
        room = ctypes.create_string_buffer(256)
        call('statx', AT_FDCWD, path, flags, mask, room)
        for name, (at, form) in self.FIELDS.items():
            setattr(self, name, struct.unpack_from(form, room, at)[0])
        for name, at in self.TIMES.items():
            sec, nsec = struct.unpack_from('qI', room, at)
            setattr(self, name, sec * 10**9 + nsec)


# -- files

def make(path, data=b'', mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def slurp(path):
    with open(path, 'rb') as file:
        return file.read()


class Open:
    """A descriptor for a `with`."""
    def __init__(self, path, flags=os.O_RDWR, mode=0o644, dir_fd=None):
        self.fd = os.open(path, flags, mode, dir_fd=dir_fd)

    def __enter__(self):
        return self.fd

    def __exit__(self, *_):
        try:
            os.close(self.fd)
        except OSError as error:
            if error.errno != E.EBADF:
                raise


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def exists(path):
    return os.path.lexists(path)


def mtime(path):
    return os.lstat(path).st_mtime_ns


def ctime(path):
    return os.lstat(path).st_ctime_ns


def pause():
    """Longer than a tick of the kernel's clock, so that a time that moves is seen to have moved."""
    time.sleep(0.02)


# -- other users

def become(uid, groups=None):
    groups = GROUPS[uid] if groups is None else groups
    os.setgroups(groups)
    os.setresgid(groups[0], groups[0], groups[0])
    os.setresuid(uid, uid, uid)
    # /proc/self stays ours.
    LIBC.prctl(4, 1, 0, 0, 0)


def in_child(work, seconds=50):
    """Runs work() in another process; what it raises is raised here, what it returns (text) is returned."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            os.close(out)
            signal.alarm(seconds)
            said = work()
            os.write(into, os.fsencode(said) if isinstance(said, str) else b'')
        except BaseException as error:
            status = 1
            os.write(into, os.fsencode(str(error) or repr(error))[:4000])
        os._exit(status)
    os.close(into)
    with os.fdopen(out, 'rb') as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status < 0:
        raise AssertionError(f'the other process ended by signal {-status}')
    if status:
        raise AssertionError(os.fsdecode(said))
    return os.fsdecode(said)


def as_user(uid, work, groups=None):
    """For rules of ROOT: runs work() as another user, in another process."""
    def body():
        become(uid, groups)
        return work()
    return in_child(body)


def acl(*entries):
    """(tag, permissions[, id]): the form of the xattr interface."""
    return struct.pack('<I', 2) + b''.join(
        struct.pack('<HHI', entry[0], entry[1], entry[2] if len(entry) > 2 else 0xFFFFFFFF) for entry in entries)


ACL_OWNER, ACL_USER, ACL_GROUP, ACL_NAMED_GROUP, ACL_MASK, ACL_OTHERS = 1, 2, 4, 8, 16, 32
ACCESS_ACL, DEFAULT_ACL = 'system.posix_acl_access', 'system.posix_acl_default'


# -- file handles

MAX_HANDLE = 128


class Handle:
    def __init__(self, path, flags=0):
        self.room = ctypes.create_string_buffer(8 + MAX_HANDLE)
        struct.pack_into('I', self.room, 0, MAX_HANDLE)
        mount = ctypes.c_int()
        call('name_to_handle_at', AT_FDCWD, path, self.room, ctypes.byref(mount), flags)

    def open(self, flags=os.O_RDONLY):
        with Open('/proc/self/cwd', os.O_RDONLY) as mount:
            return call('open_by_handle_at', mount, self.room, flags)

    def bytes(self):
        length, kind = struct.unpack_from('Ii', self.room)
        return kind, self.room.raw[8:8 + length]
