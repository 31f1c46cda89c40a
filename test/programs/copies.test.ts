// Every way in which cp, rsync and tar can copy a tree, on a mount and on the kernel's ext4: the same
// command says the same and leaves the same tree.
//
// Always true: source and older copy are the same on both at the start, by a record of every path; each
// way starts from them. What is compared of the results: names, kinds, contents, owners, modes, links,
// times of change, extended attributes and ACLs.

// deadline 600

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { assertSameTree, isLong, makeReference, recordTree, Workload } from '../mount/lab.ts'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { makeStage } from './stage.ts'

const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck', 'mke2fs', 'python3', 'cp', 'tar', 'rsync'),
  timeout: 3_600_000,
}
const TIMEOUT = { timeoutMs: 300_000 }
const OPERATIONS = isLong ? 2500 : 60
const IGNORED = ['ino', 'ctime', 'atime']
/** Without the option for times they are those of the copying. */
const WITHOUT_TIMES = [...IGNORED, 'mtime']

const cp = (options: string) => `cp -a ${options} source copy`
const RSYNC = 'rsync -aHAX --numeric-ids'
/** Onto a copy of the tree as it was before; without -H, at which rsync 3.5.0 hangs or gives up on some trees, on ext4 too. */
const ONTO = 'rsync -aAX --numeric-ids'
const update = (options: string) => `cp -a older copy; ${ONTO} ${options} source/ copy/`
const TAR = '--acls --xattrs --xattrs-include=* --selinux --numeric-owner --warning=no-timestamp'
const tar = (options: string) =>
  `mkdir copy; tar -C source ${TAR} ${options} -cf - . | tar -C copy ${TAR} -xpf -`

/**
 * cp takes names in the order of their inode numbers, which each file system chooses. So that the order
 * decides nothing, no name is linked with another, and none in the copy leads elsewhere; its folders, which
 * that touches, get a time again.
 */
const UNLINKED = 'cp -PR --preserve=mode,ownership,timestamps,xattr'
const over = (option: string) =>
  `${UNLINKED} older copy; find copy ! -type f ! -type d -delete; find copy -type d -exec touch -d @1 {} +
   ${UNLINKED} source single; cp -a ${option} single/. copy/; end=$?; rm -r single; exit $end`

const WAYS: readonly (readonly [script: string, ignored?: readonly string[]])[] = [
  [cp('')],
  [cp('--reflink=auto')],
  [cp('--reflink=never --sparse=never')],
  [cp('--reflink=never --sparse=always')],
  [cp('--attributes-only')],
  [`${cp('')}; cp -a --backup=numbered older/. copy/`],
  [over('--update')],
  [over('--remove-destination')],
  ['cp -r source copy', WITHOUT_TIMES],
  ['cp -al source copy'],
  ['cp -rs "$PWD/source" copy', [...WITHOUT_TIMES, 'target']],
  [`${RSYNC} -S source/ copy/`],
  [`${RSYNC} --preallocate source/ copy/`],
  [update('--delete --inplace --no-whole-file')],
  [update('--append-verify')],
  [update('--delete --checksum --delay-updates')],
  // What is renamed for a backup touches its folder after rsync has set the times.
  [update('--delete-after --backup --suffix=.old'), WITHOUT_TIMES],
  [update('--existing --ignore-times --no-whole-file')],
  [`${RSYNC} --link-dest=../older source/ copy/`],
  [`${ONTO} --compare-dest=../older source/ copy/`],
  [`${RSYNC} --fake-super source/ copy/`],
  [`${RSYNC} --chmod=D2755,F640 --chown=12:34 source/ copy/`],
  [tar('--format=gnu --no-acls --no-xattrs --no-selinux')],
  [tar('--format=posix')],
  ...['0.0', '0.1', '1.0'].map(
    (version) => [tar(`--sparse --sparse-version=${version} --format=posix`)] as const,
  ),
  [tar('--sparse --hole-detection=seek')],
  [tar('--sparse --hole-detection=raw')],
  [
    `mkdir copy; tar --warning=no-timestamp -C older -g snar -cf - . | tar -C copy -g /dev/null -xpf -
     rm -rf older/c*; tar --warning=no-timestamp -C older -g snar -cf - . | tar -C copy -g /dev/null -xpf -; rm -r older; cp -a keep older`,
    // Extracting a dump takes away what is gone from it, which touches the folder.
    WITHOUT_TIMES,
  ],
]

/** The same two trees in both roots: one as it was, one after more work. */
async function makeTrees(t: Assertion, roots: readonly [string, string]): Promise<void> {
  const [control, mount] = roots
  const source = join(control, 'source')
  mkdirSync(source)
  const workload = new Workload(t, chosenSeed(t), source)
  await workload.run(OPERATIONS)
  await workload.release()
  await run('cp', ['-a', source, join(control, 'older')], TIMEOUT)
  await workload.run(OPERATIONS)
  await workload.release()
  await workload.quit()
  // Sockets are no tar's; rsync sets no time that differs in its fraction alone.
  await run('find', [control, '-type', 's', '-delete'])
  await run('cp', ['-a', join(control, 'older'), join(control, 'keep')], TIMEOUT)
  await new Promise((resolve) => setTimeout(resolve, 1100))
  for (const name of ['source', 'older', 'keep']) {
    await run('rsync', ['-aHAXS', '--numeric-ids', join(control, name), mount], TIMEOUT)
    const wanted = await recordTree(join(control, name))
    assertSameTree(t, wanted, await recordTree(join(mount, name)), `${name}, to begin with`, IGNORED)
  }
}

test('cp, rsync and tar in every way: as on ext4', NEEDS, async (t) => {
  const stage = await makeStage(t, '4G')
  const control = await makeReference(t, stage.folder, 4 * 2 ** 30)
  const roots = [control, stage.dir] as const
  await makeTrees(t, roots)
  for (const [script, ignored = IGNORED] of WAYS) {
    const ends: string[] = []
    for (const cwd of roots) {
      const { code, stdout, stderr } = await run('sh', ['-c', script], { cwd, check: false, ...TIMEOUT })
      // In the order in which each file system lists its folders.
      const lines = `${stdout}${stderr}`.replaceAll(cwd, '').replaceAll(/is [\d.]+ s in/g, 'is N s in')
      const said = lines.split('\n').sort()
      ends.push([code, ...said].join('\n'))
    }
    t.is(ends[1], ends[0], `${script}: ends with ${ends[0]?.split('\n')[0]}`)
    const [wanted, found] = [
      await recordTree(join(control, 'copy')),
      await recordTree(join(stage.dir, 'copy')),
    ]
    t.ok(wanted.size > 1, 'something was copied')
    assertSameTree(t, wanted, found, 'the copy', ignored)
    for (const root of roots) await run('rm', ['-rf', join(root, 'copy'), join(root, 'snar')], TIMEOUT)
  }
  const always = 'echo data > plain; cp --reflink=always plain clone; rm -f plain clone'
  const refusals = await Promise.all(roots.map((cwd) => run('sh', ['-c', always], { cwd, check: false })))
  t.is(refusals[1]?.stderr, refusals[0]?.stderr, 'a clone that must share blocks is refused alike')
  t.ok(/Operation not supported/.test(refusals[1]?.stderr ?? ''), 'as not supported')
  for (const name of ['source', 'older', 'keep']) {
    const wanted = await recordTree(join(control, name))
    assertSameTree(t, wanted, await recordTree(join(stage.dir, name)), `${name}, in the end`, WITHOUT_TIMES)
  }
  await stage.judge()
})
