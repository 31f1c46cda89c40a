// rsync is built on a mount and runs its own checks there, as root: trees with every kind of file,
// attributes, ACLs, sparse and in-place copies, hard links, races by symbolic links.

// deadline 900

import test from 'brittle'
import { isLong } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { debianSource } from './source.ts'
import { type Outcome, runSuite } from './suite.ts'

/** Those that look at what a file system keeps; the long run has them all. */
const ORDINARY = `acls acls-default atimes backup chgrp chown chmod chmod-temp-dir crtimes devices dir-sgid
  hardlinks itemize symlink-ignore unsafe-links xattrs`.split(/\s+/)

// Debian's patches touch what autoconf starts from, though nothing that it would make differently.
const BUILD = `touch aclocal.m4; touch configure.sh config.h.in
  ./configure --disable-openssl --disable-xxhash --disable-zstd --disable-lz4 --disable-md2man
  make -j2
  make -j2 check whichtests=00-hello.test`

const source = await debianSource('rsync')

test('rsync is built on the mount and its own checks pass', {
  ...(source === undefined
    ? { skip: true }
    : requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'cc', 'make', '/usr/include/sys/acl.h')),
  timeout: 3_600_000,
}, async (t) => {
  await runSuite(t, {
    source: source as string,
    build: BUILD,
    checks: isLong ? ['*'] : ORDINARY,
    command: 'rsync_bin=$PWD/rsync whichtests="$1.test" ./runtests.sh',
    parse: (check, { stdout }) => {
      const lines = [...stdout.matchAll(/^(PASS|SKIP|FAIL|ERROR|XFAIL) +(\S+)/gm)]
      // One that says nothing has not passed.
      if (lines.length === 0) return new Map([[`${check} (no verdict)`, 'failed']])
      return new Map(
        lines.map(([, word, name]): [string, Outcome] => [
          name as string,
          word === 'PASS' ? 'passed' : word === 'SKIP' ? 'skipped' : 'failed',
        ]),
      )
    },
    atLeast: isLong ? 40 : ORDINARY.length - 2,
  })
})
