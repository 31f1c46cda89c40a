# Commits rows until standard input ends; prints `ready`, and at the end how long each commit took, in ms.
#
# Usage: sqlite-commits.py DATABASE

import sqlite3
import sys
import threading
import time

base = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
base.execute('PRAGMA journal_mode=wal').fetchone()
base.execute('PRAGMA synchronous=NORMAL')
base.execute('CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, text TEXT)')
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
print('ready', flush=True)
times = []
while not stop.is_set():
    begun = time.perf_counter()
    base.execute('INSERT INTO row (text) VALUES (?)', ('x' * 200,))
    times.append((time.perf_counter() - begun) * 1000)
    time.sleep(0.001)
print('\n'.join(f'{ms:.3f}' for ms in times))
