// GNU tar is built on a mount and runs its own checks there: sparse files in every format, incremental
// dumps by ctime and device number, attributes and ACLs, files that change while they are read.
//
// Configuring it alone takes 31 s of processor time, and genfile, which the checks call, cannot be built
// without: this is a part of the long run. Left out by name is sparse05, which writes 10 GB of data to
// see one number that tar prints.

// deadline 900

import test from 'brittle'
import { isLong } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { debianSource } from './source.ts'
import { type Outcome, type Outcomes, runSuite } from './suite.ts'

const NEEDS = ['root', '/dev/fuse', 'e2fsck', 'mke2fs', 'cc', 'make', '/usr/include/sys/acl.h']

if (!isLong) console.log('# missing: UMBRA_LONG=1, without which the checks of tar are not built')
const source = isLong ? await debianSource('tar') : undefined

test('tar is built on the mount and its own checks pass', {
  ...(source === undefined ? { skip: true } : requires(...NEEDS)),
  timeout: 3_600_000,
}, async (t) => {
  await runSuite(t, {
    source: source as string,
    build: './configure; make -j2; make -C tests -j2 genfile ckmtime checkseekhole atconfig atlocal',
    checks: ['all'],
    command: 'cd tests && sh ./testsuite AUTOTEST_PATH=../src -k "!sparse05"',
    parse: (_check, { stdout }) => parseAutotest(stdout),
    users: ['root', 'nobody'],
    atLeast: 150,
  })
})

/** Lines as ` 12: title  ok`. */
function parseAutotest(stdout: string): Outcomes {
  const outcomes = new Map<string, Outcome>()
  for (const [, name, word] of stdout.matchAll(
    /^ *(\d+: .*?) +(ok|skipped|FAILED|expected failure|UNEXPECTED PASS)\b/gm,
  )) {
    const isPassed = word === 'ok' || word === 'expected failure'
    outcomes.set(name as string, isPassed ? 'passed' : word === 'skipped' ? 'skipped' : 'failed')
  }
  return outcomes
}
