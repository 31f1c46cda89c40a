// From paths, which is all that libfuse 2 hands on, to node ids: a walk from the root, with a bounded
// cache of folders.
//
// Always true: each node id in the cache and each one that resolve() gives holds one lookup (the root
// holds none); what a rename or a removal makes wrong is dropped from the cache before it is done, and
// a folder that went without this driver's doing (a deleted snapshot) shows as ESTALE, upon which the
// caller clears the cache and asks again.

import { posixError } from '../../base/errors.ts'
import { S_IFDIR, S_IFMT } from '../../ext4/inode.ts'
import { Attributes } from '../attributes.ts'
import type { InodeOperations } from '../operations.ts'
import { ROOT_NODE_ID } from '../protocol.ts'
import { splitPath, toName } from './byte-names.ts'
import { HiddenFiles } from './hidden-files.ts'

/** PATH_MAX allows 2048 components: two whole paths of one request fit. */
const FOLDERS_MAX = 4096

export interface ResolvedEntry {
  /** The folder, held by the cache at least until the next request. */
  readonly parent: number
  /** As bytes, one char a byte. */
  readonly name: string
}

export class PathResolver {
  readonly hidden = new HiddenFiles()
  readonly #operations: InodeOperations
  readonly #found = new Attributes()
  /** By path, least recently used first. */
  readonly #folders = new Map<string, number>()
  readonly #foldersMax: number

  constructor(operations: InodeOperations, foldersMax: number = FOLDERS_MAX) {
    this.#operations = operations
    this.#foldersMax = foldersMax
  }

  /** The node at `path`, with one lookup for the caller to forget(). @throws ENOENT, ENOTDIR, ESTALE */
  resolve(path: string): number {
    if (path === '/') return ROOT_NODE_ID
    const { folder, name } = splitPath(path)
    if (HiddenFiles.isHiddenName(name)) return this.#resolveHidden(name)
    return this.#lookup(this.#folder(folder), toName(name))
  }

  /** Where the last component of `path` is or would be. @throws ENOENT, ENOTDIR, EBUSY for "/" */
  entry(path: string): ResolvedEntry {
    if (path === '/') throw posixError('EBUSY')
    const { folder, name } = splitPath(path)
    return { parent: this.#folder(folder), name: toName(name) }
  }

  /** Gives back one lookup of resolve(). */
  forget(nodeId: number): void {
    if (nodeId !== ROOT_NODE_ID) this.#operations.forget(nodeId, 1)
  }

  /** Nothing at `path` or below is where the cache says, from now on. */
  drop(path: string): void {
    const below = `${path}/`
    for (const [known, nodeId] of this.#folders) {
      if (known === path || known.startsWith(below)) this.#dropOne(known, nodeId)
    }
  }

  clear(): void {
    for (const [known, nodeId] of this.#folders) this.#dropOne(known, nodeId)
  }

  #dropOne(path: string, nodeId: number): void {
    this.#folders.delete(path)
    this.forget(nodeId)
  }

  #resolveHidden(name: string): number {
    const nodeId = this.hidden.find(name)
    if (nodeId === undefined) throw posixError('ENOENT')
    return this.#lookup(nodeId, '.')
  }

  #lookup(parent: number, name: string): number {
    const found = this.#found
    this.#operations.lookup(parent, name, found)
    if (found.nodeId === 0) throw posixError('ENOENT')
    return found.nodeId
  }

  #folder(path: string): number {
    if (path === '/') return ROOT_NODE_ID
    const known = this.#folders.get(path)
    if (known !== undefined) {
      this.#folders.delete(path)
      this.#folders.set(path, known)
      return known
    }
    const { folder, name } = splitPath(path)
    const nodeId = this.#lookup(this.#folder(folder), toName(name))
    if ((this.#found.mode & S_IFMT) !== S_IFDIR) {
      this.forget(nodeId)
      throw posixError('ENOTDIR')
    }
    this.#folders.set(path, nodeId)
    this.#evict()
    return nodeId
  }

  #evict(): void {
    for (const [path, nodeId] of this.#folders) {
      if (this.#folders.size <= this.#foldersMax) return
      this.#dropOne(path, nodeId)
    }
  }
}
