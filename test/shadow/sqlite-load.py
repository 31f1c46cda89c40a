# Writes into an SQLite database what it is told, one transaction a line.
#
# Usage: sqlite-load.py DATABASE JOURNAL-MODE
#        a key on standard input is inserted and committed, then printed. A line beginning with `begin` opens a
#        transaction that stays open until a line `end`.

import os
import random
import sqlite3
import sys

path, mode = sys.argv[1], sys.argv[2]
base = sqlite3.connect(path, timeout=60, isolation_level=None)
base.execute(f'PRAGMA journal_mode={mode}').fetchone()
base.execute('PRAGMA synchronous=FULL')
base.execute('CREATE TABLE IF NOT EXISTS ledger (key TEXT PRIMARY KEY, bulk BLOB)')
base.execute('CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, n INTEGER)')


def run(key):
    if key == 'begin':
        base.execute('BEGIN IMMEDIATE')
        base.execute('INSERT INTO ledger VALUES (?, ?)', ('open', b''))
    elif key == 'end':
        base.execute('COMMIT')
    else:
        base.execute('BEGIN IMMEDIATE')
        base.execute('INSERT INTO ledger VALUES (?, ?)', (key, os.urandom(random.choice((100, 3000, 20000)))))
        # An old page is changed as well, and both together or neither.
        base.execute('UPDATE ledger SET bulk = zeroblob(50) WHERE rowid = ?', (random.randint(1, 1000),))
        base.execute('INSERT INTO counter VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET n = n + 1')
        base.execute('COMMIT')


print('ready', flush=True)
for line in sys.stdin:
    try:
        run(line.strip())
    except sqlite3.Error as error:
        sys.exit(f'{path}: {error.sqlite_errorname}: {error}')
    print(line.strip(), flush=True)
