// The auto-recovery windows of a mount: which unsealed snapshot can be entered by its name, and the
// trees of those that are shut, while the kernel still knows nodes of them.
//
// Always true: a slot of node ids belongs to one window for as long as anybody remembers a node of it;
// at most one window is open by a name.

import { posixError } from '../base/errors.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import { RECOVERY_SLOT_FIRST, RECOVERY_SLOT_LAST } from './node-ids.ts'
import type { TreePlace } from './read-only-tree.ts'
import { RecoveryTree } from './recovery-tree.ts'

export class RecoveryWindows {
  readonly #parentOfRoot: NonNullable<TreePlace['parentOfRoot']>
  readonly #bySlot = new Map<number, RecoveryTree>()
  #lastSlot = RECOVERY_SLOT_LAST

  constructor(parentOfRoot: NonNullable<TreePlace['parentOfRoot']>) {
    this.#parentOfRoot = parentOfRoot
  }

  /**
   * Lets the snapshot be entered at `.snapshots/NAME` and changed.
   * @param fileSystem the snapshot's, writable
   * @throws EBUSY when the kernel remembers too many windows
   */
  open(name: string, fileSystem: FileSystem): RecoveryTree {
    const slot = this.#freeSlot()
    const text = Buffer.from(name, 'utf8').toString('latin1')
    const tree = new RecoveryTree(text, fileSystem, slot, this.#parentOfRoot)
    this.#bySlot.set(slot, tree)
    this.#lastSlot = slot
    return tree
  }

  /** @param name one char a byte */
  named(name: string): RecoveryTree | undefined {
    for (const tree of this.#bySlot.values()) if (tree.isEnterable && tree.name === name) return tree
    return undefined
  }

  /** @throws ESTALE when nothing is known of it any more */
  inSlot(slot: number): RecoveryTree {
    const tree = this.#bySlot.get(slot)
    if (tree === undefined) throw posixError('ESTALE')
    return tree
  }

  known(slot: number): RecoveryTree | undefined {
    return this.#bySlot.get(slot)
  }

  #freeSlot(): number {
    for (const { slot, isEnterable, lookupCount } of this.#bySlot.values()) {
      if (!isEnterable && lookupCount === 0) this.#bySlot.delete(slot)
    }
    let slot = this.#lastSlot
    do {
      slot = slot === RECOVERY_SLOT_LAST ? RECOVERY_SLOT_FIRST : slot + 1
      if (!this.#bySlot.has(slot)) return slot
    } while (slot !== this.#lastSlot)
    throw posixError('EBUSY', 'the kernel remembers too many auto-recovery windows')
  }
}
