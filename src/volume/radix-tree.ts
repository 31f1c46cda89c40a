// A tree of map nodes that is being changed: the block map of the present, and the small objects.
//
// Always true: a node is changed only after it was copied to a block handed out since the last cut
// (its owner is told that the old one is no longer referred to), and then its parents were too; so
// every dirty node's ancestors are dirty. A dirty node has its block already; its checksum reaches
// the parent when it is written. Written nodes of this transaction can be dropped from memory and
// become dirty again in place, so a transaction of any size needs bounded memory.
//
// Holes: a node made under a HOLE begins with 256 holes of the same birth, so that holes keep their
// births when subtrees come and go.

import {
  blockChecksum,
  blocksPerEntry,
  clearEntry,
  ENTRIES_PER_NODE,
  ENTRY_DATA,
  ENTRY_EMPTY,
  ENTRY_HOLE,
  ENTRY_NODE,
  entryBirth,
  entryChecksum,
  entryFlags,
  entryKind,
  entryPhysicalBlock,
  type NodeWords,
  nodeBytes,
  setEntry,
  setEntryChecksum,
  WORDS_PER_NODE,
} from './map-node.ts'
import type { NodeCache } from './node-cache.ts'
import type { TreeRoot } from './points.ts'
import { badEntry, descend, type LeafAnswer, type LeafSource } from './tree-reader.ts'

/** What the tree asks of whoever it belongs to. */
export interface TreeOwner {
  /** Epoch that entries made now are born in. */
  readonly epoch: number
  /** Holes of at most this birth may as well never have been written: no point is older. */
  readonly forgettableBirth: number
  /** The tree refers to this block no longer. `flags` are those of the entry that did. */
  dropped(physicalBlock: number, birth: number, flags: number): void
  /** The tree refers to a new node. */
  addedNode(): void
}

/** Where the tree's nodes are: the volume's metadata, or blocks that one snapshot alone has. */
export interface NodeStore {
  readonly cache: NodeCache
  /** Hands over what was written, for reading the storage. */
  flush(): void
  /** Whether a node may be rewritten where it is. */
  isFresh(physicalBlock: number): boolean
  allocate(): number
  /** The bytes are taken before it returns. */
  write(physicalBlock: number, source: Uint8Array, sourceOffset: number): void
}

interface DirtyNode {
  readonly physicalBlock: number
  readonly words: NodeWords
}

export class RadixTree implements LeafSource {
  readonly #store: NodeStore
  readonly #owner: TreeOwner
  #levels: number
  /** Dirty nodes by level and position (first block / blocks per node). */
  readonly #dirty: Map<number, DirtyNode>[]
  #dirtyCount = 0
  #root: TreeRoot

  constructor(store: NodeStore, owner: TreeOwner, root: TreeRoot) {
    this.#store = store
    this.#owner = owner
    this.#root = root
    this.#levels = root.levels
    this.#dirty = Array.from({ length: root.levels }, () => new Map())
  }

  /** Where the tree is; its checksum is right only when nothing is dirty. */
  get root(): TreeRoot {
    return this.#root
  }

  get dirtyCount(): number {
    return this.#dirtyCount
  }

  leaf(position: number, wait: boolean): LeafAnswer {
    const found = this.#dirty[0]?.get(position)
    if (found !== undefined) return found.words
    if (this.#root.physicalBlock === 0) return null
    for (let level = 1; level < this.#levels; level++) {
      const dirty = this.#dirtyAt(level).get(position >>> (8 * level))
      if (dirty !== undefined) return descend(this.#store.cache, dirty.words, level, position, wait)
    }
    this.#store.flush()
    const { physicalBlock, checksum } = this.#root
    const { cache } = this.#store
    const words = wait ? cache.node(physicalBlock, checksum) : cache.tryNode(physicalBlock, checksum)
    return words === undefined ? undefined : descend(cache, words, this.#levels - 1, position, wait)
  }

  /** The leaf for blocks [position * 256, +256), for changing entries in place now. */
  writableLeaf(position: number): NodeWords {
    return this.#writable(0, position)
  }

  /**
   * Turns every entry in [first, last] that refers to something into a HOLE of birth `holeBirth`,
   * or into nothing if that is 0.
   */
  clear(first: number, last: number, holeBirth: number): void {
    if (this.#root.physicalBlock !== 0) this.#clearIn(this.#levels - 1, 0, first, last, holeBirth)
  }

  /** Drops the whole tree: every block and node it refers to. */
  destroy(): void {
    const { physicalBlock, birthEpoch, levels } = this.#root
    if (physicalBlock === 0) return
    this.#dropSubtree(levels - 1, 0, physicalBlock, birthEpoch)
    this.#root = { physicalBlock: 0, birthEpoch: 0, checksum: 0, levels }
  }

  /** Puts the same tree below further levels; nothing of it is read or moved. */
  raise(levels: number): void {
    while (this.#levels < levels) {
      const { physicalBlock, birthEpoch, checksum } = this.#root
      this.#levels++
      this.#dirty.push(new Map())
      if (physicalBlock === 0) {
        this.#root = { ...this.#root, levels: this.#levels }
        continue
      }
      const top = this.#emptyNode(0)
      // Where the old root is dirty its checksum comes when it is written.
      setEntry(top.words, 0, ENTRY_NODE, physicalBlock, birthEpoch, checksum)
      this.#dirtyAt(this.#levels - 1).set(0, top)
      this.#dirtyCount++
      this.#root = {
        physicalBlock: top.physicalBlock,
        birthEpoch: this.#owner.epoch,
        checksum: 0,
        levels: this.#levels,
      }
    }
  }

  /** Writes every dirty node, parents after children; the root is then right. */
  writeDirty(): void {
    if (this.#dirtyCount === 0) return
    for (let level = 0; level < this.#levels; level++) this.#writeLevel(level)
    this.#dirtyCount = 0
  }

  #writeLevel(level: number): void {
    const dirty = this.#dirtyAt(level)
    if (dirty.size === 0) return
    const isTop = level === this.#levels - 1
    for (const [position, node] of inPlaceOrder(dirty)) {
      const bytes = nodeBytes(node.words)
      const checksum = blockChecksum(bytes)
      this.#store.write(node.physicalBlock, bytes, 0)
      this.#store.cache.put(node.physicalBlock, checksum, node.words)
      if (isTop) {
        this.#root = { ...this.#root, checksum }
      } else {
        const parent = this.#dirtyAt(level + 1).get(position >>> 8) as DirtyNode
        setEntryChecksum(parent.words, position & 255, checksum)
      }
    }
    dirty.clear()
  }

  #dirtyAt(level: number): Map<number, DirtyNode> {
    return this.#dirty[level] as Map<number, DirtyNode>
  }

  #writable(level: number, position: number): NodeWords {
    const dirty = this.#dirtyAt(level)
    const found = dirty.get(position)
    if (found !== undefined) return found.words
    const node = level === this.#levels - 1 ? this.#makeRoot() : this.#makeChild(level, position)
    dirty.set(position, node)
    this.#dirtyCount++
    return node.words
  }

  #makeRoot(): DirtyNode {
    const { physicalBlock, birthEpoch, checksum, levels } = this.#root
    const node = physicalBlock === 0 ? this.#emptyNode(0) : this.#copyOf(physicalBlock, birthEpoch, checksum)
    this.#root = {
      physicalBlock: node.physicalBlock,
      birthEpoch: this.#owner.epoch,
      checksum: 0,
      levels,
    }
    return node
  }

  #makeChild(level: number, position: number): DirtyNode {
    const parent = this.#writable(level + 1, position >>> 8)
    const index = position & 255
    const kind = entryKind(parent, index)
    const birth = entryBirth(parent, index)
    let node: DirtyNode
    if (kind === ENTRY_NODE) {
      node = this.#copyOf(entryPhysicalBlock(parent, index), birth, entryChecksum(parent, index))
    } else if (kind === ENTRY_EMPTY || kind === ENTRY_HOLE) {
      node = this.#emptyNode(birth)
    } else {
      throw badEntry(kind, level + 1)
    }
    setEntry(parent, index, ENTRY_NODE, node.physicalBlock, this.#owner.epoch, 0)
    return node
  }

  /** A new node whose entries are empty, or holes of this birth if it is not 0. */
  #emptyNode(birth: number): DirtyNode {
    const words = new Uint32Array(WORDS_PER_NODE)
    if (birth !== 0) for (let i = 0; i < ENTRIES_PER_NODE; i++) setEntry(words, i, ENTRY_HOLE, 0, birth, 0)
    this.#owner.addedNode()
    return { physicalBlock: this.#store.allocate(), words }
  }

  /** The node itself where it may be rewritten, else a copy at a new place. */
  #copyOf(physicalBlock: number, birth: number, checksum: number): DirtyNode {
    this.#store.flush()
    const words = this.#store.cache.node(physicalBlock, checksum)
    if (this.#store.isFresh(physicalBlock)) {
      this.#store.cache.remove(physicalBlock)
      return { physicalBlock, words }
    }
    const copy = { physicalBlock: this.#store.allocate(), words: words.slice() }
    // Born in this epoch it is in no snapshot: nobody will ask for it again, and it need not grow old.
    if (birth === this.#owner.epoch) this.#store.cache.remove(physicalBlock)
    this.#owner.dropped(physicalBlock, birth, ENTRY_NODE)
    this.#owner.addedNode()
    return copy
  }

  /** A node as it is now, without making it writable. */
  #view(level: number, position: number, physicalBlock: number, checksum: number): NodeWords {
    const dirty = this.#dirtyAt(level).get(position)
    if (dirty !== undefined) return dirty.words
    this.#store.flush()
    return this.#store.cache.node(physicalBlock, checksum)
  }

  #viewFromTop(level: number, position: number): NodeWords {
    const dirty = this.#dirtyAt(level).get(position)
    if (dirty !== undefined) return dirty.words
    if (level === this.#levels - 1) {
      return this.#view(level, position, this.#root.physicalBlock, this.#root.checksum)
    }
    const parent = this.#viewFromTop(level + 1, position >>> 8)
    const index = position & 255
    return this.#view(level, position, entryPhysicalBlock(parent, index), entryChecksum(parent, index))
  }

  #clearIn(level: number, position: number, first: number, last: number, holeBirth: number): void {
    const span = blocksPerEntry(level)
    const base = position * span * ENTRIES_PER_NODE
    const from = Math.max(0, Math.floor((first - base) / span))
    const to = Math.min(ENTRIES_PER_NODE - 1, Math.floor((last - base) / span))
    let words = this.#viewFromTop(level, position)
    for (let i = from; i <= to; i++) {
      const kind = entryKind(words, i)
      if (kind === ENTRY_EMPTY || kind === ENTRY_HOLE) continue
      if (kind !== (level === 0 ? ENTRY_DATA : ENTRY_NODE)) throw badEntry(kind, level)
      const childFirst = base + i * span
      const isWhole = first <= childFirst && last >= childFirst + span - 1
      const child = position * ENTRIES_PER_NODE + i
      if (!isWhole) {
        this.#clearIn(level - 1, child, first, last, holeBirth)
        words = this.#collapse(level, position, i)
        continue
      }
      words = this.#writable(level, position)
      if (level === 0) {
        this.#owner.dropped(entryPhysicalBlock(words, i), entryBirth(words, i), entryFlags(words, i))
      } else {
        this.#dropSubtree(level - 1, child, entryPhysicalBlock(words, i), entryBirth(words, i), words, i)
      }
      setHole(words, i, holeBirth)
    }
  }

  /** Replaces a child that has become all one hole, or all empty, by one entry; the node as it is then. */
  #collapse(level: number, position: number, index: number): NodeWords {
    const child = this.#viewFromTop(level - 1, position * ENTRIES_PER_NODE + index)
    const uniform = uniformHole(child, this.#owner.forgettableBirth)
    if (uniform < 0) return this.#viewFromTop(level, position)
    const words = this.#writable(level, position)
    this.#dropNode(
      level - 1,
      position * ENTRIES_PER_NODE + index,
      entryPhysicalBlock(words, index),
      entryBirth(words, index),
    )
    setHole(words, index, uniform)
    return words
  }

  #dropSubtree(
    level: number,
    position: number,
    physicalBlock: number,
    birth: number,
    parent?: NodeWords,
    index = 0,
  ): void {
    const checksum = parent === undefined ? this.#root.checksum : entryChecksum(parent, index)
    const words = this.#view(level, position, physicalBlock, checksum)
    for (let i = 0; i < ENTRIES_PER_NODE; i++) {
      const kind = entryKind(words, i)
      if (kind === ENTRY_EMPTY || kind === ENTRY_HOLE) continue
      if (kind !== (level === 0 ? ENTRY_DATA : ENTRY_NODE)) throw badEntry(kind, level)
      const block = entryPhysicalBlock(words, i)
      if (level === 0) this.#owner.dropped(block, entryBirth(words, i), entryFlags(words, i))
      else
        this.#dropSubtree(level - 1, position * ENTRIES_PER_NODE + i, block, entryBirth(words, i), words, i)
    }
    this.#dropNode(level, position, physicalBlock, birth)
  }

  #dropNode(level: number, position: number, physicalBlock: number, birth: number): void {
    if (this.#dirtyAt(level).delete(position)) this.#dirtyCount--
    this.#owner.dropped(physicalBlock, birth, ENTRY_NODE)
  }
}

function setHole(words: NodeWords, index: number, birth: number): void {
  if (birth === 0) clearEntry(words, index)
  else setEntry(words, index, ENTRY_HOLE, 0, birth, 0)
}

/** The birth that all entries share as holes, 0 if all may be empty, -1 otherwise. */
function uniformHole(words: NodeWords, forgettableBirth: number): number {
  let isEmpty = true
  let isAlike = true
  for (let i = 0; i < ENTRIES_PER_NODE && (isEmpty || isAlike); i++) {
    const kind = entryKind(words, i)
    if (kind !== ENTRY_EMPTY && kind !== ENTRY_HOLE) return -1
    const birth = entryBirth(words, i)
    if (birth > forgettableBirth) isEmpty = false
    if (kind === ENTRY_EMPTY || birth !== entryBirth(words, 0)) isAlike = false
  }
  if (isEmpty) return 0
  return isAlike ? entryBirth(words, 0) : -1
}

/** Entries of a level by physical place, so that neighbours are written together. */
function inPlaceOrder(dirty: Map<number, DirtyNode>): [number, DirtyNode][] {
  return [...dirty].sort((a, b) => a[1].physicalBlock - b[1].physicalBlock)
}
