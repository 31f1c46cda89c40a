// The shadow copies that there are: which are meant, and what can be done with them. The daemon room
// provides the store.
//
// Always true: deleting goes one after another and stops at the first that cannot go, and then says how
// many went and which one is left first (vss.md 1.4, 10).

import { UmbraError } from '../../../base/errors.ts'
import type { ShadowProperties } from '../../coordinator/requester-session.ts'

export type ShadowChoice =
  | { readonly by: 'all' }
  | { readonly by: 'id' | 'set'; readonly id: string }
  | { readonly by: 'volume' | 'oldest'; readonly volume: string }
  | { readonly by: 'exposed'; readonly folder: string }

export interface KnownVolume {
  readonly volume: string
  readonly uuid: string
  readonly mountPoint: string | null
}

export interface ShadowExposure {
  readonly volume: string
  readonly snapshotId: string
  readonly mountPoint: string
}

export interface ShadowRevert {
  readonly volume: string
  readonly revertedTo: string
  /** Snapshot of what the present was. */
  readonly undo: string
  /** Where the volume was mounted, and is not any more. */
  readonly unmounted: string | null
}

export interface ShadowStore {
  readonly provider: { readonly id: string; readonly name: string }
  /**
   * Shadow copies of the volumes that are served or have one exposed, and of `more`.
   * @param only of these alone instead
   */
  list(volumes: {
    readonly more?: readonly string[]
    readonly only?: readonly string[]
  }): Promise<ShadowProperties[]>
  /** Those of which a shadow copy can be made, as far as they are known. */
  volumes(): Promise<KnownVolume[]>
  delete(shadow: ShadowProperties): Promise<void>
  expose(shadow: ShadowProperties, folder: string): Promise<ShadowExposure>
  /** @throws UmbraError NOT_FOUND, BUSY */
  unexpose(idOrFolder: string): Promise<ShadowExposure>
  /** @throws UmbraError BUSY: mounted (without `force`) or in use, INVALID_ARGUMENT: not persistent */
  revert(shadow: ShadowProperties, force: boolean): Promise<ShadowRevert>
}

/**
 * In the order of their sets, the oldest first, and in a set of their volumes.
 * @param more volumes to look at besides those that are known
 * @throws UmbraError NOT_FOUND where one is named and not there
 */
export async function findShadows(
  store: ShadowStore,
  choice: ShadowChoice,
  more: readonly string[] = [],
): Promise<ShadowProperties[]> {
  const isOfVolume = choice.by === 'volume' || choice.by === 'oldest'
  const all = inOrder(await store.list(isOfVolume ? { only: [choice.volume] } : { more }))
  switch (choice.by) {
    case 'all':
    case 'volume':
      return all
    case 'oldest':
      return found(
        [...all].sort((a, b) => a.epoch - b.epoch).slice(0, 1),
        `There is no shadow copy of ${choice.volume}`,
      )
    case 'id':
      return found(
        all.filter(({ snapshotId }) => snapshotId === choice.id.toLowerCase()),
        `There is no shadow copy ${choice.id} of a volume that is known; for one that is not mounted, name it`,
      )
    case 'set':
      return found(
        all.filter(({ snapshotSetId }) => snapshotSetId === choice.id.toLowerCase()),
        `There is no shadow copy of a set ${choice.id} on a volume that is known; for one that is not mounted, name it`,
      )
    case 'exposed':
      return found(
        all.filter(({ exposedName }) => exposedName === choice.folder),
        `No shadow copy is exposed at ${choice.folder}`,
      )
  }
}

export interface DeletedShadows {
  readonly count: number
  /** Ids, in their order. */
  readonly deleted: readonly string[]
}

/** @throws UmbraError with the reason of the first that cannot go; context: `deleted` (count) and `notDeleted` (its id) */
export async function deleteShadows(
  store: ShadowStore,
  shadows: readonly ShadowProperties[],
): Promise<DeletedShadows> {
  const deleted: string[] = []
  for (const shadow of shadows) {
    try {
      await store.delete(shadow)
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
      const count = `${deleted.length} of ${shadows.length} shadow copies deleted`
      throw new UmbraError(
        error.code,
        `${count}; ${shadow.snapshotId} of ${shadow.originalVolume} is the first that is not: ${error.message}`,
        { deleted: deleted.length, notDeleted: shadow.snapshotId },
        error,
      )
    }
    deleted.push(shadow.snapshotId)
  }
  return { count: deleted.length, deleted }
}

function inOrder(shadows: readonly ShadowProperties[]): ShadowProperties[] {
  const begins = new Map<string, number>()
  for (const { snapshotSetId, createdAtMs } of shadows) {
    begins.set(snapshotSetId, Math.min(createdAtMs, begins.get(snapshotSetId) ?? createdAtMs))
  }
  const begin = (shadow: ShadowProperties): number => begins.get(shadow.snapshotSetId) ?? 0
  return [...shadows].sort(
    (a, b) =>
      begin(a) - begin(b) ||
      compare(a.snapshotSetId, b.snapshotSetId) ||
      compare(a.originalVolume, b.originalVolume) ||
      a.epoch - b.epoch,
  )
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function found(shadows: ShadowProperties[], otherwise: string): ShadowProperties[] {
  if (shadows.length > 0) return shadows
  throw new UmbraError('NOT_FOUND', otherwise)
}
