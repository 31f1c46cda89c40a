# Extended attributes and access control lists.

from kit import *

NONE_NAMES = ('user.a', 'user.b')


@rule('xattr: set, read, listed, replaced, removed, on files and folders')
def _():
    make('a')
    os.mkdir('d')
    for path in ('a', 'd'):
        os.setxattr(path, 'user.a', b'')
        os.setxattr(path, 'user.b', bytes(range(256)))
        equal(sorted(os.listxattr(path)), ['user.a', 'user.b'])
        equal((os.getxattr(path, 'user.a'), os.getxattr(path, 'user.b')), (b'', bytes(range(256))))
        os.setxattr(path, 'user.a', b'changed')
        equal(os.getxattr(path, 'user.a'), b'changed')
        os.removexattr(path, 'user.a')
        equal(os.listxattr(path), ['user.b'])
        fails(E.ENODATA, os.getxattr, path, 'user.a')
        fails(E.ENODATA, os.removexattr, path, 'user.a')


@rule('xattr: XATTR_CREATE and XATTR_REPLACE')
def _():
    make('a')
    fails(E.ENODATA, os.setxattr, 'a', 'user.a', b'', os.XATTR_REPLACE)
    os.setxattr('a', 'user.a', b'1', os.XATTR_CREATE)
    fails(E.EEXIST, os.setxattr, 'a', 'user.a', b'2', os.XATTR_CREATE)
    os.setxattr('a', 'user.a', b'3', os.XATTR_REPLACE)
    equal(os.getxattr('a', 'user.a'), b'3')
    fails(E.EINVAL, os.setxattr, 'a', 'user.a', b'', 8)


@rule('xattr: names: 255 bytes, and no more; unknown spaces: EOPNOTSUPP')
def _():
    make('a')
    os.setxattr('a', 'user.' + 'n' * 250, b'x')
    equal(os.listxattr('a'), ['user.' + 'n' * 250])
    fails(E.ERANGE, os.setxattr, 'a', 'user.' + 'n' * 251, b'x')
    fails(E.ERANGE, os.setxattr, 'a', '', b'x')
    fails(E.EINVAL, os.setxattr, 'a', 'user.', b'x')
    fails(E.EOPNOTSUPP, os.setxattr, 'a', 'unknown.a', b'x')
    fails(E.EOPNOTSUPP, os.setxattr, 'a', 'nodot', b'x')
    fails(E.EOPNOTSUPP, os.getxattr, 'a', 'unknown.a')


@rule('xattr: names of any bytes')
def _():
    make('a')
    name = b'user.' + bytes(byte for byte in range(1, 256))[:200]
    os.setxattr('a', name, b'x')
    equal((os.listxattr(b'a'), os.getxattr('a', name)), ([os.fsdecode(name)], b'x'))


@rule('xattr: values past 64 KiB: E2BIG; past a block: ENOSPC, and what was stays')
def _():
    make('a')
    os.setxattr('a', 'user.a', b'stays')
    fails(E.E2BIG, os.setxattr, 'a', 'user.b', bytes(65_537))
    fails(E.ENOSPC, os.setxattr, 'a', 'user.b', bytes(65_536))
    fails(E.ENOSPC, os.setxattr, 'a', 'user.a', bytes(5000))
    equal((os.getxattr('a', 'user.a'), os.listxattr('a')), (b'stays', ['user.a']))


@rule('xattr: as many as fit in a block, and then room again')
def _():
    make('a')
    count = 0
    try:
        while count < 1000:
            os.setxattr('a', f'user.{count:03}', b'v' * 20)
            count += 1
    except OSError as error:
        equal(error.errno, E.ENOSPC)
    check(80 <= count < 200, f'{count} fit')
    equal(sorted(os.listxattr('a')), [f'user.{number:03}' for number in range(count)])
    for number in range(0, count, 2):
        os.removexattr('a', f'user.{number:03}')
    for number in range(1, count, 2):
        equal(os.getxattr('a', f'user.{number:03}'), b'v' * 20)
    os.setxattr('a', 'user.again', b'v' * 300)


@rule('xattr: ERANGE where the room is too small; the size where there is none')
def _():
    make('a')
    os.setxattr('a', 'user.a', b'v' * 100)
    room = ctypes.create_string_buffer(200)
    equal((call('getxattr', 'a', 'user.a', room, 0), call('getxattr', 'a', 'user.a', room, 100)), (100, 100))
    fails(E.ERANGE, call, 'getxattr', 'a', 'user.a', room, 99)
    equal((call('listxattr', 'a', room, 0), call('listxattr', 'a', room, 7)), (7, 7))
    fails(E.ERANGE, call, 'listxattr', 'a', room, 6)


@rule('xattr: user attributes of links and special files: EPERM')
def _():
    os.symlink('x', 'l')
    os.mkfifo('f')
    fails(E.EPERM, os.setxattr, 'l', 'user.a', b'', follow_symlinks=False)
    fails(E.EPERM, os.setxattr, 'f', 'user.a', b'')
    fails((E.EPERM, E.ENODATA), os.getxattr, 'f', 'user.a')
    equal(os.listxattr('l', follow_symlinks=False), [])


@rule('xattr: trusted and security are root\'s', ROOT)
def _():
    make('a')
    os.symlink('x', 'l')
    os.setxattr('a', 'trusted.t', b't')
    os.setxattr('l', 'trusted.t', b't', follow_symlinks=False)
    os.setxattr('a', 'security.s', b's')
    equal(sorted(os.listxattr('a')), ['security.s', 'trusted.t'])
    os.chmod('a', 0o666)
    os.chmod('.', 0o777)
    os.chown('a', USER, USER)

    def work():
        fails(E.EPERM, os.setxattr, 'a', 'trusted.t', b'x')
        fails(E.ENODATA, os.getxattr, 'a', 'trusted.t')
        fails(E.EPERM, os.removexattr, 'a', 'trusted.t')
        fails(E.EPERM, os.setxattr, 'a', 'security.s', b'x')
        equal(os.getxattr('a', 'security.s'), b's')
    as_user(USER, work)
    equal((os.getxattr('a', 'trusted.t'), os.getxattr('l', 'trusted.t', follow_symlinks=False)), (b't', b't'))


@rule('xattr: trusted and security need privilege, on one\'s own files too', ORDINARY)
def _():
    make('a')
    os.mkdir('d')
    for path in ('a', 'd'):
        for flags in (0, os.XATTR_CREATE, os.XATTR_REPLACE):
            fails(E.EPERM, os.setxattr, path, 'trusted.t', b'x', flags)
        fails(E.ENODATA, os.getxattr, path, 'trusted.t')
        fails(E.EPERM, os.removexattr, path, 'trusted.t')
        fails(E.EPERM, os.setxattr, path, 'security.s', b'x')
        fails(E.EPERM, os.setxattr, path, 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0))
        equal(os.listxattr(path), [])


@rule('xattr: trusted attributes are not listed to others', ROOT)
def _():
    make('a')
    os.setxattr('a', 'trusted.t', b't')
    os.setxattr('a', 'user.u', b'u')
    as_user(USER, lambda: equal(os.listxattr('a'), ['user.u']))


@rule('xattr: user attributes follow the rights to read and write', ROOT)
def _():
    make('a')
    os.setxattr('a', 'user.u', b'u')
    as_user(USER, lambda: equal(os.getxattr('a', 'user.u'), b'u'))
    as_user(USER, lambda: fails(E.EACCES, os.setxattr, 'a', 'user.u', b'v'))
    os.chmod('a', 0o600)
    as_user(USER, lambda: fails(E.EACCES, os.getxattr, 'a', 'user.u'))
    os.mkdir('t')
    os.chmod('t', 0o1777)
    as_user(USER, lambda: fails(E.EPERM, os.setxattr, 't', 'user.u', b'v'))


@rule('xattr: on descriptors and of unlinked files')
def _():
    with Open('a', os.O_CREAT | os.O_RDWR) as fd:
        os.setxattr(fd, 'user.a', b'1')
        os.unlink('a')
        os.setxattr(fd, 'user.b', b'2')
        equal((os.getxattr(fd, 'user.a'), sorted(os.listxattr(fd))), (b'1', ['user.a', 'user.b']))
    with Open('b', os.O_CREAT | os.O_RDWR) as fd, Open('b', os.O_PATH) as path:
        fails(E.EBADF, os.setxattr, path, 'user.a', b'1')


@rule('xattr: kept by rename, link and chmod; a new file has none')
def _():
    make('a')
    os.setxattr('a', 'user.a', b'1')
    os.rename('a', 'b')
    os.link('b', 'c')
    os.chmod('c', 0o600)
    equal(os.getxattr('c', 'user.a'), b'1')
    make('a')
    equal(os.listxattr('a'), [])


# -- access control lists

def full(owner=6, group=4, mask=6, others=4, users=(), groups=()):
    return acl((ACL_OWNER, owner), *[(ACL_USER, bits, uid) for uid, bits in users], (ACL_GROUP, group),
               *[(ACL_NAMED_GROUP, bits, gid) for gid, bits in groups], (ACL_MASK, mask), (ACL_OTHERS, others))


@rule('acl: set and read as it was; the mode shows the mask')
def _():
    make('a')
    value = full(users=[(USER, 7), (OTHER, 2)], groups=[(SHARED_GROUP, 5)], mask=7)
    os.setxattr('a', ACCESS_ACL, value)
    equal((os.getxattr('a', ACCESS_ACL), mode_of('a')), (value, 0o674))
    equal(os.listxattr('a'), [ACCESS_ACL])


@rule('acl: one that says no more than a mode becomes the mode')
def _():
    make('a')
    os.setxattr('a', ACCESS_ACL, acl((ACL_OWNER, 7), (ACL_GROUP, 5), (ACL_OTHERS, 1)))
    equal((mode_of('a'), os.listxattr('a')), (0o751, []))
    fails(E.ENODATA, os.getxattr, 'a', ACCESS_ACL)


@rule('acl: chmod changes owner, mask and others')
def _():
    make('a')
    os.setxattr('a', ACCESS_ACL, full(users=[(OTHER, 7)], mask=7))
    os.chmod('a', 0o751)
    equal(os.getxattr('a', ACCESS_ACL), full(owner=7, group=4, mask=5, others=1, users=[(OTHER, 7)]))
    equal(mode_of('a'), 0o751)


@rule('acl: removed: the mode stays as it shows')
def _():
    make('a')
    os.setxattr('a', ACCESS_ACL, full(users=[(OTHER, 7)], mask=7, group=0))
    os.removexattr('a', ACCESS_ACL)
    fails(E.ENODATA, os.getxattr, 'a', ACCESS_ACL)
    equal(mode_of('a'), 0o674)
    os.removexattr('a', ACCESS_ACL)


@rule('acl: invalid ones: EINVAL; of another version: EOPNOTSUPP')
def _():
    make('a')
    for value in (acl((ACL_OWNER, 7)), acl((ACL_OWNER, 7), (ACL_USER, 7, 5), (ACL_GROUP, 5), (ACL_OTHERS, 1)),
                  acl((ACL_OTHERS, 7), (ACL_GROUP, 5), (ACL_OWNER, 1)), acl((ACL_OWNER, 9), (ACL_GROUP, 5), (ACL_OTHERS, 1)),
                  acl((3, 7), (ACL_GROUP, 5), (ACL_OTHERS, 1)), b'\2\0\0\0abc', b'\2'):
        fails(E.EINVAL, os.setxattr, 'a', ACCESS_ACL, value)
    fails(E.EOPNOTSUPP, os.setxattr, 'a', ACCESS_ACL, struct.pack('<I', 1) + full()[4:])
    equal((mode_of('a'), os.listxattr('a')), (0o644, []))


@rule('acl: only the owner sets it; links have none', ROOT)
def _():
    make('a')
    os.chmod('a', 0o666)
    as_user(USER, lambda: fails(E.EPERM, os.setxattr, 'a', ACCESS_ACL, full()))
    os.chown('a', USER, USER)
    as_user(USER, lambda: os.setxattr('a', ACCESS_ACL, full(users=[(OTHER, 6)])))
    os.symlink('a', 'l')
    fails(E.EOPNOTSUPP, os.setxattr, 'l', ACCESS_ACL, full(), follow_symlinks=False)


@rule('acl: named users, named groups and the mask decide', ROOT)
def _():
    os.chmod('.', 0o755)

    def may(uid, reads, writes):
        def work():
            fails(0 if reads else E.EACCES, lambda: os.close(os.open('a', os.O_RDONLY)))
            fails(0 if writes else E.EACCES, lambda: os.close(os.open('a', os.O_WRONLY)))
        as_user(uid, work)
    make('a', b'x', 0o600)
    os.setxattr('a', ACCESS_ACL, full(owner=6, group=0, others=0, users=[(USER, 6)], groups=[(SHARED_GROUP, 4)]))
    may(USER, True, True)
    may(OTHER, True, False)
    may(STRANGER, False, False)
    os.chmod('a', 0o640)
    may(USER, True, False)
    # Linux does not look at the list where the mask is empty (acl_permission_check()).
    os.chmod('a', 0o604)
    may(STRANGER, True, False)
    os.setxattr('a', ACCESS_ACL, full(others=7, group=6, users=[(USER, 0)], mask=7))
    may(USER, False, False)
    may(OTHER, True, True)


@rule('acl: of a folder decides about making and removing', ROOT)
def _():
    os.mkdir('d', 0o700)
    os.setxattr('d', ACCESS_ACL, full(owner=7, group=0, others=0, mask=7, users=[(USER, 7), (OTHER, 5)]))
    as_user(USER, lambda: make('d/a'))
    as_user(OTHER, lambda: (os.listdir('d'), fails(E.EACCES, make, 'd/b')))
    as_user(STRANGER, lambda: fails(E.EACCES, os.listdir, 'd'))
    as_user(USER, lambda: os.unlink('d/a'))


@rule('acl: default: only folders have it; files: EACCES')
def _():
    make('a')
    os.mkdir('d')
    fails(E.EACCES, os.setxattr, 'a', DEFAULT_ACL, full())
    os.setxattr('d', DEFAULT_ACL, full(users=[(OTHER, 7)]))
    equal((mode_of('d'), os.getxattr('d', DEFAULT_ACL)), (0o755, full(users=[(OTHER, 7)])))
    os.removexattr('d', DEFAULT_ACL)
    fails(E.ENODATA, os.getxattr, 'd', DEFAULT_ACL)


@rule('acl: default: inherited by files with the mode that was asked for, whatever the umask')
def _():
    os.mkdir('d')
    os.setxattr('d', DEFAULT_ACL, full(owner=7, group=5, mask=7, others=0, users=[(OTHER, 7)]))
    os.umask(0o077)
    make('d/a', b'', 0o666)
    equal(mode_of('d/a'), 0o660)
    equal(os.getxattr('d/a', ACCESS_ACL), full(owner=6, group=5, mask=6, others=0, users=[(OTHER, 7)]))
    fails((E.ENODATA,), os.getxattr, 'd/a', DEFAULT_ACL)
    os.mkfifo('d/fifo', 0o600)
    equal(mode_of('d/fifo'), 0o600)
    with Open('d', os.O_TMPFILE | os.O_RDWR, 0o644) as fd:
        equal(os.getxattr(fd, ACCESS_ACL), full(owner=6, group=5, mask=4, others=0, users=[(OTHER, 7)]))


@rule('acl: default: inherited by folders, as access and as default')
def _():
    os.mkdir('d')
    value = full(owner=7, group=5, mask=7, others=0, users=[(OTHER, 7)])
    os.setxattr('d', DEFAULT_ACL, value)
    os.umask(0o077)
    os.mkdir('d/e', 0o777)
    equal((os.getxattr('d/e', DEFAULT_ACL), os.getxattr('d/e', ACCESS_ACL), mode_of('d/e')), (value, value, 0o770))
    os.symlink('x', 'd/l')
    equal(os.listxattr('d/l', follow_symlinks=False), [])


@rule('acl: default: one like a mode takes the umask\'s place')
def _():
    os.mkdir('d')
    os.setxattr('d', DEFAULT_ACL, acl((ACL_OWNER, 7), (ACL_GROUP, 5), (ACL_OTHERS, 4)))
    os.umask(0o077)
    make('d/a', b'', 0o666)
    equal((mode_of('d/a'), os.listxattr('d/a')), (0o644, []))


@rule('acl: S_ISGID falls when one who is not of the group sets an ACL', ROOT)
def _():
    make('a', b'', 0o755)
    os.chown('a', USER, 7777)
    os.chmod('a', 0o2755)
    as_user(USER, lambda: os.setxattr('a', ACCESS_ACL, full(owner=7, group=5, mask=5, others=5, users=[(OTHER, 5)])))
    equal(mode_of('a'), 0o755)


@rule('acl: hundreds of entries')
def _():
    make('a')
    value = full(users=[(3000 + number, 4) for number in range(400)])
    os.setxattr('a', ACCESS_ACL, value)
    equal(os.getxattr('a', ACCESS_ACL), value)
    fails(E.ENOSPC, os.setxattr, 'a', ACCESS_ACL, full(users=[(3000 + number, 4) for number in range(505)]))
    equal(os.getxattr('a', ACCESS_ACL), value)
