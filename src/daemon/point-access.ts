// Reading points of a volume's history in this process, whether a daemon serves the volume or not.
//
// Always true: while `use` runs, the points cannot go: either this process holds the volume's lock, or
// a lease on the daemon's connection keeps them. Snapshots are read straight from the volume file, as
// what they hold never changes. When the daemon dies meanwhile, or drops one of them for want of room,
// that very read fails with EVICTED, and what was read until then is not passed off as whole.

import { UmbraError } from '../base/errors.ts'
import type { ImageSource } from '../image/image-source.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { delta } from '../volume/delta.ts'
import { NodeCache } from '../volume/node-cache.ts'
import type { DeltaExtent, Point, Snapshot } from '../volume/points.ts'
import { SnapshotDevice, type SnapshotGuard } from '../volume/snapshot-device.ts'
import type { Leased } from './control-protocol.ts'
import { LeaseWatch } from './lease-watch.ts'
import { type OpenControl, openControl } from './open-control.ts'

const CACHE_BYTES = 32 * 1024 * 1024
const DAEMON_ENDED = 'The daemon ended while its snapshot was read'

export class PointAccess {
  readonly volumeUuid: string
  readonly #storage: BlockStorage
  readonly #points: ReadonlyMap<string, Point>
  readonly #guard: SnapshotGuard | undefined
  readonly #confirm: () => Promise<void>
  readonly #cache: NodeCache

  /**
   * @param guard where the points may go while they are read
   * @param confirm throws if any has gone
   */
  constructor(
    storage: BlockStorage,
    leased: Leased,
    guard?: SnapshotGuard,
    confirm: () => Promise<void> = async () => {},
  ) {
    this.volumeUuid = leased.volumeUuid
    this.#storage = storage
    const points = leased.present ? [...leased.points, leased.present] : leased.points
    this.#points = new Map(
      points.flatMap((point) => [
        [point.name, point],
        [point.id, point],
      ]),
    )
    this.#guard = guard
    this.#confirm = confirm
    this.#cache = new NodeCache(storage, CACHE_BYTES)
  }

  /** One of the points that were asked for. @throws UmbraError NOT_FOUND */
  point(name: string): Point {
    const point = this.#points.get(name)
    if (point) return point
    throw new UmbraError('NOT_FOUND', `No such snapshot or bookmark: ${name}`, { name })
  }

  /** @throws UmbraError NOT_FOUND, INVALID_ARGUMENT for a bookmark */
  snapshot(name: string): Snapshot {
    const point = this.point(name)
    if (point.kind === 'snapshot') return point
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `${name} is a bookmark: its blocks are not kept, it is only a base`,
    )
  }

  /** To be asked after the last read: what was read is what the points hold. @throws UmbraError EVICTED */
  confirm(): Promise<void> {
    return this.#confirm()
  }

  device(snapshot: Snapshot): SnapshotDevice {
    const { root, epoch, blockCount } = snapshot
    const guard = this.#guard
    const options = { root, epoch, blockCount, cache: this.#cache, ...(guard && { guard }) }
    return new SnapshotDevice(this.#storage, options)
  }

  *delta(from: Point | null, to: Snapshot): Generator<DeltaExtent> {
    for (const extent of delta(this.#cache, from, to)) {
      this.#guard?.confirm?.()
      yield extent
    }
    this.#guard?.confirm?.()
  }
}

/** What the image writers take: a snapshot, whole or since a base. */
export function imageSource(access: PointAccess, name: string, since: string | null): ImageSource {
  const snapshot = access.snapshot(name)
  const base = since === null ? null : access.point(since)
  const { id, epoch, createdAtMs, blockCount } = snapshot
  return {
    volumeUuid: access.volumeUuid,
    point: { id, epoch, name: snapshot.name, createdAtMs },
    base: base && { id: base.id, epoch: base.epoch, name: base.name },
    device: access.device(snapshot),
    blockCount,
    extents: () => access.delta(base, snapshot),
    confirm: () => access.confirm(),
  }
}

/**
 * Runs `use` with the named points of a volume kept.
 * @param argument volume file or mount point
 * @throws UmbraError NOT_FOUND, and what `use` throws
 */
export function withPoints<T>(
  argument: string,
  names: readonly string[],
  use: (access: PointAccess) => Promise<T>,
): Promise<T> {
  return withLease(argument, { names, present: false }, (access) => use(access))
}

/** Like withPoints(), with a temporary snapshot of the present that is gone afterwards. */
export function withPresent<T>(
  argument: string,
  names: readonly string[],
  use: (access: PointAccess, present: Snapshot) => Promise<T>,
): Promise<T> {
  return withLease(argument, { names, present: true }, (access, present) => {
    if (present === null) throw new UmbraError('UNAVAILABLE', 'The daemon gave no snapshot of the present')
    return use(access, present)
  })
}

async function withLease<T>(
  argument: string,
  params: { names: readonly string[]; present: boolean },
  use: (access: PointAccess, present: Snapshot | null) => Promise<T>,
): Promise<T> {
  await using control = await openControl(argument, { write: params.present })
  const leased = await control.volume.lease(params)
  if (control.localStorage) {
    return await use(new PointAccess(control.localStorage, leased), leased.present)
  }
  const storage = await FileStorage.open(control.volumePath, { readOnly: true, lock: 'none' })
  try {
    const watch = new LeaseWatch(storage, leased)
    control.volume.onEvicted((name) => watch.evicted(name))
    void control.whenGone.then(() => watch.lost(DAEMON_ENDED))
    const confirm = () => confirmLease(control, watch)
    return await confirmed(use(new PointAccess(storage, leased, watch, confirm), leased.present), confirm)
  } finally {
    await storage.close()
  }
}

/** What was written over blocks meanwhile may look like damage, or like anything else that went wrong. */
async function confirmed<T>(used: Promise<T>, confirm: () => Promise<void>): Promise<T> {
  try {
    return await used
  } finally {
    await confirm()
  }
}

/** As the daemon says now: it knows which one was dropped. @throws UmbraError EVICTED */
async function confirmLease(control: OpenControl, watch: LeaseWatch): Promise<void> {
  try {
    for (const name of await control.volume.evictedLeases()) watch.evicted(name)
  } catch (error) {
    watch.lost(`The daemon does not say whether its snapshot is still there: ${(error as Error).message}`)
  }
  watch.confirm()
}
