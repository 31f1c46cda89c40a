// The volume: a block device in one file, with snapshots that cost one commit.
//
// Always true: methods that change the present are synchronous and end in a whole state; the cut of
// a commit lies between two of them. What createSnapshot() and its like do happens inside a cut and
// is durable when their promise resolves. After the first failed write or flush nothing is written
// any more: `failure` says why, changes throw READ_ONLY, reads go on. The storage is the caller's to close.

import { UmbraError } from '../base/errors.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { checkBlocks } from './check-blocks.ts'
import { CommitQueue } from './commit-queue.ts'
import { type CreateOptions, createVolume } from './create-volume.ts'
import { CutActions } from './cut-actions.ts'
import { chooseWholeSuperblock } from './fall-back.ts'
import { growPresent } from './grow-volume.ts'
import type { Lease } from './leases.ts'
import type { NodeReader } from './map-node.ts'
import type {
  Bookmark,
  Point,
  ShadowProperties,
  Snapshot,
  SnapshotSizes,
  SpaceReport,
  TreeRoot,
} from './points.ts'
import { Present } from './present.ts'
import { ReadTickets } from './read-tickets.ts'
import { Reclaimer } from './reclaimer.ts'
import { rollBack } from './rollback.ts'
import { RunReader } from './run-reader.ts'
import { SideTable } from './side-table.ts'
import { SpaceKeeper } from './space-keeper.ts'
import type { Superblock } from './superblock.ts'
import { type ChosenSuperblock, mendCopies, type OpenReport } from './superblock-slots.ts'
import type { UnsealedSnapshot } from './unsealed-snapshot.ts'
import { VolumePoints } from './volume-points.ts'

export interface OpenOptions {
  readonly readOnly?: boolean
  /** Limit of the node cache; 64 MiB unless told. */
  readonly cacheBytes?: number
}

export type { Lease }

const CACHE_BYTES = 64 * 1024 * 1024

export class Volume implements BlockDevice {
  readonly storage: BlockStorage
  readonly uuid: string
  readonly label: string
  readonly createdAtMs: number
  readonly openReport: OpenReport
  /** The space policy: set, watched, and asked for room. */
  readonly spaceKeeper: SpaceKeeper
  readonly #openedReadOnly: boolean
  readonly #cacheBytes: number
  readonly #queue: CommitQueue
  readonly #reclaimer: Reclaimer
  readonly #points: VolumePoints
  readonly #reader: RunReader
  readonly #callbacks: (() => void)[] = []
  readonly #cutActions = new CutActions()
  readonly #reads = new ReadTickets()
  #present: Present
  #durable: Superblock
  #failure: UmbraError | undefined
  #isClosed = false

  private constructor(storage: BlockStorage, options: OpenOptions, chosen: ChosenSuperblock) {
    const readOnly = options.readOnly === true || storage.readOnly
    const { superblock } = chosen
    this.storage = storage
    this.uuid = superblock.uuid
    this.label = superblock.label
    this.createdAtMs = superblock.createdAtMs
    this.#openedReadOnly = readOnly
    this.#cacheBytes = options.cacheBytes ?? CACHE_BYTES
    this.#durable = superblock
    this.#queue = new CommitQueue(storage, {
      checkWritable: () => this.#checkWritable(),
      cut: () => this.#cut(),
      becameDurable: (superblock) => this.#becameDurable(superblock),
      failed: (error) => this.#fail(error),
    })
    this.#reclaimer = new Reclaimer(this.#queue, {
      state: () => this.#present.state,
      durable: () => this.#durable,
      commit: () => this.commit(),
    })
    this.#points = new VolumePoints({
      storage,
      uuid: this.uuid,
      reads: this.#reads,
      present: () => this.#present,
      inCut: (action) => this.#inCut(action),
      checkOpen: () => this.#checkOpen(),
      checkWritable: () => this.#checkWritable(),
      noteWrite: () => this.#queue.noteWrite(),
    })
    this.spaceKeeper = new SpaceKeeper({
      state: () => this.#present.state,
      points: () => this.#points,
      commit: () => this.commit(),
      inCut: (action) => this.#inCut(action),
      reclaim: () => this.reclaim(),
      drain: () => this.drain(),
    })
    this.#present = this.#build(superblock)
    this.#reader = new RunReader(
      storage,
      { leaf: (position, wait) => this.#present.state.map.leaf(position, wait) },
      superblock.blockCount,
    )
    const { badCopies, fellBack } = chosen
    const mended = readOnly ? [] : mendCopies(storage, chosen)
    this.openReport = { transaction: superblock.transaction, badCopies, mended, fellBack }
  }

  /**
   * Makes a volume in an empty storage and opens it.
   * @throws UmbraError ALREADY_EXISTS, INVALID_ARGUMENT, OUT_OF_SPACE, IO_FAILED
   */
  static async create(storage: BlockStorage, options: CreateOptions & OpenOptions): Promise<Volume> {
    await createVolume(storage, options)
    return await Volume.open(storage, options)
  }

  /**
   * @throws UmbraError NOT_A_VOLUME, UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE, CHECKSUM_MISMATCH,
   * CORRUPT, TRUNCATED, IO_FAILED
   */
  static async open(storage: BlockStorage, options: OpenOptions = {}): Promise<Volume> {
    const readOnly = options.readOnly === true || storage.readOnly
    const chosen = await chooseWholeSuperblock(storage, readOnly)
    const volume = new Volume(storage, options, chosen)
    if (volume.openReport.mended.length > 0) await storage.flush()
    // What the opened transaction freed is not known any more; with a twin of it in the other slot
    // nothing that may be gone back to refers to it.
    if (!readOnly && !chosen.isTwinned) await volume.#reclaimer.commitTwin()
    if (!readOnly) await volume.#points.dropUnsealed()
    return volume
  }

  get blockCount(): number {
    return this.#present.state.blockCount
  }

  get readOnly(): boolean {
    return this.#openedReadOnly || this.#failure !== undefined
  }

  /** Why nothing can be written any more; undefined while all is well. */
  get failure(): UmbraError | undefined {
    return this.#failure
  }

  get transaction(): number {
    return this.#present.state.transaction
  }

  get durableTransaction(): number {
    return this.#durable.transaction
  }

  get epoch(): number {
    return this.#present.state.epoch
  }

  /** Reads nodes of snapshots' trees, and of the present's as of liveRoot(). */
  get nodes(): NodeReader {
    return this.#present.state.cache
  }

  /** The present's tree as of the last cut; commit first for what is there now. */
  liveRoot(): TreeRoot {
    return this.#present.state.lastCut.liveRoot
  }

  // -- reading

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#checkOpen()
    this.#writeGathered()
    this.#reader.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    this.#checkOpen()
    this.#writeGathered()
    return this.#reader.tryRead(offsetBytes, lengthBytes, target, targetOffset)
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    this.#checkOpen()
    this.#writeGathered()
    const ticket = this.#reads.begin()
    try {
      await this.#reader.read(offsetBytes, lengthBytes, target, targetOffset)
    } finally {
      this.#reads.end(ticket)
    }
  }

  // -- changing the present

  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): boolean {
    checkBlocks(this, blockIndex, blockCount)
    if (blockCount === 0) return false
    const isMapped = this.#change(() =>
      this.#present.writer.writeData(blockIndex, blockCount, source, sourceOffset),
    )
    if (isMapped && this.spaceKeeper.fault) this.spaceKeeper.wrote()
    return isMapped
  }

  writeMetadata(blockIndex: number, source: Uint8Array, sourceOffset: number): void {
    checkBlocks(this, blockIndex, 1)
    this.#change(() => this.#present.writer.writeMetadata(blockIndex, source, sourceOffset))
  }

  /** @throws UmbraError OUT_OF_SPACE, with a part done, when not even the reserve is left */
  discard(blockIndex: number, blockCount: number): void {
    checkBlocks(this, blockIndex, blockCount)
    this.#change(() => this.#present.writer.discard(blockIndex, blockCount))
  }

  /** Makes the device larger, with the next commit. @throws as growPresent(), READ_ONLY */
  grow(sizeBytes: number): void {
    this.#change(() => growPresent(this.#present, sizeBytes))
    this.#reader.grow(this.blockCount)
  }

  requireRoom(dirtyBlockCount: number, freeing: boolean): void {
    this.#checkWritable()
    this.#present.room.claim(dirtyBlockCount, freeing)
  }

  readSideTable(): Uint8Array {
    return this.#present.state.sideTable.read()
  }

  writeSideTable(bytes: Uint8Array): void {
    this.#checkWritable()
    this.#present.room.ensure(SideTable.blocksFor(bytes.length), 0, true)
    this.#change(() => {
      this.#present.writer.isChanging = true
      if (this.#present.state.sideTable.replace(bytes)) this.#present.state.isDirty = true
      this.#present.writer.isChanging = false
    })
  }

  async flush(): Promise<void> {
    if (this.#openedReadOnly) return
    this.#checkOpen()
    this.#writeGathered()
    await this.#queue.flush()
  }

  async commit(): Promise<void> {
    if (this.#openedReadOnly) return
    this.#checkOpen()
    await this.#queue.commit()
  }

  onBeforeCommit(write: () => void): void {
    this.#callbacks.push(write)
  }

  // -- snapshots and bookmarks

  /**
   * @param shadow makes it a shadow copy, sealed at once
   * @throws UmbraError INVALID_NAME, ALREADY_EXISTS, BUSY while one is unsealed, LIMIT_EXCEEDED, OUT_OF_SPACE,
   *   READ_ONLY
   */
  async createSnapshot(name: string, shadow: ShadowProperties | null = null): Promise<Snapshot> {
    return await this.spaceKeeper.withRoom(() => this.#points.createSnapshot(name, shadow))
  }

  /**
   * Cuts a shadow copy and opens its auto-recovery window.
   * @param id the UUID that it was promised; without one it gets a random one
   * @throws UmbraError as createSnapshot(); INVALID_ARGUMENT, ALREADY_EXISTS for the id
   */
  async cutUnsealed(name: string, shadow: ShadowProperties, id?: string): Promise<UnsealedSnapshot> {
    return await this.spaceKeeper.withRoom(() => this.#points.cutUnsealed(name, shadow, id))
  }

  /** The shadow copy whose auto-recovery window is open. */
  get unsealed(): UnsealedSnapshot | undefined {
    return this.#points.unsealed
  }

  /** Changes a shadow copy's properties. @throws UmbraError NOT_FOUND, INVALID_ARGUMENT, READ_ONLY */
  async setShadow(nameOrId: string, shadow: ShadowProperties): Promise<Snapshot> {
    return await this.#points.setShadow(nameOrId, shadow)
  }

  /** @throws UmbraError NOT_FOUND, PINNED, LEASED, OUT_OF_SPACE, READ_ONLY */
  async deleteSnapshot(name: string, options: { readonly keepBookmark?: boolean } = {}): Promise<void> {
    await this.#points.deleteSnapshot(name, options.keepBookmark === true)
  }

  /** Oldest first. */
  snapshots(): Snapshot[] {
    return this.#points.snapshots()
  }

  bookmarks(): Bookmark[] {
    return this.#points.bookmarks()
  }

  /** @throws UmbraError NOT_FOUND */
  snapshot(nameOrId: string): Snapshot {
    return this.#points.snapshot(nameOrId)
  }

  /** A snapshot or bookmark. @throws UmbraError NOT_FOUND */
  point(nameOrId: string): Point {
    return this.#points.point(nameOrId)
  }

  sizesOf(nameOrId: string): SnapshotSizes {
    return this.#points.sizesOf(nameOrId)
  }

  /** Bytes that deleting all of these snapshots would free. @throws UmbraError NOT_FOUND */
  freedIfDeleted(namesOrIds: readonly string[]): number {
    return this.#points.freedIfDeleted(namesOrIds)
  }

  /** Keeps a snapshot from being deleted, durably. @throws UmbraError NOT_FOUND, READ_ONLY */
  async pin(nameOrId: string): Promise<void> {
    await this.#points.setPinned(nameOrId, true)
  }

  async unpin(nameOrId: string): Promise<void> {
    await this.#points.setPinned(nameOrId, false)
  }

  /** @throws UmbraError INVALID_NAME, ALREADY_EXISTS, LIMIT_EXCEEDED, OUT_OF_SPACE, READ_ONLY */
  async createBookmark(name: string): Promise<Bookmark> {
    return await this.#points.createBookmark(name)
  }

  /** @throws UmbraError NOT_FOUND, READ_ONLY */
  async deleteBookmark(nameOrId: string): Promise<void> {
    await this.#points.deleteBookmark(nameOrId)
  }

  /**
   * Makes the present read as a snapshot does, as a change forward in one transaction, after a snapshot
   * of the present (named `keepAs`, or after the time). All or nothing. Nobody has the volume mounted.
   * @returns the snapshot of the present as it was
   * @throws UmbraError NOT_FOUND, BUSY, INVALID_NAME, ALREADY_EXISTS, OUT_OF_SPACE, READ_ONLY
   */
  async rollback(nameOrId: string, options: { readonly keepAs?: string } = {}): Promise<Snapshot> {
    this.#checkWritable()
    if (this.#callbacks.length > 0) throw new UmbraError('BUSY', 'The volume is mounted; unmount it first')
    const steps = { settle: () => this.#reclaimer.settle(), dropTransaction: () => this.#dropTransaction() }
    return await rollBack(this, steps, nameOrId, options.keepAs)
  }

  /** Keeps a snapshot or bookmark from being deleted until released. @throws UmbraError NOT_FOUND */
  lease(nameOrId: string): Lease {
    return this.#points.lease(nameOrId)
  }

  /** A read-only device; it fails with EVICTED once the snapshot is deleted. @throws UmbraError NOT_FOUND */
  openSnapshot(nameOrId: string): BlockDevice {
    return this.#points.open(nameOrId)
  }

  // -- space, end

  space(): SpaceReport {
    return this.#present.state.space()
  }

  /** Frees everything that deleted snapshots held and gives it back to the host. */
  async drain(): Promise<void> {
    await this.#reclaimer.drain()
  }

  /** Makes freed blocks available, with up to two commits; undefined: nothing is waiting for it. */
  reclaim(): Promise<void> | undefined {
    if (this.readOnly || this.#isClosed) return undefined
    return this.#reclaimer.reclaim()
  }

  /** Commits, gives unused space back and forgets everything. The storage stays open. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    try {
      if (!this.readOnly) {
        await this.#points.dropUnsealed()
        await this.commit()
        await this.#reclaimer.releaseFrees()
        await this.#present.state.releaseSpace()
      }
    } finally {
      this.#present.state.puncher.stop()
      this.#isClosed = true
    }
  }

  // -- inside

  #build(superblock: Superblock): Present {
    const noteWrite = () => this.#queue.noteWrite()
    return new Present(this.storage, superblock, this.#reads, this.#cacheBytes, noteWrite, this.spaceKeeper)
  }

  /** Back to what is durable: everything since is forgotten. */
  #dropTransaction(): void {
    this.#present.state.puncher.stop()
    this.#present = this.#build(this.#durable)
  }

  /** Runs `action` in the next cut; resolves when it is durable. */
  async #inCut<T>(action: () => T): Promise<T> {
    this.#checkWritable()
    return await this.#cutActions.inCut(action, () => this.#queue.commit())
  }

  /** Hands gathered metadata to the storage, for whoever reads it next. */
  #writeGathered(): void {
    try {
      this.#present.state.store.flush()
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  #cut(): Superblock | undefined {
    for (const write of this.#callbacks) write()
    this.#present.room.settle()
    this.#present.state.store.flush()
    const { state } = this.#present
    const isForced = this.#reclaimer.takeForce(state)
    if (!state.hasChanges && this.#cutActions.isEmpty && !isForced) return undefined
    state.writeMap()
    this.#cutActions.run(state)
    this.spaceKeeper.cut()
    if (!state.hasChanges && !isForced) return undefined
    return state.finishCut()
  }

  #becameDurable(superblock: Superblock): void {
    this.#durable = superblock
    this.#present.state.frees.becameDurable(superblock.transaction)
  }

  #change<T>(change: () => T): T {
    this.#checkWritable()
    try {
      return change()
    } catch (error) {
      if (this.#present.writer.isChanging) this.#fail(error)
      throw error
    }
  }

  #fail(error: unknown): void {
    if (this.#failure) return
    this.#present.state.puncher.stop()
    this.#failure = asUmbraError(error)
  }

  #checkOpen(): void {
    if (this.#isClosed) throw new UmbraError('CLOSED', 'The volume is closed')
  }

  #checkWritable(): void {
    this.#checkOpen()
    if (this.#failure) {
      throw new UmbraError(
        'READ_ONLY',
        `The volume turned read-only: ${this.#failure.message}`,
        {},
        this.#failure,
      )
    }
    if (this.#openedReadOnly) throw new UmbraError('READ_ONLY', 'The volume was opened for reading only')
  }
}

function asUmbraError(error: unknown): UmbraError {
  if (error instanceof UmbraError) return error
  return new UmbraError('IO_FAILED', `Writing the volume failed: ${String(error)}`, {}, error)
}
