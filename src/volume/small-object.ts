// A small array of metadata blocks with a tree of its own: the catalog, the directories of dead
// lists, the side table. Only blocks that change are written.
//
// Always true: no snapshot refers to it, so what it drops is freed; every block is checksummed by
// its leaf entry; nothing of it changes in place once committed.

import {
  blockChecksum,
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  entryChecksum,
  entryKind,
  entryPhysicalBlock,
  setEntry,
} from './map-node.ts'
import type { MetadataStore } from './metadata-store.ts'
import type { TreeRoot } from './points.ts'
import { RadixTree } from './radix-tree.ts'

/** Births mean nothing here: an object belongs to no epoch. */
const NO_BIRTH = 1

export function emptyRoot(levels: number): TreeRoot {
  return { physicalBlock: 0, birthEpoch: 0, checksum: 0, levels }
}

export class SmallObject {
  readonly #store: MetadataStore
  readonly #tree: RadixTree

  constructor(store: MetadataStore, root: TreeRoot) {
    this.#store = store
    this.#tree = new RadixTree(
      store,
      {
        epoch: NO_BIRTH,
        forgettableBirth: NO_BIRTH,
        dropped: (physicalBlock) => store.free(physicalBlock),
        addedNode: () => {},
      },
      root,
    )
  }

  /** Right after settle(). */
  get root(): TreeRoot {
    return this.#tree.root
  }

  get isDirty(): boolean {
    return this.#tree.dirtyCount > 0
  }

  /** The block's contents, or undefined where none was written. @throws UmbraError CHECKSUM_MISMATCH */
  read(index: number): Uint8Array | undefined {
    const words = this.#tree.leaf(Math.floor(index / ENTRIES_PER_NODE), true)
    if (!words) return undefined
    const entry = index % ENTRIES_PER_NODE
    if (entryKind(words, entry) !== ENTRY_DATA) return undefined
    return this.#store.read(entryPhysicalBlock(words, entry), entryChecksum(words, entry))
  }

  write(index: number, block: Uint8Array): void {
    const words = this.#tree.writableLeaf(Math.floor(index / ENTRIES_PER_NODE))
    const entry = index % ENTRIES_PER_NODE
    let physicalBlock = entryPhysicalBlock(words, entry)
    const isMapped = entryKind(words, entry) === ENTRY_DATA
    if (!isMapped || !this.#store.isFresh(physicalBlock)) {
      if (isMapped) this.#store.free(physicalBlock)
      physicalBlock = this.#store.allocate()
    }
    setEntry(words, entry, ENTRY_DATA, physicalBlock, NO_BIRTH, blockChecksum(block))
    this.#store.write(physicalBlock, block, 0)
  }

  /** Drops blocks [first, last]. */
  remove(first: number, last: number): void {
    this.#tree.clear(first, last, 0)
  }

  /** Writes the changed nodes; root is then right. */
  settle(): void {
    this.#tree.writeDirty()
  }

  /** Frees every block of it. */
  destroy(): void {
    this.#tree.destroy()
  }
}
