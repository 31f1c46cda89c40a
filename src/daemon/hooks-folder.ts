// Which folder of hooks a mount may be given: what lies in it is run as the user who mounts.
//
// Always true: neither the folder nor one above it can be changed by anybody but root and that user; a
// folder inside the volume itself, whose contents come with the volume, is taken only when asked for.

import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../base/errors.ts'
import type { MountedOptions } from './launch.ts'

const OTHERS_WRITE = 0o022
const STICKY = 0o1000

/** @throws UmbraError NOT_FOUND, INVALID_ARGUMENT, NOT_PERMITTED */
export function checkHooksFolder({ hooks, mountPoint }: MountedOptions, mayBeInVolume: boolean): void {
  if (hooks === null) return
  if (hooks === mountPoint || hooks.startsWith(`${mountPoint}/`)) {
    if (mayBeInVolume) return
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `${hooks} lies in the volume itself, whose hooks are run only with --hooks-in-volume`,
    )
  }
  let folder: string
  try {
    folder = realpathSync(hooks)
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `No such folder of hooks: ${hooks}`, { hooks }, error)
  }
  if (!statSync(folder).isDirectory()) {
    throw new UmbraError('INVALID_ARGUMENT', `Not a folder: ${hooks}`, { hooks })
  }
  for (let at = folder; ; at = dirname(at)) {
    refuseWritable(hooks, at, at === folder)
    if (at === dirname(at)) return
  }
}

/** In a folder with the sticky bit others cannot replace what is not theirs; the hooks' own may not be one. */
function refuseWritable(hooks: string, folder: string, isItself: boolean): void {
  const { mode, uid } = statSync(folder)
  const isOurs = uid === 0 || uid === process.geteuid?.()
  const isShared = (mode & OTHERS_WRITE) !== 0 && (isItself || (mode & STICKY) === 0)
  if (isOurs && !isShared) return
  throw new UmbraError(
    'NOT_PERMITTED',
    `Hooks in ${hooks} would run as you, but others may write ${isItself ? 'it' : folder}`,
  )
}
