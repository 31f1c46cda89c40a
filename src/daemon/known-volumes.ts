// The volumes that are known without being named: those that a daemon serves, and those with a shadow copy
// that is exposed. There is no register of volume files: one that nobody serves is known by its name alone.
//
// Always true: one that hangs is left out and holds up nobody else; each volume is there once.

import { ControlClient } from './control-client.ts'
import { statusRequest } from './control-protocol.ts'
import { readExposures } from './exposures.ts'
import { listSockets } from './runtime-folder.ts'

const STATUS_TIMEOUT_MS = 5000

/** Paths of volume files, sorted. */
export async function knownVolumes(): Promise<string[]> {
  const served = await Promise.all(
    listSockets().map(async (path) => {
      const client = await ControlClient.open(path).catch(() => undefined)
      const status = await client?.call(statusRequest, STATUS_TIMEOUT_MS).catch(() => undefined)
      client?.close()
      return status?.volume
    }),
  )
  const exposed = readExposures().map(({ volume }) => volume)
  return [...new Set([...served.filter((volume) => volume !== undefined), ...exposed])].sort()
}
