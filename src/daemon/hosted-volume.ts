// An open volume with what is asked of it: the same for a daemon's control socket, for `.snapshots` on
// the mount, and for a command that has the volume file open itself.
//
// Always true: a snapshot of a mounted volume is cut after the flush, in one turn of the event loop
// with nothing between; a deletion waits until the view of the mount has stopped reading the snapshot;
// a lease keeps a snapshot from being deleted until its holder lets go.

import { randomBytes } from 'node:crypto'
import { hasCode, UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { FileMarks } from '../storage/file-marks.ts'
import { dropAutoReleased } from '../volume/auto-release.ts'
import { checkName } from '../volume/catalog.ts'
import type { Bookmark, Snapshot } from '../volume/points.ts'
import type { SpacePolicy } from '../volume/space-policy.ts'
import type { Volume } from '../volume/volume.ts'
import type {
  Leased,
  LeaseParams,
  PolicyReport,
  ResizedVolume,
  SnapshotDetails,
  SnapshotTaken,
  VolumeStatus,
} from './control-protocol.ts'

/** Snapshots that are named so are made for a lease and go with it. */
const TEMPORARY_PREFIX = 'umbra-present-'
/** The events that status shows; `policy` shows all that are kept. */
const STATUS_EVENTS = 8

export function isTemporary(snapshotName: string): boolean {
  return snapshotName.startsWith(TEMPORARY_PREFIX)
}

/** @throws UmbraError INVALID_NAME */
function refuseTemporary(name: string): void {
  if (!isTemporary(name)) return
  const message = `Names that begin with ${TEMPORARY_PREFIX} are kept for Umbra`
  throw new UmbraError('INVALID_NAME', message, { name })
}

/**
 * Deletes what ended with a process: snapshots that were made for leases, and shadow copies that were to
 * go with their requester's session. The volume is open for writing.
 */
export async function dropLeftovers(volume: Volume): Promise<void> {
  for (const { id, name, pinned } of volume.snapshots()) {
    if (isTemporary(name) && !pinned) await volume.deleteSnapshot(id)
  }
  await dropAutoReleased(volume)
}

/** What a mount adds to a volume. */
export interface MountHooks {
  /** Brings every write that has returned so far to the file system. */
  flush(): Promise<void>
  /** Whether files of the snapshot are open below `.snapshots`. */
  isInUse(snapshot: Snapshot): boolean
  /** A snapshot was dropped to make room: everything below it is ESTALE from now on. */
  evicted?(epoch: number): void
  /** Makes volume and file system larger in one turn of the event loop; the next commit makes it durable. */
  grow(sizeBytes: number): Promise<Omit<ResizedVolume, 'volume'>>
  /** Stops the mount's own reading of a snapshot. @returns undo, for when the deletion then fails */
  beforeDelete(snapshot: Snapshot): Promise<() => void>
}

/** Where and by whom the volume is served. */
export interface Place {
  readonly volumePath: string
  readonly mountPoint: string | null
  readonly socket: string | null
  readonly mountedSnapshot: string | null
  /** The hook folder given to the mount. */
  readonly hooks?: string | null
}

export class HostedVolume {
  readonly volume: Volume
  readonly #place: Place
  readonly #marks: FileMarks | null
  #hooks: MountHooks | undefined
  #draining: Promise<void> | undefined
  /** Shadow copies to be deleted when the last lease on them ends, and whether a bookmark is left. */
  readonly #released = new Map<string, boolean>()

  /** @param marks where readers in other processes see what is leased to them; null: there are none */
  constructor(volume: Volume, place: Place, marks: FileMarks | null = null) {
    this.volume = volume
    this.#place = place
    this.#marks = marks
    volume.spaceKeeper.log.onEvent(({ kind, snapshot }) => {
      if (kind === 'evicted' && snapshot !== null) this.#evicted(snapshot)
    })
  }

  /** From now on the volume is mounted. */
  attach(hooks: MountHooks): void {
    this.#hooks = hooks
  }

  status(): VolumeStatus {
    const { volume } = this
    const { volumePath, mountPoint, socket, mountedSnapshot, hooks } = this.#place
    const reason = volume.failure?.message ?? null
    return {
      volume: volumePath,
      uuid: volume.uuid,
      mountPoint,
      daemon: socket === null ? null : { pid: process.pid, socket },
      state: reason !== null ? 'failed' : socket === null ? 'unmounted' : 'serving',
      reason,
      readOnly: volume.readOnly,
      mountedSnapshot,
      hooks: hooks ?? null,
      epoch: volume.epoch,
      transaction: volume.transaction,
      durableTransaction: volume.durableTransaction,
      sizeBytes: volume.blockCount * BLOCK_SIZE_BYTES,
      snapshots: volume.snapshots().length,
      bookmarks: volume.bookmarks().length,
      space: volume.space(),
      policy: volume.spaceKeeper.policy,
      fault: volume.spaceKeeper.fault,
      events: volume.spaceKeeper.log.events.slice(-STATUS_EVENTS),
    }
  }

  /** Changes what is given of the policy, and shows it. @throws UmbraError INVALID_ARGUMENT, OUT_OF_SPACE, READ_ONLY */
  async policy(change: Partial<SpacePolicy>): Promise<PolicyReport> {
    const { spaceKeeper } = this.volume
    const isChange = Object.keys(change).length > 0
    const evicted = isChange ? await spaceKeeper.setPolicy(change) : []
    const { policy, fault, log } = spaceKeeper
    const usedBytes = this.volume.space().snapshotBytes
    return {
      volume: this.#place.volumePath,
      policy,
      usedBytes,
      allocatedBytes: usedBytes,
      maxBytes: policy.snapshotLimitBytes,
      snapshots: this.volume.snapshots().length,
      fault,
      events: log.events,
      evicted,
    }
  }

  /** @throws UmbraError BUSY without a mount, and as growBoth(), with nothing changed */
  async resize(sizeBytes: number): Promise<ResizedVolume> {
    const { volumePath } = this.#place
    if (!this.#hooks) throw new UmbraError('BUSY', `${volumePath} is in use by a backup`)
    const sizes = await this.#hooks.grow(sizeBytes)
    await this.volume.commit()
    return { volume: volumePath, ...sizes }
  }

  /** @throws UmbraError NOT_FOUND */
  freedIfDeleted(names: readonly string[]): number {
    return this.volume.freedIfDeleted([...new Set(names)])
  }

  async sync(): Promise<{ flushMs: number; commitMs: number }> {
    const startedMs = performance.now()
    let lost: { readonly error: unknown } | undefined
    try {
      await this.#hooks?.flush()
    } catch (error) {
      // The commit makes the rest durable all the same, and on a full disk frees what was deleted.
      lost = { error }
    }
    const flushedMs = performance.now()
    await this.volume.commit()
    if (lost) throw lost.error
    return { flushMs: flushedMs - startedMs, commitMs: performance.now() - flushedMs }
  }

  /** @throws UmbraError INVALID_NAME also for the names of temporary ones, which do not stay */
  async createSnapshot(name: string): Promise<SnapshotTaken> {
    refuseTemporary(name)
    return this.#take(name)
  }

  async #take(name: string): Promise<SnapshotTaken> {
    // What cannot succeed is refused before the kernel is made to write.
    this.#refuseName(name)
    const startedMs = performance.now()
    await this.#hooks?.flush()
    const flushedMs = performance.now()
    const snapshot = await this.volume.createSnapshot(name)
    return { snapshot, flushMs: flushedMs - startedMs, cutMs: performance.now() - flushedMs }
  }

  listSnapshots(): SnapshotDetails[] {
    return this.volume.snapshots().map((snapshot) => this.#details(snapshot))
  }

  showSnapshot(name: string): SnapshotDetails {
    return this.#details(this.volume.snapshot(name))
  }

  /** @throws UmbraError NOT_FOUND, PINNED, LEASED, BUSY while files of it are open below `.snapshots` */
  async deleteSnapshot(name: string, keepBookmark: boolean): Promise<{ freedBytes: number }> {
    if (this.#hooks?.isInUse(this.volume.snapshot(name))) {
      throw new UmbraError('BUSY', `Files of snapshot ${name} are open below .snapshots/${name}`, { name })
    }
    return this.#delete(name, keepBookmark)
  }

  /** Whoever has files of it open gets ESTALE from here on. */
  async #delete(name: string, keepBookmark: boolean): Promise<{ freedBytes: number }> {
    const snapshot = this.volume.snapshot(name)
    const freedBytes = this.volume.sizesOf(snapshot.id).uniqueBytes
    const undo = await this.#hooks?.beforeDelete(snapshot)
    try {
      // By its id: another may have the name by now.
      await this.volume.deleteSnapshot(snapshot.id, { keepBookmark })
      this.#drain()
      return { freedBytes }
    } catch (error) {
      undo?.()
      throw error
    }
  }

  /**
   * Deletes a shadow copy whose session has ended: at once, or when the last lease on it ends. One that is
   * pinned stays; one that has gone already is none the less gone.
   */
  async discardShadow(id: string, keepBookmark: boolean): Promise<void> {
    try {
      await this.#delete(id, keepBookmark)
    } catch (error) {
      if (hasCode(error, 'LEASED')) this.#released.set(id, keepBookmark)
      else if (!hasCode(error, 'NOT_FOUND') && !hasCode(error, 'PINNED')) throw error
    }
  }

  async #discardReleased(): Promise<void> {
    const released = [...this.#released]
    this.#released.clear()
    for (const [id, keepBookmark] of released) await this.discardShadow(id, keepBookmark)
  }

  /** For the mount's own view, which has stopped reading the snapshot already. */
  async deleteUnread(name: string): Promise<void> {
    await this.volume.deleteSnapshot(name)
    this.#drain()
  }

  async pinSnapshot(name: string, pinned: boolean): Promise<Snapshot> {
    await (pinned ? this.volume.pin(name) : this.volume.unpin(name))
    return this.volume.snapshot(name)
  }

  async createBookmark(name: string): Promise<Bookmark> {
    this.#refuseName(name)
    await this.#hooks?.flush()
    return this.volume.createBookmark(name)
  }

  listBookmarks(): Bookmark[] {
    return this.volume.bookmarks()
  }

  async deleteBookmark(name: string): Promise<void> {
    await this.volume.deleteBookmark(name)
  }

  /** Settles when nothing runs in the background. */
  async settled(): Promise<void> {
    await this.#draining
  }

  /**
   * @param evicted told when a leased snapshot is evicted all the same; its blocks may be reused from
   *   then on, and the lease's mark is gone before
   * @returns what was leased, and what ends the lease
   */
  async lease(
    params: LeaseParams,
    evicted: (name: string) => void = () => {},
  ): Promise<{ leased: Leased; end: () => Promise<void> }> {
    const points = params.names.map((name) => this.volume.point(name))
    // Bookmarks too: their window lists are read from the volume file.
    const leases = points.map((point) => this.volume.lease(point.id))
    let present: Snapshot | null = null
    let mark: number | null = null
    try {
      if (params.present) {
        const taken = await this.#take(`${TEMPORARY_PREFIX}${randomBytes(6).toString('hex')}`)
        present = taken.snapshot
        leases.push(this.volume.lease(present.id))
      }
      mark = this.#marks?.set() ?? null
    } catch (error) {
      for (const lease of leases) lease.release()
      if (present) await this.#dropTemporary(present)
      throw error
    }
    // Whoever reads looks for the mark after each read, so no block may be reused before it is gone.
    const clearMark = (): void => {
      if (mark !== null) this.#marks?.clear(mark)
      mark = null
    }
    for (const lease of leases) {
      lease.onEvicted(() => {
        try {
          clearMark()
          lease.release()
        } catch {
          // The kernel had no memory for it: the blocks wait until the reader lets go.
        }
        evicted(lease.name)
      })
    }
    const end = async (): Promise<void> => {
      try {
        clearMark()
      } catch {
        // The reader has let go: a mark that the kernel could not take away misleads nobody.
      }
      for (const lease of leases.splice(0)) lease.release()
      await this.#discardReleased()
      const temporary = present
      present = null
      if (temporary) await this.#dropTemporary(temporary)
    }
    return { leased: { volumeUuid: this.volume.uuid, points, present, mark }, end }
  }

  async #dropTemporary({ id, name }: Snapshot): Promise<void> {
    if (this.volume.point(id).kind === 'bookmark') await this.volume.deleteBookmark(id)
    else await this.#delete(name, false)
  }

  /** In the cut that drops the snapshot. */
  #evicted(name: string): void {
    this.#hooks?.evicted?.(this.volume.point(name).epoch)
    queueMicrotask(() => this.#drain())
  }

  #details(snapshot: Snapshot): SnapshotDetails {
    return { snapshot, sizes: this.volume.sizesOf(snapshot.id) }
  }

  /** Gives back in the background what a deleted snapshot held. */
  #drain(): void {
    this.#draining ??= this.volume
      .drain()
      // A failed commit has turned the volume read-only, which status tells.
      .catch(() => {})
      .finally(() => {
        this.#draining = undefined
      })
  }

  /** For a shadow copy. @throws UmbraError INVALID_NAME, ALREADY_EXISTS */
  checkNewName(name: string): void {
    refuseTemporary(name)
    this.#refuseName(name)
  }

  /** Checks before the flush what createSnapshot() checks after it. */
  #refuseName(name: string): void {
    checkName(name)
    const isTaken = [...this.volume.snapshots(), ...this.volume.bookmarks()].some(
      (point) => point.name === name,
    )
    if (isTaken)
      throw new UmbraError('ALREADY_EXISTS', `There is a snapshot or bookmark ${name} already`, { name })
  }
}
