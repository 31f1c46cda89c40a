# Opens a file past the page cache, says so, waits to be told, reads a MiB of it at an offset, and says what came:
# the values of the bytes, or the error's name.
import errno
import json
import mmap
import os
import sys

file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
print('open', flush=True)
for line in sys.stdin:
    try:
        count = os.preadv(file, [buffer], int(line))
        print(json.dumps({'values': sorted(set(buffer[:count])), 'error': None}), flush=True)
    except OSError as error:
        print(json.dumps({'values': [], 'error': errno.errorcode[error.errno]}), flush=True)
