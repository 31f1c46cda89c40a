# One of several processes that work at once in one file system: a random history of its own in a folder
# of its own (../mount/workload.py), and things that all of them hand to each other through a shared
# folder: files and small trees that are moved there, taken from there, exchanged, linked and removed.
#
# Always true: what is done in the shared folder is done in every root under one lock, so that each root
# sees the same order; what was taken from there belongs to who has taken it. So all roots end alike.
#
# Usage: model-worker.py SEED LOCK-FILE TOP/NUMBER [TOP/NUMBER ...]; TOP/shared is there in each.

import errno
import fcntl
import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../mount'))
from workload import AT_FDCWD, EXCHANGE, LIBC, NOREPLACE, Workload, libc, serve  # noqa: E402

SHARED, GIFTS = b'/../../shared', b'/../gifts'


class Sharing(Workload):
    def __init__(self, seed, lock, tops):
        for top in tops:
            os.makedirs(f'{top}/work', exist_ok=True)
            os.makedirs(f'{top}/gifts', exist_ok=True)
        super().__init__(seed, [f'{top}/work' for top in tops])
        self.lock = os.open(lock, os.O_RDWR | os.O_CREAT)
        self.number = 0
        self.me = os.path.basename(tops[0]).encode()
        for operation, weight in {self.give: 8, self.give_tree: 3, self.take: 8, self.exchange: 3, self.change_shared: 6,
                                  self.link_shared: 3, self.remove_shared: 3, self.list_shared: 2, self.use_gift: 6,
                                  self.replace_shared: 4}.items():
            self.operations.append(operation)
            self.weights.append(weight)

    def shared(self, what, act):
        """act(root, names): names of the shared folder are the same in every root while the lock is held."""
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            names = sorted(os.listdir(self.roots[0] + SHARED))
            self.everywhere(what, lambda root: act(root, names))
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    def gifts(self):
        return sorted(os.listdir(self.roots[0] + GIFTS))

    def pick(self, names):
        """One choice for all roots: the same random number, whatever how often it is asked."""
        return names[int(self.choice * len(names))] if names else None

    def fresh(self):
        self.number += 1
        self.choice = self.random.random()
        return b'%s-%d' % (self.me, self.number)

    def give(self):
        name, content = self.fresh(), self.bytes(self.length())

        def do(root, _):
            fd = os.open(root + GIFTS + b'/' + name, os.O_CREAT | os.O_WRONLY, 0o644)
            try:
                os.write(fd, content)
            finally:
                os.close(fd)
            os.rename(root + GIFTS + b'/' + name, root + SHARED + b'/' + name)
        self.shared(f'give {name}', do)

    def give_tree(self):
        name, content = self.fresh(), self.bytes(200)

        def do(root, _):
            top = root + GIFTS + b'/' + name
            os.makedirs(top + b'/a/b')
            os.symlink(b'a/b', top + b'/link')
            fd = os.open(top + b'/a/file', os.O_CREAT | os.O_WRONLY, 0o640)
            os.write(fd, content)
            os.close(fd)
            os.setxattr(top, 'user.from', name)
            os.rename(top, root + SHARED + b'/' + name)
        self.shared(f'give tree {name}', do)

    def take(self):
        name = self.fresh()

        def do(root, names):
            found = self.pick(names)
            if found is not None and not self.is_linked(root, found):
                libc(LIBC.renameat2(AT_FDCWD, root + SHARED + b'/' + found, AT_FDCWD, root + GIFTS + b'/' + name,
                                    NOREPLACE))
            return found
        self.shared(f'take {name}', do)

    def exchange(self):
        self.fresh()
        mine = self.gifts()

        def do(root, names):
            found, given = self.pick(names), self.pick(mine)
            if found is None or given is None or self.is_linked(root, found):
                return None
            libc(LIBC.renameat2(AT_FDCWD, root + SHARED + b'/' + found, AT_FDCWD, root + GIFTS + b'/' + given, EXCHANGE))
            return found, given
        self.shared('exchange', do)

    def is_linked(self, root, found):
        """Several names of a file stay in the shared folder: nobody may have a part of it."""
        path = root + SHARED + b'/' + found
        return not os.path.isdir(path) and os.lstat(path).st_nlink > 1

    def replace_shared(self):
        self.fresh()
        mine = self.gifts()

        def do(root, names):
            found, given = self.pick(names), self.pick(mine)
            if found is None or given is None:
                return None
            try:
                os.rename(root + GIFTS + b'/' + given, root + SHARED + b'/' + found)
            except OSError as error:
                return errno.errorcode[error.errno]
            return found, given
        self.shared('replace', do)

    def change_shared(self):
        name, content = self.fresh(), self.bytes(self.length())
        size, mode = self.random.randrange(300_000), self.random.choice([0o600, 0o666, 0o755])

        def do(root, names):
            found = self.pick(names)
            path = root + SHARED + b'/' + (found or b'')
            if found is None or os.path.isdir(path):
                return None
            os.chmod(path, mode)
            os.setxattr(path, 'user.changed', name)
            fd = os.open(path, os.O_RDWR)
            try:
                os.ftruncate(fd, size)
                os.pwrite(fd, content, size // 2)
            finally:
                os.close(fd)
            return found
        self.shared(f'change {name}', do)

    def link_shared(self):
        name = self.fresh()

        def do(root, names):
            found = self.pick(names)
            if found is None or os.path.isdir(root + SHARED + b'/' + found):
                return None
            os.link(root + SHARED + b'/' + found, root + SHARED + b'/' + name)
            return found, os.stat(root + SHARED + b'/' + name).st_nlink
        self.shared(f'link {name}', do)

    def remove_shared(self):
        self.fresh()

        def do(root, names):
            found = self.pick(names)
            if found is None:
                return None
            path = root + SHARED + b'/' + found
            if not os.path.isdir(path):
                os.unlink(path)
                return found
            shutil.rmtree(path)
            return found
        self.shared('remove', do)

    def list_shared(self):
        def do(root, _):
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in os.scandir(root + SHARED))
        self.shared('list', do)

    def use_gift(self):
        """Without the lock: what was taken is nobody else's."""
        self.fresh()
        mine, content = self.gifts(), self.bytes(self.length())

        def do(root):
            given = self.pick(mine)
            if given is None:
                return None
            path = root + GIFTS + b'/' + given
            if os.path.isdir(path):
                return sorted(os.listdir(path)), os.getxattr(path, 'user.from')
            with open(path, 'r+b') as file:
                before = file.read()
                file.write(content)
            return given, hash(before)
        self.everywhere('use', do)


serve(Sharing(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
