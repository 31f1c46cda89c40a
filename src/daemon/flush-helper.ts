// A process beside the one that serves a mount, for what the serving process must never do itself:
// touch the mount. It flushes what the kernel holds back, knocks at the flush marker, and unmounts.
//
// Always true: it is started before the mount exists and holds no descriptor of the FUSE device; it
// does one thing at a time, blocking as long as that takes; it ends when its parent does (the channel
// closes), unless it is stuck in the kernel, from where the end of the connection frees it.

import { spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { requireAddon } from '../base/addon.ts'
import type { HelperAnswer, HelperRequest } from './flush.ts'

const MNT_DETACH = 2
const UMOUNT_NOFOLLOW = 8

function perform(request: HelperRequest): number {
  switch (request.task) {
    case 'flush':
      return flush(request.folder, request.marker)
    case 'unmount':
      return unmount(request.folder, request.lazy)
  }
}

/** syncfs alone is no barrier: it may return while WRITEs are unanswered; the marker follows them. */
function flush(folder: string, marker: string): number {
  const result = requireAddon().syncfs(folder)
  if (result < 0) return result
  try {
    closeSync(openSync(`${folder}/${marker}`, 'r'))
    return 0
  } catch (error) {
    return -Math.abs((error as { errno?: number }).errno ?? constants.errno.EIO)
  }
}

function unmount(folder: string, lazy: boolean): number {
  const result = requireAddon().umount(folder, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0))
  if (result !== -constants.errno.EPERM) return result
  const done = spawnSync('fusermount3', ['-u', ...(lazy ? ['-z'] : []), '--', folder], { encoding: 'utf8' })
  if (done.status === 0) return 0
  return /busy/i.test(done.stderr ?? '') ? -constants.errno.EBUSY : -constants.errno.EPERM
}

process.title = 'umbra-flush'
process.on('message', (request: HelperRequest) => {
  const answer: HelperAnswer = { id: request.id, result: perform(request) }
  process.send?.(answer)
})
process.on('disconnect', () => process.exit(0))
// The parent decides when we end; a Ctrl-C in its terminal is meant for it.
process.on('SIGINT', () => {})
