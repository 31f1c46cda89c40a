// git is built on a mount and runs its own checks there: the index and its times, refs and locks,
// packs and their mappings, worktrees, file modes, symbolic links.
//
// The build alone takes more than an ordinary run may: this is a part of the long one.

// deadline 900

import { readdirSync } from 'node:fs'
import test from 'brittle'
import { isLong } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { debianSource } from './source.ts'
import { parseTap, runSuite } from './suite.ts'

const NEEDS = ['root', '/dev/fuse', 'e2fsck', 'mke2fs', 'cc', 'make', 'perl', '/usr/include/zlib.h']
const OPTIONS = 'NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_TCLTK=1 NO_PYTHON=1'

/** Which scripts of t/ by the start of their names: basics, trees, refs, patches, packs, worktrees. */
const WANTED = new RegExp(process.env['UMBRA_GIT_SCRIPTS'] ?? '^t[0-7]')

if (!isLong) console.log('# missing: UMBRA_LONG=1, without which the checks of git are not built')
const source = isLong ? await debianSource('git') : undefined

test('git is built on the mount and its own checks pass', {
  ...(source === undefined ? { skip: true } : requires(...NEEDS)),
  timeout: 4 * 3_600_000,
}, async (t) => {
  await runSuite(t, {
    source: source as string,
    build: `make -j2 CFLAGS='-O0 -g0' ${OPTIONS} all`,
    checks: await scripts(source as string),
    command: 'cd t && "./$1" --no-color',
    parse: (_check, result) => parseTap(result),
    users: ['root', 'nobody'],
    atLeast: 1000,
  })
})

/** Names of the scripts, from the archive. */
async function scripts(dsc: string): Promise<string[]> {
  const folder = dsc.slice(0, dsc.lastIndexOf('/'))
  const archive = readdirSync(folder).find((name) => /\.orig\.tar\./.test(name))
  const { stdout } = await run('tar', ['-tf', `${folder}/${archive}`])
  return [...stdout.matchAll(/^[^/]+\/t\/(t\d{4}-[^/]*\.sh)$/gm)]
    .map(([, name]) => name as string)
    .filter((name) => WANTED.test(name))
    .sort()
}
