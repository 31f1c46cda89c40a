// The shadow copies of this machine's volumes and what can be done with them: see shadow/requester/shadow-shell.
//
// Always true: a volume that is named and not there is an error, one that is only known and has gone is left
// out; deleting takes an exposure away first, and a shadow copy that is in use there stays; reverting forces
// nothing but the volume itself off its mount, after what was written has been made durable.

import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, UmbraError } from '../base/errors.ts'
import type { ShadowProperties } from '../shadow/coordinator/requester-session.ts'
import { hasAttribute } from '../shadow/documents/vocabulary.ts'
import type {
  KnownVolume,
  ShadowExposure,
  ShadowRevert,
  ShadowStore,
} from '../shadow/requester/shadow-shell/shadow-store.ts'
import { ControlShadowProvider, PROVIDER_ID, PROVIDER_NAME } from './control-shadow-provider.ts'
import { exposeSnapshot, readExposures, unexposeSnapshot } from './exposures.ts'
import { knownVolumes } from './known-volumes.ts'
import { locateVolume } from './locate.ts'
import { openControl } from './open-control.ts'
import { rollBack } from './roll-back.ts'
import { listShadowCopies } from './shadow-copies.ts'
import { unmountVolume } from './unmount.ts'

/** For a daemon whose mount was forced off to let go of the volume. */
const RELEASE_PATIENCE_MS = 15_000
const RELEASE_POLL_MS = 50

export class VolumeShadowStore implements ShadowStore {
  readonly provider = { id: PROVIDER_ID, name: PROVIDER_NAME }

  async list({
    more = [],
    only,
  }: {
    readonly more?: readonly string[]
    readonly only?: readonly string[]
  }): Promise<ShadowProperties[]> {
    const named = await Promise.all((only ?? more).map(pathOf))
    const known = only === undefined ? await knownVolumes() : []
    const lists = await Promise.all([
      ...[...new Set(named)].map((volume) => listShadowCopies(volume)),
      ...known.filter((volume) => !named.includes(volume)).map(listIfThere),
    ])
    return lists.flat()
  }

  async volumes(): Promise<KnownVolume[]> {
    const provider = new ControlShadowProvider()
    const infos = await Promise.all(
      (await knownVolumes()).map((volume) => provider.supports(volume).catch(() => undefined)),
    )
    return infos
      .filter((info) => info !== undefined)
      .map(({ volumePath, volumeUuid, mountPoint }) => ({ volume: volumePath, uuid: volumeUuid, mountPoint }))
  }

  async delete({ snapshotId, originalVolume }: ShadowProperties): Promise<void> {
    if (readExposures().some((exposure) => exposure.snapshotId === snapshotId)) {
      await unexposeSnapshot(snapshotId)
    }
    await using control = await openControl(originalVolume, { write: true })
    await control.volume.deleteSnapshot(snapshotId, false)
  }

  expose({ originalVolume, snapshotId }: ShadowProperties, folder: string): Promise<ShadowExposure> {
    return exposeSnapshot(originalVolume, snapshotId, folder)
  }

  unexpose(idOrFolder: string): Promise<ShadowExposure> {
    return unexposeSnapshot(idOrFolder)
  }

  async revert(shadow: ShadowProperties, force: boolean): Promise<ShadowRevert> {
    const { originalVolume: volume, snapshotId } = shadow
    if (!hasAttribute(shadow.attributes, 'persistent')) {
      throw new UmbraError(
        'INVALID_ARGUMENT',
        `${snapshotId} is not persistent: a volume is reverted to what stays`,
      )
    }
    const unmounted = force ? await forceOff(volume) : null
    const { undoName } = await rollBackWhenFree(volume, snapshotId, unmounted !== null)
    return { volume, revertedTo: snapshotId, undo: undoName, unmounted }
  }
}

async function pathOf(volume: string): Promise<string> {
  const { volumePath, client } = await locateVolume(volume)
  client?.close()
  return volumePath
}

async function listIfThere(volume: string): Promise<ShadowProperties[]> {
  return listShadowCopies(volume).catch((error) => {
    const isGone = ['NOT_FOUND', 'UNAVAILABLE', 'BUSY'].some((code) => error?.code === code)
    if (isGone) return []
    throw error
  })
}

/** @returns where it was mounted; null: nowhere */
async function forceOff(volume: string): Promise<string | null> {
  const mountPoint = await mountPointOf(volume)
  if (mountPoint === null) return null
  await unmountVolume(mountPoint, { lazy: false, force: true })
  return mountPoint
}

async function mountPointOf(volume: string): Promise<string | null> {
  await using control = await openControl(volume, { write: false })
  const { mountPoint } = await control.volume.status()
  // What was written so far is to be in the snapshot that the reverting can be undone with.
  if (mountPoint !== null) await control.volume.sync()
  return mountPoint
}

async function rollBackWhenFree(volume: string, snapshotId: string, mayWait: boolean) {
  const deadlineMs = Date.now() + RELEASE_PATIENCE_MS
  for (;;) {
    try {
      return await rollBack(volume, snapshotId)
    } catch (error) {
      // One that is about to end may still be asked, and end before it answers.
      const isEnding = hasCode(error, 'BUSY') || hasCode(error, 'UNAVAILABLE')
      if (!mayWait || !isEnding || Date.now() > deadlineMs) throw error
      await sleep(RELEASE_POLL_MS)
    }
  }
}
