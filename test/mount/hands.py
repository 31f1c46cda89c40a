# Does what it is told to files, each command in a thread of its own, so that one that has to wait holds up
# no other.
#
# Usage: hands.py       lines of JSON on standard input: {"id": 1, "do": "write", ...}
#                       answers as lines of JSON: {"id": 1, "result": ...} or {"id": 1, "errno": "EROFS"}
#        hands.py alternate MODE FILE...     counts up in all files in turn until standard input ends;
#                       MODE is sync (appends 16 bytes, O_SYNC), direct (overwrites a block, O_DIRECT) or
#                       plain (appends, buffered); prints `ready` after the first round

import base64
import errno
import json
import mmap
import os
import sys
import threading

BLOCK = 4096


def aligned(data):
    buffer = mmap.mmap(-1, max(BLOCK, len(data)))
    buffer.write(data)
    return buffer


def record(number):
    return f'{number:015d}\n'.encode()


class Hands:
    def __init__(self):
        self.lock = threading.Lock()
        self.open_files = {}
        self.maps = {}

    def run(self):
        for line in sys.stdin:
            threading.Thread(target=self.answer, args=(json.loads(line),), daemon=True).start()

    def answer(self, command):
        try:
            reply = {'result': getattr(self, command['do'])(command)}
        except OSError as error:
            reply = {'errno': errno.errorcode.get(error.errno, str(error.errno))}
        with self.lock:
            print(json.dumps({'id': command['id'], **reply}), flush=True)

    def write(self, command):
        """Text at an offset, O_DIRECT (a block padded with NUL) or O_SYNC."""
        data = command['text'].encode()
        flags = os.O_WRONLY | os.O_CREAT | (os.O_DIRECT if command.get('direct') else os.O_SYNC)
        fd = os.open(command['path'], flags, 0o644)
        try:
            buffer = aligned(data.ljust(BLOCK, b'\0')) if command.get('direct') else data
            return os.pwrite(fd, buffer, command.get('offset', 0))
        finally:
            os.close(fd)

    def read(self, command):
        with open(command['path'], 'rb') as file:
            return base64.b64encode(file.read()).decode()

    def open(self, command):
        self.open_files[command['name']] = os.open(command['path'], os.O_RDWR | os.O_CREAT, 0o644)

    def write_open(self, command):
        return os.pwrite(self.open_files[command['name']], command['text'].encode(), command.get('offset', 0))

    def read_open(self, command):
        return os.pread(self.open_files[command['name']], command['length'], 0).decode('latin1')

    def map_open(self, command):
        """Writes through a shared mapping, and leaves it there."""
        mapped = self.maps[command['name']] = mmap.mmap(self.open_files[command['name']], BLOCK)
        data = command['text'].encode()
        mapped[:len(data)] = data

    def sync_open(self, command):
        os.fsync(self.open_files[command['name']])

    def close(self, command):
        mapped = self.maps.pop(command['name'], None)
        if mapped is not None:
            mapped.close()
        os.close(self.open_files.pop(command['name']))

    def mkdir(self, command):
        os.mkdir(command['path'])

    def chmod(self, command):
        os.chmod(command['path'], command['mode'])

    def unlink(self, command):
        os.unlink(command['path'])

    def rename(self, command):
        os.rename(command['path'], command['to'])

    def link(self, command):
        os.link(command['path'], command['to'])

    def symlink(self, command):
        os.symlink(command['to'], command['path'])

    def truncate(self, command):
        os.truncate(command['path'], command['length'])

    def setxattr(self, command):
        os.setxattr(command['path'], 'user.x', b'1')

    def utime(self, command):
        os.utime(command['path'], (1, 1))

    def stat(self, command):
        return os.stat(command['path']).st_size

    def list(self, command):
        return sorted(os.listdir(command['path']))

    def as_user(self, command):
        """What another user gets who lists the folder."""
        pid = os.fork()
        if pid == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                os.listdir(command['path'])
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return errno.errorcode.get(code, str(code))


def alternate(mode, paths):
    flags = {'sync': os.O_SYNC | os.O_APPEND, 'direct': os.O_DIRECT, 'plain': os.O_APPEND}[mode]
    files = [os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o644) for path in paths]
    stop = threading.Event()

    def count():
        number = 0
        while not stop.is_set():
            number += 1
            for fd in files:
                if mode == 'direct':
                    os.pwrite(fd, aligned(record(number).ljust(BLOCK, b'\0')), 0)
                else:
                    os.write(fd, record(number))
            if number == 1:
                print('ready', flush=True)
        print(number, flush=True)

    counting = threading.Thread(target=count)
    counting.start()
    sys.stdin.read()
    stop.set()
    counting.join()


if sys.argv[1:2] == ['alternate']:
    alternate(sys.argv[2], sys.argv[3:])
else:
    Hands().run()
