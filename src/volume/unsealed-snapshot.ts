// A shadow copy in its auto-recovery window: cut, durable, not yet listed, writable by one.
//
//   const shadow = await volume.cutUnsealed(name, { setId, setCount, attributes })
//   shadow.snapshot   what is known of it (id, epoch, name...); its root is that of the cut
//   shadow.device     a BlockDevice that reads and writes the unsealed snapshot
//   await shadow.seal()   -> the Snapshot: listed, immutable, durable
//   await shadow.drop()   -> gone, as if it had never been cut
//
// Always true: only the newest snapshot can be unsealed, and no snapshot, bookmark or rollback is made
// beside it (BUSY): the name is taken, yet nothing lists it. The present goes on meanwhile, writes and
// commits, and other snapshots can be deleted. A process that ends before seal() is durable leaves a
// snapshot that the next open for writing deletes. Only when there is room for nothing else and every
// other snapshot went first is it evicted; seal() then says EVICTED.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockDevice } from '../storage/block-device.ts'
import { asSnapshot, type PointRecord } from './catalog.ts'
import { walkPieces } from './delta.ts'
import type { Snapshot } from './points.ts'
import type { Present } from './present.ts'
import type { ReadTickets } from './read-tickets.ts'
import { WindowDevice } from './window-device.ts'
import { WindowRunGatherer } from './window-list.ts'

export interface UnsealedSnapshot {
  /** As it was cut; it is not listed. */
  readonly snapshot: Snapshot
  /** Writable until seal() or drop() begins; still readable once it is sealed. */
  readonly device: BlockDevice
  readonly isOpen: boolean
  /**
   * Ends the window. Has the file system on the device write what it holds, then takes one commit.
   * @throws UmbraError OUT_OF_SPACE (the window is open again), EVICTED, BAD_STATE, IO_FAILED, READ_ONLY
   */
  seal(): Promise<Snapshot>
  /** Deletes the snapshot; does nothing when that was done. @throws UmbraError BAD_STATE once sealed, READ_ONLY */
  drop(): Promise<void>
}

/** What the window needs of its volume. */
export interface WindowVolume {
  readonly reads: ReadTickets
  present(): Present
  inCut<T>(action: () => T): Promise<T>
  /** @throws UmbraError CLOSED */
  checkOpen(): void
  /** @throws UmbraError READ_ONLY, CLOSED */
  checkWritable(): void
  noteWrite(): void
}

/** About a millisecond of work. */
const PIECES_PER_TURN = 10_000

type State = 'open' | 'sealing' | 'sealed' | 'dropping' | 'dropped' | 'evicted'

export class OpenWindow implements UnsealedSnapshot {
  readonly snapshot: Snapshot
  readonly device: WindowDevice
  readonly #volume: WindowVolume
  readonly #present: Present
  #state: State = 'open'
  #dropping: Promise<void> | undefined

  /** In the cut that made `record`; not to be used before that is durable. */
  constructor(volume: WindowVolume, record: PointRecord) {
    const present = volume.present()
    this.#volume = volume
    this.#present = present
    this.snapshot = asSnapshot(record)
    const host = {
      state: present.state,
      room: present.room,
      reads: volume.reads,
      checkReadable: () => this.#checkReadable(),
      checkWritable: () => this.#checkWritable(),
      noteWrite: () => volume.noteWrite(),
    }
    this.device = new WindowDevice(host, record.root, record.epoch, record.blockCount)
    present.state.window = this.device.blocks
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  async seal(): Promise<Snapshot> {
    if (this.#state !== 'open') throw this.#badState('sealed')
    this.#volume.checkWritable()
    this.device.settle()
    this.#state = 'sealing'
    const { root, blocks } = this.device
    let sealed: PointRecord
    try {
      const { runs } = await this.#changedRuns()
      sealed = await this.#volume.inCut(() =>
        this.#present.actions.sealSnapshot(this.#record(), { root, blocks, runs }),
      )
    } catch (error) {
      if (this.#hasState('evicted')) throw this.#badState('sealed')
      this.#state = 'open'
      throw error
    }
    this.#state = 'sealed'
    this.device.readFrom(sealed.root)
    await blocks.idle()
    blocks.release(sealed.window === null)
    return asSnapshot(sealed)
  }

  async drop(): Promise<void> {
    if (this.#state === 'dropped' || this.#state === 'evicted') return
    if (this.#state === 'sealing' || this.#state === 'sealed') throw this.#badState('dropped')
    this.#dropping ??= this.#drop().finally(() => {
      this.#dropping = undefined
    })
    await this.#dropping
  }

  /** In the cut in which the volume deletes the snapshot for lack of room. @returns bytes given back */
  evicted(): number {
    const { blocks } = this.device
    const freedBytes = blocks.blockCount * BLOCK_SIZE_BYTES
    this.#state = 'evicted'
    this.#present.state.window = undefined
    void blocks.idle().then(() => blocks.release(true))
    return freedBytes
  }

  /** May be tried again when it fails. */
  async #drop(): Promise<void> {
    this.#volume.checkWritable()
    this.#state = 'dropping'
    const { blocks } = this.device
    await blocks.idle()
    blocks.release(true)
    this.#present.state.window = undefined
    await this.#volume.inCut(() => {
      // Lack of room may have been quicker.
      if (this.#state === 'dropping') this.#present.actions.deleteSnapshot(this.#record(), false)
    })
    this.#state = 'dropped'
  }

  /** A window may have written much: the present is not kept waiting while it is looked through. */
  async #changedRuns(): Promise<WindowRunGatherer> {
    const gatherer = new WindowRunGatherer()
    const { cache } = this.#present.state
    let count = 0
    for (const extent of walkPieces(cache, this.snapshot.root, this.device.root)) {
      gatherer.add(extent)
      if (++count % PIECES_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    return gatherer
  }

  /** Asked after an await: whatever the state was before. */
  #hasState(state: State): boolean {
    return this.#state === state
  }

  /** As the catalog has it now: deleting the snapshot before it changes its dead list. */
  #record(): PointRecord {
    const record = this.#volume.present().state.catalog.find(this.snapshot.id)
    if (record?.isSealed === false && this.#volume.present() === this.#present) return record
    throw new UmbraError('EVICTED', `The unsealed snapshot ${JSON.stringify(this.snapshot.name)} is gone`)
  }

  #checkReadable(): void {
    this.#volume.checkOpen()
    const record = this.#volume.present().state.catalog.find(this.snapshot.id)
    if (record?.kind === 'snapshot' && this.#state !== 'dropping') return
    throw new UmbraError('EVICTED', `Snapshot ${JSON.stringify(this.snapshot.name)} was deleted`)
  }

  #checkWritable(): void {
    this.#volume.checkWritable()
    this.#checkReadable()
    if (this.#state === 'open') return
    throw new UmbraError('READ_ONLY', `Snapshot ${JSON.stringify(this.snapshot.name)} is sealed`)
  }

  #badState(wanted: string): UmbraError {
    const name = JSON.stringify(this.snapshot.name)
    if (this.#state === 'evicted') {
      return new UmbraError('EVICTED', `Snapshot ${name} was deleted for lack of room before it was sealed`)
    }
    return new UmbraError('BAD_STATE', `Snapshot ${name} cannot be ${wanted}: it is ${this.#state}`)
  }
}
