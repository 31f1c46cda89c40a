// Whether what a daemon leased to this process is still there, known without asking the daemon: it holds
// a mark on the volume file for as long as it is.
//
// Always true: what was read before confirm() returned is what the lease promised, however long this
// process stood still in between; once check() or confirm() has thrown, they always do.

import { UmbraError } from '../base/errors.ts'
import { FileMarks } from '../storage/file-marks.ts'
import type { FileStorage } from '../storage/file-storage.ts'
import type { SnapshotGuard } from '../volume/snapshot-device.ts'
import type { Leased } from './control-protocol.ts'

const UNEXPLAINED = 'The snapshot was dropped, or its daemon ended, while it was read'

export class LeaseWatch implements SnapshotGuard {
  readonly #marks: FileMarks
  readonly #mark: number
  #isGone = false
  #reason: string | undefined

  /** @throws UmbraError UNAVAILABLE when the daemon holds no mark, as one of an older version */
  constructor(storage: FileStorage, { mark }: Pick<Leased, 'mark'>) {
    if (typeof mark !== 'number') {
      throw new UmbraError('UNAVAILABLE', 'The daemon does not mark what it leases: unmount and mount again')
    }
    this.#marks = new FileMarks(storage)
    this.#mark = mark
  }

  /** It is gone, and why; the first to say why is believed. */
  lost(reason: string): void {
    this.#isGone = true
    this.#reason ??= reason
  }

  evicted(name: string): void {
    this.lost(`Snapshot ${JSON.stringify(name)} was dropped to make room while it was read`)
  }

  /** As far as is known. @throws UmbraError EVICTED */
  check(): void {
    if (this.#isGone) throw new UmbraError('EVICTED', this.#reason ?? UNEXPLAINED)
  }

  /** As it is now. @throws UmbraError EVICTED */
  confirm(): void {
    if (!this.#isGone && !this.#marks.isSet(this.#mark)) this.#isGone = true
    this.check()
  }

  /** Blocks of another process's volume cannot be kept read by read. */
  beginRead(): number {
    return 0
  }

  endRead(): void {}
}
