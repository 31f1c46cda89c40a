# Writes files durably until its file system dies under it, and keeps a ledger elsewhere of what it was
# promised; afterwards says whether the promises were kept.
#
# Usage: durable-writer.py write FOLDER LEDGER SEED    ends with exit code 3 when the file system is gone
#        durable-writer.py verify FOLDER LEDGER        prints what is wrong, ends with `N promises`
#
# A ledger line is `begin KIND NAME NUMBER` before anything of a step is done, `kept KIND NAME NUMBER`
# after its fsync has returned. What was kept must be there, whole; what was begun may be.
#   log      a file that grows: record NUMBER is appended, then fsync
#   page     page NUMBER % PAGES of a file of that many, overwritten with version NUMBER, then fdatasync
#   replace  version NUMBER of a whole file, written beside it, fsync, renamed over it, fsync of the folder
#   name     a new file, written and fsynced once; every third is removed again later (`gone`, with fsync)

import errno
import hashlib
import os
import random
import sys

PAGE = 4096
PAGES = 64
DEAD = {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EIO, errno.ENOENT}


def content(kind, name, number, length):
    seed = f'{kind} {name} {number}\n'.encode()
    return seed + hashlib.shake_128(seed).digest(max(0, length - len(seed)))


def record_length(number):
    return 100 + number * 7919 % 9000


def write_all(fd, data, offset):
    while data:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


class Writer:
    def __init__(self, folder, ledger, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.number = seed * 1_000_000
        self.ends = {}
        self.names = []

    def say(self, verb, kind, name, number):
        os.write(self.ledger, f'{verb} {kind} {name} {number}\n'.encode())

    def promised(self, kind, name, act):
        self.number += 1
        number = self.number
        self.say('begin', kind, name, number)
        act(number)
        self.say('kept', kind, name, number)

    def run(self):
        steps = [self.log, self.page, self.replace, self.name, self.remove]
        while True:
            self.random.choices(steps, [6, 6, 2, 4, 1])[0]()

    def log(self):
        name = f'log-{self.random.randrange(4)}'
        fd = os.open(f'{self.folder}/{name}', os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            def append(number):
                data = content('log', name, number, record_length(number))
                # A record of a round before that was begun and not kept may be there in part: after it.
                end = self.ends.get(name, os.fstat(fd).st_size)
                write_all(fd, data, end)
                os.fsync(fd)
                self.ends[name] = end + len(data)
                self.say('at', 'log', name, f'{number} {end}')
            self.promised('log', name, append)
        finally:
            os.close(fd)

    def page(self):
        name = 'pages'
        fd = os.open(f'{self.folder}/{name}', os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            def overwrite(number):
                write_all(fd, content('page', name, number, PAGE), number % PAGES * PAGE)
                (os.fdatasync if number % 2 else os.fsync)(fd)
            self.promised('page', name, overwrite)
        finally:
            os.close(fd)

    def replace(self):
        name = f'replaced-{self.random.randrange(3)}'

        def change(number):
            path = f'{self.folder}/{name}.new'
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            try:
                write_all(fd, content('replace', name, number, number * 104_729 % 200_000), 0)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(path, f'{self.folder}/{name}')
            self.sync_folder()
        self.promised('replace', name, change)

    def sync_folder(self):
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def name(self):
        name = f'name-{self.number + 1}'

        def make(number):
            fd = os.open(f'{self.folder}/{name}', os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                write_all(fd, content('name', name, number, record_length(number)), 0)
                os.fsync(fd)
            finally:
                os.close(fd)
        self.promised('name', name, make)
        self.names.append(name)

    def remove(self):
        if not self.names:
            return
        name = self.names.pop(self.random.randrange(len(self.names)))

        def remove(_):
            os.unlink(f'{self.folder}/{name}')
            self.sync_folder()
        self.promised('gone', name, remove)


class Verifier:
    def __init__(self, folder, ledger):
        self.folder = folder
        self.begun = {}
        self.kept = {}
        self.places = []
        with open(ledger, encoding='utf8') as lines:
            for line in lines:
                verb, kind, name, number, *rest = line.split()
                if verb == 'at':
                    self.places.append((name, int(number), int(rest[0])))
                    continue
                key = (kind, name, int(number) % PAGES) if kind == 'page' else (kind, name)
                (self.begun if verb == 'begin' else self.kept).setdefault(key, []).append(int(number))

    def read(self, name):
        try:
            with open(f'{self.folder}/{name}', 'rb') as file:
                return file.read()
        except FileNotFoundError:
            return None

    def run(self):
        for problem in [*self.logs(), *self.pages(), *self.replaced(), *self.names()]:
            print(problem)
        print(sum(map(len, self.kept.values())), 'promises')

    def logs(self):
        for name, number, at in self.places:
            data = content('log', name, number, record_length(number))
            if (self.read(name) or b'')[at:at + len(data)] != data:
                yield f'{name}: record {number} at {at} is not there'

    def pages(self):
        whole = self.read('pages') or b''
        for (kind, name, page), numbers in self.of('page'):
            kept = self.kept.get((kind, name, page), [0])[-1]
            allowed = [number for number in numbers if number >= kept]
            found = whole[page * PAGE:(page + 1) * PAGE]
            if not any(found == content('page', name, number, PAGE) for number in allowed):
                if kept or any(found):
                    yield f'page {page} is none of {allowed}: {found[:60]}'

    def replaced(self):
        for (kind, name), numbers in self.of('replace'):
            kept = self.kept.get((kind, name), [0])[-1]
            found = self.read(name)
            allowed = [number for number in numbers if number >= kept]
            if found is None and kept == 0:
                continue
            if not any(found == content(kind, name, number, number * 104_729 % 200_000) for number in allowed):
                yield f'{name} is none of {allowed}: {(found or b"")[:60]}'

    def names(self):
        for (kind, name), numbers in self.of('name'):
            found, number = self.read(name), numbers[0]
            if ('gone', name) in self.kept:
                if found is not None:
                    yield f'{name} is there again'
            elif ('name', name) in self.kept and not (found is None and ('gone', name) in self.begun):
                if found != content(kind, name, number, record_length(number)):
                    yield f'{name}: {found if found is None else found[:60]}'

    def of(self, kind):
        return [(key, numbers) for key, numbers in self.begun.items() if key[0] == kind]


def main():
    if sys.argv[1] == 'verify':
        Verifier(*sys.argv[2:4]).run()
        return
    try:
        Writer(sys.argv[2], sys.argv[3], int(sys.argv[4])).run()
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(3 if error.errno in DEAD else 1)


main()
