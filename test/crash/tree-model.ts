// What a history of file operations promises: a tree in memory whose file blocks know every content that
// they have had where they are.
//
// Always true: a placement stands for one place in the volume; a write in the epoch that bore it adds a
// version to it, any other write makes a new one. A frozen tree never changes, but the placements it
// refers to gain versions: after a crash each sector of a frozen block holds the version that was frozen
// or a later one, and nothing else.

import { BLOCK_SIZE_BYTES } from '../../src/base/units.ts'

export const SECTOR_BYTES = 512

export interface Version {
  /** Length of the write log when it was written: it cannot show in a crash before that. */
  readonly logIndex: number
  readonly bytes: Uint8Array
}

export class Placement {
  readonly epoch: number
  readonly versions: Version[] = []

  constructor(epoch: number) {
    this.epoch = epoch
  }
}

export type NodeKind = 'file' | 'directory' | 'symlink'

export class ModelNode {
  readonly ino: number
  readonly kind: NodeKind
  readonly target: string
  sizeBytes = 0
  /** Names that lead here; of a directory 2 and its subdirectories. */
  linkCount: number
  readonly blocks = new Map<number, Placement>()
  readonly xattrs = new Map<string, string>()
  readonly children = new Map<string, ModelNode>()
  /** Number of the operation that last changed anything of it but the contents of blocks in place. */
  changeSequence = 0
  /** The same for size and mapping alone. */
  mappingSequence = 0

  constructor(ino: number, kind: NodeKind, target = '') {
    this.ino = ino
    this.kind = kind
    this.target = target
    this.linkCount = kind === 'directory' ? 2 : 1
  }
}

export interface FrozenBlock {
  readonly placement: Placement
  /** Index of the version that was current. */
  readonly version: number
}

export interface FrozenNode {
  readonly ino: number
  readonly kind: NodeKind
  readonly target: string
  readonly sizeBytes: number
  readonly linkCount: number
  readonly blocks: ReadonlyMap<number, FrozenBlock>
  readonly xattrs: ReadonlyMap<string, string>
  readonly children: Map<string, FrozenNode>
  /** Everything else that stat(2) shows. */
  readonly attributes: string
}

/** The tree as it is now; hard links lead to one frozen node. */
export function freeze(root: ModelNode, attributesOf: (ino: number) => string): FrozenNode {
  const done = new Map<ModelNode, FrozenNode>()
  const visit = (node: ModelNode): FrozenNode => {
    const known = done.get(node)
    if (known) return known
    const blocks = new Map<number, FrozenBlock>()
    for (const [block, placement] of node.blocks)
      blocks.set(block, { placement, version: placement.versions.length - 1 })
    const { ino, kind, target, sizeBytes, linkCount } = node
    const xattrs = new Map(node.xattrs)
    const children = new Map<string, FrozenNode>()
    const attributes = attributesOf(ino)
    const frozen = { ino, kind, target, sizeBytes, linkCount, blocks, xattrs, children, attributes }
    done.set(node, frozen)
    for (const [name, child] of node.children) children.set(name, visit(child))
    return frozen
  }
  return visit(root)
}

/** A tree to go on with after a rollback: every block may be in a place of `epoch`. */
export function thaw(root: FrozenNode, epoch: number, logIndex: number): ModelNode {
  const done = new Map<FrozenNode, ModelNode>()
  const visit = (frozen: FrozenNode): ModelNode => {
    const known = done.get(frozen)
    if (known) return known
    const node = new ModelNode(frozen.ino, frozen.kind, frozen.target)
    done.set(frozen, node)
    node.sizeBytes = frozen.sizeBytes
    node.linkCount = frozen.linkCount
    for (const [name, value] of frozen.xattrs) node.xattrs.set(name, value)
    for (const [block, { placement, version }] of frozen.blocks) {
      const again = new Placement(epoch)
      again.versions.push({ logIndex, bytes: (placement.versions[version] as Version).bytes })
      node.blocks.set(block, again)
    }
    for (const [name, child] of frozen.children) node.children.set(name, visit(child))
    return node
  }
  return visit(root)
}

/** Changes of a file's contents, as POSIX and fallocate(2) say them. */
export class FileChange {
  readonly #node: ModelNode
  readonly #epoch: number
  readonly #logIndex: number
  /** Whether the size or the place of any block changed. */
  isMapping = false

  constructor(node: ModelNode, epoch: number, logIndex: number) {
    this.#node = node
    this.#epoch = epoch
    this.#logIndex = logIndex
  }

  write(offsetBytes: number, bytes: Uint8Array): void {
    this.#eachPart(offsetBytes, offsetBytes + bytes.length, (block, from, to) => {
      const content = this.#content(block)
      const at = block * BLOCK_SIZE_BYTES - offsetBytes
      content.set(bytes.subarray(at + from, at + to), from)
      this.#place(block, content)
    })
    this.resize(Math.max(this.#node.sizeBytes, offsetBytes + bytes.length))
  }

  /** A write that failed: in place any of its sectors may have been written. */
  attempt(offsetBytes: number, bytes: Uint8Array): void {
    this.#eachPart(offsetBytes, offsetBytes + bytes.length, (block, from, to) => {
      const placement = this.#node.blocks.get(block)
      if (placement?.epoch !== this.#epoch) return
      const before = this.#content(block)
      const content = before.slice()
      const at = block * BLOCK_SIZE_BYTES - offsetBytes
      content.set(bytes.subarray(at + from, at + to), from)
      const logIndex = this.#logIndex
      placement.versions.push({ logIndex, bytes: content }, { logIndex, bytes: before })
    })
  }

  truncate(sizeBytes: number): void {
    const { blocks } = this.#node
    if (sizeBytes < this.#node.sizeBytes) {
      for (const block of [...blocks.keys()]) {
        if (block * BLOCK_SIZE_BYTES >= sizeBytes) this.#drop(block)
      }
      const end = Math.ceil(sizeBytes / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES
      this.#zero(sizeBytes, end)
    }
    this.resize(sizeBytes)
  }

  punch(offsetBytes: number, lengthBytes: number): void {
    this.#zero(offsetBytes, offsetBytes + lengthBytes)
  }

  resize(sizeBytes: number): void {
    if (sizeBytes === this.#node.sizeBytes) return
    this.isMapping = true
    this.#node.sizeBytes = sizeBytes
  }

  #zero(beginBytes: number, endBytes: number): void {
    this.#eachPart(beginBytes, endBytes, (block, from, to) => {
      if (from === 0 && to === BLOCK_SIZE_BYTES) {
        this.#drop(block)
        return
      }
      const content = this.#content(block)
      if (!this.#node.blocks.has(block) || content.subarray(from, to).every((byte) => byte === 0)) return
      this.#place(block, content.fill(0, from, to))
    })
  }

  #eachPart(beginBytes: number, endBytes: number, visit: (block: number, from: number, to: number) => void) {
    for (let at = beginBytes; at < endBytes; ) {
      const block = Math.floor(at / BLOCK_SIZE_BYTES)
      const base = block * BLOCK_SIZE_BYTES
      const end = Math.min(endBytes, base + BLOCK_SIZE_BYTES)
      visit(block, at - base, end - base)
      at = end
    }
  }

  #content(block: number): Uint8Array {
    return this.#node.blocks.get(block)?.versions.at(-1)?.bytes.slice() ?? new Uint8Array(BLOCK_SIZE_BYTES)
  }

  #place(block: number, bytes: Uint8Array): void {
    const { blocks } = this.#node
    let placement = blocks.get(block)
    if (!placement || placement.epoch !== this.#epoch) {
      placement = new Placement(this.#epoch)
      blocks.set(block, placement)
      this.isMapping = true
    }
    placement.versions.push({ logIndex: this.#logIndex, bytes })
  }

  #drop(block: number): void {
    if (this.#node.blocks.delete(block)) this.isMapping = true
  }
}
