// Nodes of trees as they are in the volume file, in memory up to a limit.
//
// Always true: what is handed out has been verified against its parent's checksum. An entry is good
// only for the checksum it was verified with, so a block that was freed and holds another node now
// is never mistaken for the old one. Least recently used entries go first (second chance).

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import type { BlockStorage } from '../storage/block-storage.ts'
import { blockChecksum, type NodeReader, type NodeWords, nodeBytes, WORDS_PER_NODE } from './map-node.ts'

interface Entry {
  readonly words: NodeWords
  readonly checksum: number
  used: boolean
}

export class NodeCache implements NodeReader {
  readonly #storage: BlockStorage
  readonly #nodesMax: number
  readonly #entries = new Map<number, Entry>()

  constructor(storage: BlockStorage, limitBytes: number) {
    this.#storage = storage
    this.#nodesMax = Math.max(16, Math.floor(limitBytes / BLOCK_SIZE_BYTES))
  }

  get nodesMax(): number {
    return this.#nodesMax
  }

  /** Nodes held now. */
  get size(): number {
    return this.#entries.size
  }

  node(physicalBlock: number, checksum: number): NodeWords {
    return this.#cached(physicalBlock, checksum) ?? (this.#load(physicalBlock, checksum, true) as NodeWords)
  }

  /** Like node(), but undefined where the storage would have to be waited for. */
  tryNode(physicalBlock: number, checksum: number): NodeWords | undefined {
    return this.#cached(physicalBlock, checksum) ?? this.#load(physicalBlock, checksum, false)
  }

  /** Puts a node that has just been written; its words must not change any more. */
  put(physicalBlock: number, checksum: number, words: NodeWords): void {
    this.#entries.set(physicalBlock, { words, checksum, used: true })
    if (this.#entries.size > this.#nodesMax) this.#evict()
  }

  /** Takes a node out, for its owner to change in place. */
  remove(physicalBlock: number): void {
    this.#entries.delete(physicalBlock)
  }

  #cached(physicalBlock: number, checksum: number): NodeWords | undefined {
    const entry = this.#entries.get(physicalBlock)
    if (entry === undefined || entry.checksum !== checksum) return undefined
    entry.used = true
    return entry.words
  }

  #load(physicalBlock: number, checksum: number, wait: boolean): NodeWords | undefined {
    const words = new Uint32Array(WORDS_PER_NODE)
    const bytes = nodeBytes(words)
    const offsetBytes = physicalBlock * BLOCK_SIZE_BYTES
    if (wait) this.#storage.readSync(offsetBytes, BLOCK_SIZE_BYTES, bytes, 0)
    else if (!this.#storage.tryRead(offsetBytes, BLOCK_SIZE_BYTES, bytes, 0)) return undefined
    const found = blockChecksum(bytes)
    if (found !== checksum) throw mismatch(physicalBlock, checksum, found)
    this.put(physicalBlock, checksum, words)
    return words
  }

  #evict(): void {
    for (const [block, entry] of this.#entries) {
      this.#entries.delete(block)
      if (!entry.used) return
      entry.used = false
      this.#entries.set(block, entry)
    }
  }
}

/** The error for a block whose contents are not what its parent says. */
export function mismatch(physicalBlock: number, stored: number, found: number): UmbraError {
  return new UmbraError(
    'CHECKSUM_MISMATCH',
    `Block ${physicalBlock} of the volume file is damaged: its checksum is 0x${found.toString(16)} but 0x${stored.toString(16)} was recorded`,
    { physicalBlock },
  )
}
