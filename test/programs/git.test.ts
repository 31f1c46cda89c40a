// git on a mount: a clone of this project's own repository, work in it, and a repacking, judged by
// git itself in the live tree and in snapshots.

// deadline 240

import { spawnSync } from 'node:child_process'
import { appendFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra } from '../support/umbra.ts'
import { differences, makeStage } from './stage.ts'

/** This checkout. */
const SOURCE = dirname(dirname(import.meta.dirname))

const ENV = {
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  // The checkout may belong to somebody else than who runs the tests.
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
  GIT_OPTIONAL_LOCKS: '0',
  GIT_AUTHOR_NAME: 'Test',
  GIT_AUTHOR_EMAIL: 'test@example.invalid',
  GIT_COMMITTER_NAME: 'Test',
  GIT_COMMITTER_EMAIL: 'test@example.invalid',
}

async function git(folder: string, ...args: string[]): Promise<string> {
  return (await run('git', ['-C', folder, ...args], { env: ENV, timeoutMs: 120_000 })).stdout.trim()
}

async function assertWhole(t: Assertion, clone: string, what: string): Promise<void> {
  const fsck = await run('git', ['-C', clone, 'fsck', '--full', '--strict'], {
    env: ENV,
    check: false,
    timeoutMs: 120_000,
  })
  t.is(fsck.code, 0, `git fsck of ${what}: ${fsck.stderr}`)
  t.is(await git(clone, 'status', '--porcelain'), '', `${what} is clean`)
}

test(
  'clone, fsck, commit, gc; each state whole, live and in its snapshot',
  requires('root', '/dev/fuse', 'git', 'e2fsck', 'diff', join(SOURCE, '.git')),
  async (t) => {
    const stage = await makeStage(t, '2G')
    const clone = join(stage.dir, 'clone')
    const head = await git(SOURCE, 'rev-parse', 'HEAD')

    await run('git', ['clone', '--quiet', `file://${SOURCE}`, clone], { env: ENV, timeoutMs: 120_000 })
    t.is(await git(clone, 'rev-parse', 'HEAD'), head)
    await assertWhole(t, clone, 'the clone')
    await umbra(['snapshot', 'create', stage.dir, 'cloned'])

    appendFileSync(join(clone, 'README.md'), '\nOne more line.\n')
    writeFileSync(join(clone, 'new file'), 'new\n'.repeat(10_000))
    await git(clone, 'mv', 'package.json', 'moved.json')
    await git(clone, 'add', '--all')
    await git(clone, 'commit', '--quiet', '--message', 'Change three files')
    await git(clone, 'gc', '--quiet', '--prune=now')
    t.is(await git(clone, 'rev-parse', 'HEAD^'), head)
    await assertWhole(t, clone, 'the repacked clone')
    await umbra(['snapshot', 'create', stage.dir, 'repacked'])

    await assertWhole(t, stage.within('cloned', 'clone'), 'the first snapshot')
    t.is(await git(stage.within('cloned', 'clone'), 'rev-parse', 'HEAD'), head)
    await assertWhole(t, stage.within('repacked', 'clone'), 'the second snapshot')
    t.alike(await differences(clone, stage.within('repacked', 'clone')), [], 'which is the live tree')
    t.alike(
      (await differences(SOURCE, stage.within('cloned', 'clone'), '--exclude=.git')).filter(
        (line) => / differ$/.test(line) && !isModified(SOURCE, line),
      ),
      [],
      'and the first has the source’s files',
    )
    await stage.judge()
  },
)

/** A checkout in which somebody works differs from its last commit. */
function isModified(source: string, line: string): boolean {
  const status = spawnSync('git', ['-C', source, 'status', '--porcelain', '-z'], {
    encoding: 'utf8',
    env: { ...process.env, ...ENV },
  })
  return status.stdout.split('\0').some((entry) => entry.length > 3 && line.includes(entry.slice(3)))
}
