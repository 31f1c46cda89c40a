// Which folder of hooks a mount may be given: what lies in it is run as the user who mounts.
//
// Always true: neither the folder nor one above it can be changed by anybody but root and that user; a
// folder inside the volume itself, whose contents come with the volume, is taken only when asked for.

import { statSync } from 'node:fs'
import { UmbraError } from '../base/errors.ts'
import { trustedPath } from '../shadow/writers/trusted-path.ts'
import type { MountedOptions } from './launch.ts'

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
  if (!statSync(trustedPath(hooks)).isDirectory()) {
    throw new UmbraError('INVALID_ARGUMENT', `Not a folder: ${hooks}`, { hooks })
  }
}
