// git's own checks on a mount: the index and its times, refs and locks, packs and their mappings,
// worktrees, file modes, symbolic links.
//
// The ordinary run lets the installed git of the same version pass a named part of them, of those that
// need nothing built; building what the others need costs a minute of processor time (64 s measured).
// The long run builds all on the mount; of its checks it runs one script of each kind after the other
// until its time is over, and says how far it came.

// deadline 2400

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

/** None of these needs git's test-tool. */
const ORDINARY = `t2003-checkout-cache-mkdir t2004-checkout-cache-temp t2005-checkout-index-symlinks
  t2007-checkout-symlink t2009-checkout-statinfo t2015-checkout-unborn t2021-checkout-overwrite
  t2102-update-index-symlinks t2107-update-index-basic t2200-add-update t2201-add-update-typechange`
  .split(/\s+/)
  .map((name) => `${name}.sh`)

/** For the first user on the mount; for all scripts, name some hours' minutes. */
const LONG_MS = Number(process.env['UMBRA_GIT_MINUTES'] ?? '15') * 60_000

const source = await debianSource('git')
const isSame = source !== undefined && (isLong || (await isInstalled(source)))

test("git's own checks pass on a mount", {
  ...(isSame ? requires(...NEEDS) : { skip: true }),
  timeout: 4 * 3_600_000,
}, async (t) => {
  const tool = "printf '%s\\n' '#!/bin/sh' 'exit 1' > t/helper/test-tool; chmod +x t/helper/test-tool"
  await runSuite(t, {
    source: source as string,
    build: isLong
      ? `make -j2 CFLAGS='-O0 -g0' ${OPTIONS} all`
      : `make GIT-BUILD-OPTIONS ${OPTIONS}; make -C templates; ${tool}`,
    checks: isLong ? spread(await scripts(source as string)) : ORDINARY,
    command: `cd t && ${isLong ? '' : 'GIT_TEST_INSTALLED=/usr/bin '}"./$1" --no-color`,
    parse: (_check, result) => parseTap(result),
    users: isLong ? ['root', 'nobody'] : ['nobody'],
    atLeast: isLong ? 1000 : 75,
    ...(isLong ? { limitMs: LONG_MS } : {}),
  })
})

/** Whether the git in the path is the one that this source makes. */
async function isInstalled(dsc: string): Promise<boolean> {
  const { stdout } = await run('git', ['--version'], { check: false })
  const installed = /(\d+\.\d+\.\d+)/.exec(stdout)?.[1]
  if (installed !== undefined && dsc.includes(`/git_${installed}-`)) return true
  console.log(`# missing: git of the version of ${dsc} in /usr/bin`)
  return false
}

/** One script of each hundred in turn, so that an early end has met all kinds. */
function spread(names: readonly string[]): string[] {
  const seen = new Map<string, number>()
  const rank = new Map<string, number>()
  for (const name of names) {
    const kind = name.slice(0, 3)
    rank.set(name, seen.get(kind) ?? 0)
    seen.set(kind, (seen.get(kind) ?? 0) + 1)
  }
  return [...names].sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0))
}

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
