// A process beside the one that serves a mount, for what the serving process must never do itself:
// touch the mount. It flushes what the kernel holds back, knocks at the flush marker, and unmounts.
//
// Always true: it is started before the mount exists and holds no descriptor of the FUSE device; it
// takes one request after the other, blocking as long as that takes; it ends when its parent does (the
// channel closes), unless it is stuck in the kernel, from where the end of the connection frees it.

import { closeSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { requireAddon } from '../base/addon.ts'
import { errnoFrom, hasCode } from '../base/errors.ts'
import { unmountDevice } from '../fuse/device/unmount.ts'
import { type HelperAnswer, type HelperRequest, MOUNT_GONE } from './flush.ts'

/** More than programs are likely to be killed while one flush takes place. */
const ATTEMPTS_MAX = 100

async function perform(request: HelperRequest): Promise<number> {
  try {
    if (request.task === 'flush') return flush(request.folder, request.marker)
    await unmountDevice(request.folder, { lazy: request.lazy })
    return 0
  } catch (error) {
    // Somebody else has unmounted it meanwhile.
    if (hasCode(error, 'NOT_FOUND')) return 0
    if (hasCode(error, 'BUSY')) return -constants.errno.EBUSY
    return -errnoFrom(error)
  }
}

/** syncfs alone is no barrier: it may return while WRITEs are unanswered; the marker follows them. */
function flush(folder: string, marker: string): number {
  const result = syncFolder(folder)
  if (result < 0) return result
  try {
    closeSync(openSync(`${folder}/${marker}`, 'r'))
  } catch (error) {
    // On the mount the marker is there: somebody has detached it, and what is synced was what lies below.
    if (errnoFrom(error) === constants.errno.ENOENT) return MOUNT_GONE
    throw error
  }
  return 0
}

/**
 * When a program is killed in copy_file_range(2) while the kernel sends an inode's times for it, the kernel
 * records EINTR as if data had not been written back, and tells the next syncfs. No data is lost by that:
 * asked again it writes whatever there is and says what came of it.
 */
function syncFolder(folder: string): number {
  const addon = requireAddon()
  for (let attempt = 1; ; attempt++) {
    const result = addon.syncfs(folder)
    if (result !== -constants.errno.EINTR || attempt === ATTEMPTS_MAX) return result
  }
}

let last = Promise.resolve()

process.title = 'umbra-flush'
process.on('message', (request: HelperRequest) => {
  last = last
    .then(() => perform(request))
    .then((result) => {
      const answer: HelperAnswer = { id: request.id, result }
      if (process.connected) process.send?.(answer)
    })
})
process.on('disconnect', () => process.exit(0))
// The parent decides when we end; a Ctrl-C in its terminal is meant for it.
process.on('SIGINT', () => {})
