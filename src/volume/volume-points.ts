// The snapshots and bookmarks of an open volume: finding, making, deleting, leasing and opening them.
//
// Always true: what changes the catalog runs inside a cut and is durable when its promise resolves;
// names are looked up when it runs, not when it was asked for. A pinned or leased snapshot is not
// deleted here. A device of a snapshot answers only while the snapshot is in the catalog. A snapshot that
// is not sealed is found and listed by nothing here.

import { UmbraError } from '../base/errors.ts'
import { randomUuid, uuidBytes } from '../base/uuid.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { asBookmark, asSnapshot, type PointRecord } from './catalog.ts'
import { type Lease, Leases } from './leases.ts'
import type { Bookmark, Point, ShadowProperties, Snapshot, SnapshotSizes } from './points.ts'
import { SnapshotDevice } from './snapshot-device.ts'
import { OpenWindow, type UnsealedSnapshot, type WindowVolume } from './unsealed-snapshot.ts'

/** What the points need of their volume. */
export interface PointsHost extends WindowVolume {
  readonly storage: BlockStorage
  readonly uuid: string
}

export class VolumePoints {
  readonly #host: PointsHost
  readonly #leases: Leases
  #window: OpenWindow | undefined

  constructor(host: PointsHost) {
    this.#host = host
    this.#leases = new Leases(host.reads)
  }

  // -- finding

  /** Oldest first. */
  snapshots(): Snapshot[] {
    return this.#catalog.snapshots.filter((record) => record.isSealed).map(asSnapshot)
  }

  /** Oldest first. */
  bookmarks(): Bookmark[] {
    return this.#catalog.bookmarks.map(asBookmark)
  }

  /** @throws UmbraError NOT_FOUND */
  snapshot(nameOrId: string): Snapshot {
    return asSnapshot(this.#snapshotRecord(nameOrId))
  }

  /** A snapshot or bookmark. @throws UmbraError NOT_FOUND */
  point(nameOrId: string): Point {
    const record = this.#record(nameOrId)
    return record.kind === 'snapshot' ? asSnapshot(record) : asBookmark(record)
  }

  /** @throws UmbraError NOT_FOUND */
  sizesOf(nameOrId: string): SnapshotSizes {
    return this.#actions.sizesOf(this.#snapshotRecord(nameOrId))
  }

  /** Bytes that deleting all of these snapshots would free. @throws UmbraError NOT_FOUND */
  freedIfDeleted(namesOrIds: readonly string[]): number {
    return this.#actions.freedIfDeleted(namesOrIds.map((name) => this.#snapshotRecord(name)))
  }

  // -- changing

  /** @throws UmbraError INVALID_NAME, ALREADY_EXISTS, BUSY, LIMIT_EXCEEDED, OUT_OF_SPACE, READ_ONLY */
  async createSnapshot(name: string, shadow: ShadowProperties | null): Promise<Snapshot> {
    this.#actions.checkNew(name)
    if (shadow) checkShadow(shadow)
    return asSnapshot(await this.#host.inCut(() => this.#actions.createSnapshot(name, shadow)))
  }

  /** @throws UmbraError as createSnapshot(); INVALID_ARGUMENT, ALREADY_EXISTS for the id */
  async cutUnsealed(name: string, shadow: ShadowProperties, id = randomUuid()): Promise<UnsealedSnapshot> {
    this.#actions.checkNew(name)
    checkShadow(shadow)
    this.#checkNewId(id)
    return await this.#host.inCut(() => {
      const record = this.#actions.createSnapshot(name, { ...shadow }, { id, isSealed: false })
      this.#window = new OpenWindow(this.#host, record)
      return this.#window
    })
  }

  #checkNewId(id: string): void {
    uuidBytes(id)
    const isLower = id === id.toLowerCase()
    if (isLower && this.#catalog.find(id) === undefined) return
    const why = isLower ? `The volume has a snapshot or bookmark ${id}` : `Not in lower case: ${id}`
    throw new UmbraError(isLower ? 'ALREADY_EXISTS' : 'INVALID_ARGUMENT', why)
  }

  /** The shadow copy that is being made. */
  get unsealed(): UnsealedSnapshot | undefined {
    return this.#catalog.unsealed && this.#window
  }

  /** Deletes what no window is open on any more: what a process left that ended before it sealed. */
  async dropUnsealed(): Promise<void> {
    if (this.#window?.isOpen) await this.#window.drop()
    if (this.#catalog.snapshots.every((record) => record.isSealed)) return
    await this.#host.inCut(() => {
      for (const record of [...this.#catalog.snapshots]) {
        if (!record.isSealed) this.#actions.deleteSnapshot(record, false)
      }
    })
  }

  /** @throws UmbraError NOT_FOUND, INVALID_ARGUMENT, READ_ONLY */
  async setShadow(nameOrId: string, shadow: ShadowProperties): Promise<Snapshot> {
    checkShadow(shadow)
    await this.#host.inCut(() => this.#actions.setShadow(this.#snapshotRecord(nameOrId), { ...shadow }))
    return this.snapshot(nameOrId)
  }

  /** @throws UmbraError NOT_FOUND, PINNED, LEASED, OUT_OF_SPACE, READ_ONLY */
  async deleteSnapshot(name: string, keepBookmark: boolean): Promise<void> {
    await this.#host.inCut(() => {
      const record = this.#snapshotRecord(name)
      if (record.pinned) throw new UmbraError('PINNED', `Snapshot ${JSON.stringify(record.name)} is pinned`)
      if (this.#leases.isHeld(record.id)) {
        throw new UmbraError('LEASED', `Snapshot ${JSON.stringify(record.name)} is in use`)
      }
      this.#actions.deleteSnapshot(record, keepBookmark)
    })
  }

  /** @throws UmbraError NOT_FOUND, READ_ONLY */
  async setPinned(nameOrId: string, pinned: boolean): Promise<void> {
    await this.#host.inCut(() => this.#actions.setPinned(this.#snapshotRecord(nameOrId), pinned))
  }

  /** @throws UmbraError INVALID_NAME, ALREADY_EXISTS, LIMIT_EXCEEDED, OUT_OF_SPACE, READ_ONLY */
  async createBookmark(name: string): Promise<Bookmark> {
    this.#actions.checkNew(name)
    return asBookmark(await this.#host.inCut(() => this.#actions.createBookmark(name)))
  }

  /** @throws UmbraError NOT_FOUND, LEASED, READ_ONLY */
  async deleteBookmark(nameOrId: string): Promise<void> {
    await this.#host.inCut(() => {
      const record = this.#record(nameOrId)
      if (record.kind !== 'bookmark') throw notFound('bookmark', nameOrId)
      if (this.#leases.isHeld(record.id)) {
        throw new UmbraError('LEASED', `Bookmark ${JSON.stringify(record.name)} is in use`)
      }
      this.#actions.deleteBookmark(record)
    })
  }

  // -- evicting

  /**
   * The snapshot that goes next when room is needed: the oldest that nobody reads or makes, else the oldest.
   * @param keepNewest not the newest one
   * @param isMeant only of those
   * @returns undefined when every one that is left is kept
   */
  nextToEvict(
    keepNewest = false,
    isMeant: (record: PointRecord) => boolean = () => true,
  ): PointRecord | undefined {
    const { snapshots } = this.#catalog
    const newest = snapshots.at(-1)
    let leased: PointRecord | undefined
    for (const record of snapshots) {
      if (record.pinned || (keepNewest && record === newest) || !isMeant(record)) continue
      if (!this.#leases.isHeld(record.id) && record.isSealed) return record
      leased ??= record
    }
    return leased
  }

  /** Bytes that evicting all that may be evicted would free. */
  freedByEvicting(): number {
    return this.#actions.freedIfDeleted(this.#catalog.snapshots.filter((record) => !record.pinned))
  }

  /**
   * In a cut: deletes it all the same, leaving a bookmark if it was sealed.
   * @returns the bytes that it alone held
   */
  evict(record: PointRecord): number {
    const { uniqueBytes } = this.#actions.sizesOf(record)
    this.#actions.deleteSnapshot(record, record.isSealed)
    this.#leases.evicted(record.id)
    const windowBytes = record.isSealed ? 0 : (this.#window?.evicted() ?? 0)
    return uniqueBytes + windowBytes
  }

  // -- using

  /** Keeps a snapshot or bookmark from being deleted until released. @throws UmbraError NOT_FOUND */
  lease(nameOrId: string): Lease {
    return this.#leases.take(this.#record(nameOrId), this.#host.uuid)
  }

  /** A read-only device; it fails with EVICTED once the snapshot is deleted. @throws UmbraError NOT_FOUND */
  open(nameOrId: string): BlockDevice {
    const { id, name, root, epoch, blockCount } = this.#snapshotRecord(nameOrId)
    const { storage, reads } = this.#host
    const guard = {
      check: () => {
        this.#host.checkOpen()
        if (this.#catalog.find(id)?.kind === 'snapshot') return
        throw new UmbraError('EVICTED', `Snapshot ${JSON.stringify(name)} was deleted`)
      },
      beginRead: () => reads.begin(),
      endRead: (ticket: number) => reads.end(ticket),
    }
    const { cache } = this.#host.present().state
    return new SnapshotDevice(storage, { root, epoch, blockCount, cache, guard })
  }

  // -- inside

  get #catalog() {
    return this.#host.present().state.catalog
  }

  get #actions() {
    return this.#host.present().actions
  }

  #record(nameOrId: string): PointRecord {
    const record = this.#catalog.find(nameOrId)
    if (record?.isSealed) return record
    throw notFound('snapshot or bookmark', nameOrId)
  }

  #snapshotRecord(nameOrId: string): PointRecord {
    const record = this.#catalog.find(nameOrId)
    if (record?.kind === 'snapshot' && record.isSealed) return record
    throw notFound('snapshot', nameOrId)
  }
}

function notFound(kind: string, nameOrId: string): UmbraError {
  return new UmbraError('NOT_FOUND', `The volume has no ${kind} ${JSON.stringify(nameOrId)}`)
}

/** @throws UmbraError INVALID_ARGUMENT */
function checkShadow({ setId, setCount, attributes }: ShadowProperties): void {
  uuidBytes(setId)
  const isCount = Number.isInteger(setCount) && setCount >= 1 && setCount <= 0xffff
  const isMask = Number.isInteger(attributes) && attributes >= 0 && attributes <= 0xffffffff
  if (isCount && isMask) return
  throw new UmbraError(
    'INVALID_ARGUMENT',
    `Not a shadow copy's properties: ${setCount} volumes, attributes ${attributes}`,
  )
}
