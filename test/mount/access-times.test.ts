// What reading changes: once after a change the access times, in blocks of the inode table alone; then,
// and under --no-access-times, --read-only and below .snapshots, nothing at all.

// deadline 200

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { type Lab, makeLab, QUIET, umbra, umbraJson } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck'), timeout: 190_000 }
const FILES = 60

/** Changed bytes between two snapshots. */
async function changedBytes(lab: Lab, from: string, to: string): Promise<number> {
  const { extents } = await umbraJson<{ extents: { lengthBytes: number }[] }>(['diff', lab.volume, from, to])
  return extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0)
}

/** Reads everything in another process: files, listings and links, from no cache. */
async function readAll(folder: string): Promise<void> {
  await run('sh', ['-c', 'find "$1" -type f -exec cat {} + > /dev/null; ls -lR "$1"', 'sh', folder])
}

test('reading changes access times once, and otherwise nothing', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  const take = (name: string) => umbra(['snapshot', 'create', lab.volume, name])
  /** Each mount begins with an empty cache. */
  const readOn = async (args: readonly string[], below = '') => {
    const mounted = await lab.mount(args)
    await readAll(join(lab.dir, below))
    await mounted.unmount()
  }
  const mounted = await lab.mount()
  mkdirSync(join(lab.dir, 'folder'))
  for (let number = 0; number < FILES; number++)
    writeFileSync(join(lab.dir, `folder/${number}`), `file ${number}`.repeat(2000))
  symlinkSync('folder', join(lab.dir, 'link'))
  await mounted.unmount()
  await take('made')

  await readOn(QUIET)
  await readOn([], '.snapshots/made')
  await take('quiet')
  t.is(await changedBytes(lab, 'made', 'quiet'), 0, 'without access times, and of a snapshot: nothing')
  const { transaction } = await umbraJson<{ transaction: number }>(['status', lab.volume])
  await readOn(['--read-only'])
  const after = await umbraJson<{ transaction: number }>(['status', lab.volume])
  t.is(after.transaction, transaction, 'read-only: no commit')

  await readOn([])
  await take('read')
  const changed = await changedBytes(lab, 'quiet', 'read')
  // Sixteen inodes lie in a block of the table; beside it the superblock says when it was written.
  const mostBlocks = Math.ceil(FILES / 16) + 1 + 3
  t.ok(changed > 0 && changed <= mostBlocks * 4096, `access times: ${changed} bytes`)
  await readOn([])
  await take('again')
  t.is(await changedBytes(lab, 'read', 'again'), 0, 'read again: nothing')
})
