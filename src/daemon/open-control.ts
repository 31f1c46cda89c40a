// Opens what a command's VOLUME argument means: through its daemon, or the file itself.
//
// Always true: a volume that no daemon serves is opened under its lock and let go when the handle is
// disposed of; `localStorage` is there exactly then.

import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode } from '../base/errors.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import type { LocalVolume } from './local-volume.ts'
import { locateVolume } from './locate.ts'
import { RemoteVolume, type VolumeControl } from './volume-control.ts'

export interface OpenControl extends AsyncDisposable {
  readonly volume: VolumeControl
  readonly volumePath: string
  /** The volume's storage where this process has it open. */
  readonly localStorage: BlockStorage | undefined
  /** Settles when the daemon's connection closes; never for a local volume. */
  readonly whenGone: Promise<void>
}

/**
 * @param options.write whether something will be changed; a local volume is else opened read-only
 * @throws UmbraError NOT_FOUND, BUSY (another process has the file open without a daemon), NOT_A_VOLUME,
 *   UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE, TRUNCATED, CORRUPT, CHECKSUM_MISMATCH
 */
export async function openControl(argument: string, options: { write: boolean }): Promise<OpenControl> {
  const { volumePath, client } = await locateVolume(argument)
  if (client) {
    const volume = new RemoteVolume(client)
    return {
      volume,
      volumePath,
      localStorage: undefined,
      whenGone: client.whenClosed,
      [Symbol.asyncDispose]: () => volume.close(),
    }
  }
  const volume = await openLocal(volumePath, { readOnly: !options.write })
  if (volume === undefined) return await openControl(argument, options)
  return {
    volume,
    volumePath,
    localStorage: volume.storage,
    whenGone: new Promise(() => {}),
    [Symbol.asyncDispose]: () => volume.close(),
  }
}

/** A daemon that is ending lets the volume go a moment after its socket, and one that starts takes it first. */
const LOCK_PATIENCE_MS = 2000
const LOCK_POLL_MS = 50

/** @returns undefined when a daemon serves the volume by now */
async function openLocal(
  volumePath: string,
  options: { readOnly: boolean },
): Promise<LocalVolume | undefined> {
  // Who only asks a daemon need not wait for the volume's own code to load.
  const { LocalVolume } = await import('./local-volume.ts')
  const deadlineMs = Date.now() + LOCK_PATIENCE_MS
  for (;;) {
    try {
      return await LocalVolume.open(volumePath, options)
    } catch (error) {
      if (!hasCode(error, 'BUSY') || Date.now() > deadlineMs) throw error
    }
    await sleep(LOCK_POLL_MS)
    const { client } = await locateVolume(volumePath)
    client?.close()
    if (client) return undefined
  }
}
