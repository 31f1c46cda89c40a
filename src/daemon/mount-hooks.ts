// The hook folders that were given to the mounts which are served now.
//
// Always true: a daemon that does not answer holds nobody up for longer than the time limit, and its
// mount has no hooks then: what lies behind it cannot be snapshotted either.

import { ControlClient } from './control-client.ts'
import { statusRequest } from './control-protocol.ts'
import { listSockets } from './runtime-folder.ts'

const STATUS_TIMEOUT_MS = 5000

/** In the order of the sockets' names, so the same each time. */
export async function mountHookFolders(): Promise<string[]> {
  const folders = await Promise.all(listSockets().sort().map(hooksBehind))
  return folders.filter((folder) => folder !== null)
}

async function hooksBehind(path: string): Promise<string | null> {
  const client = await ControlClient.open(path).catch(() => undefined)
  if (client === undefined) return null
  try {
    const { hooks, mountPoint } = await client.call(statusRequest, STATUS_TIMEOUT_MS)
    return mountPoint === null ? null : hooks
  } catch {
    return null
  } finally {
    client.close()
  }
}
