// Whether a mount answers: asked before a mount is cleared or called busy.
//
// Always true: the question is statfs, which is never answered from a cache; nobody waits for it longer
// than the deadline. Not for the process that serves the mount.

import { statfs } from 'node:fs/promises'

/** `hanging`: a request was sent and nobody has answered it yet. */
export type MountHealth = 'alive' | 'dead' | 'hanging'

const DISCONNECTED: readonly (string | undefined)[] = ['ENOTCONN', 'ECONNABORTED', 'ENODEV']
const PROBE_TIMEOUT_MS = 5000

export async function probeMount(folder: string, timeoutMs = PROBE_TIMEOUT_MS): Promise<MountHealth> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<MountHealth>((resolve) => {
    timer = setTimeout(() => resolve('hanging'), timeoutMs)
  })
  const answer = statfs(folder).then(
    (): MountHealth => 'alive',
    (error: NodeJS.ErrnoException): MountHealth => (DISCONNECTED.includes(error.code) ? 'dead' : 'alive'),
  )
  const health = await Promise.race([answer, late])
  clearTimeout(timer)
  return health
}
