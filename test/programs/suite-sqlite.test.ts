// SQLite is built on a mount and runs its own checks there: locks between processes, the shared memory
// of its write-ahead log, mapped files, journals, simulated crashes, large files and permissions.

// deadline 900

import test from 'brittle'
import { isLong } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import type { RunResult } from '../support/run.ts'
import { debianSource } from './source.ts'
import { type Outcome, type Outcomes, runSuite } from './suite.ts'

const TCL = '/usr/include/tcl8.6/tcl.h'
const NEEDS = ['root', '/dev/fuse', 'e2fsck', 'mke2fs', 'cc', 'make', 'tclsh', TCL]

/** Those that ask something of the file system; the long run has all that SQLite calls very quick. */
const ORDINARY = `backup bigfile delete_db exclusive journal1 journal2 lock lock2 lock3 lock4 mmap1 mmap2
  multiplex nolock pager1 sharedlock shmlock superlock symlink sync syscall tempdb unixexcl uri wal wal2
  walmode walshared`.split(/\s+/)

const source = await debianSource('sqlite3')

test('SQLite is built on the mount and its own checks pass', {
  ...(source === undefined ? { skip: true } : requires(...NEEDS)),
  timeout: 3_600_000,
}, async (t) => {
  await runSuite(t, {
    source: source as string,
    build: './configure; make -j2 testfixture; mkdir run',
    checks: isLong ? ['veryquick'] : ORDINARY,
    command: 'cd run && ../testfixture ../test/"$1".test',
    parse,
    // As root they refuse to go on, or fail where permissions are tried.
    users: ['nobody'],
    atLeast: isLong ? 100_000 : 1000,
  })
})

/** Lines as `wal-1.2... Ok`; a last line has the count, and a list of what failed stands above it. */
function parse(_check: string, { stdout, code }: RunResult): Outcomes {
  const outcomes = new Map<string, Outcome>()
  for (const [, name] of stdout.matchAll(/^(\S+)\.\.\. Ok$/gm)) outcomes.set(name as string, 'passed')
  for (const [, names = ''] of stdout.matchAll(/^!Failures on these tests: (.*)$/gm)) {
    for (const name of names.split(' ')) outcomes.set(name, 'failed')
  }
  for (const [, name] of stdout.matchAll(/^\. {2}(\S+)/gm)) outcomes.set(name as string, 'skipped')
  const isWhole = code === 0 && /^0 errors out of \d+ tests/m.test(stdout)
  if (!isWhole && ![...outcomes.values()].includes('failed')) outcomes.set('the whole file', 'failed')
  return outcomes
}
