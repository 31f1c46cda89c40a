// The files of a shadow copy, read by our own ext4 over the snapshot's blocks: with every attribute that
// the file system keeps, whatever it is mounted as, or not at all.
//
// Always true: `.snapshots` does not exist here; unwritten extents read as holes.

import { UmbraError } from '../../base/errors.ts'
import type { FileSystem } from '../../ext4/file-system.ts'
import {
  type Inode,
  ROOT_INO,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
  S_IFSOCK,
  type Time,
} from '../../ext4/inode.ts'
import type { ByteRange } from '../documents/byte-ranges.ts'
import type { FileNode, FileReader, FileTree, NodeKind } from './file-tree.ts'

const SEEK_DATA = 3
const SEEK_HOLE = 4

const KINDS: Readonly<Record<number, NodeKind>> = {
  [S_IFREG]: 'file',
  [S_IFDIR]: 'directory',
  [S_IFLNK]: 'symlink',
  [S_IFIFO]: 'fifo',
  [S_IFSOCK]: 'socket',
  [S_IFBLK]: 'device',
  [S_IFCHR]: 'device',
}

export class SnapshotTree implements FileTree {
  readonly name: string
  readonly #fileSystem: FileSystem

  constructor(name: string, fileSystem: FileSystem) {
    this.name = name
    this.#fileSystem = fileSystem
  }

  find(path: string): FileNode | undefined {
    const inode = this.#inode(path)
    const kind = inode && KINDS[inode.type]
    if (!inode || !kind) return undefined
    return {
      kind,
      mode: inode.mode,
      uid: inode.uid,
      gid: inode.gid,
      mtimeNs: nanoseconds(inode.mtime),
      changedAtMs: Math.max(milliseconds(inode.mtime), milliseconds(inode.ctime)),
      sizeBytes: inode.sizeBytes,
      linkCount: inode.linkCount,
      ino: inode.ino,
      generation: inode.generation,
      rdev: kind === 'device' ? this.#fileSystem.deviceNumber(inode) : 0,
    }
  }

  list(path: string): string[] {
    const names: string[] = []
    this.#fileSystem.readDirectory(this.#need(path), 0, ({ name }) => {
      if (name !== '.' && name !== '..') names.push(name)
      return true
    })
    return names.sort()
  }

  linkTarget(path: string): Uint8Array {
    return this.#fileSystem.readSymlink(this.#need(path))
  }

  xattrs(path: string): Record<string, string> | undefined {
    const inode = this.#need(path)
    const names = this.#fileSystem.listXattrs(inode)
    if (names.length === 0) return undefined
    const values: Record<string, string> = {}
    for (const name of names.sort()) {
      const value = this.#fileSystem.getXattr(inode, name)
      if (value) values[name] = Buffer.from(value).toString('base64')
    }
    return values
  }

  open(path: string): FileReader {
    const inode = this.#need(path)
    const fileSystem = this.#fileSystem
    return {
      dataRuns: () => dataRuns(fileSystem, inode),
      read: async (offsetBytes, lengthBytes, target, targetOffset) =>
        fileSystem.read(inode, offsetBytes, lengthBytes, target, targetOffset),
      close: () => {},
    }
  }

  #inode(path: string): Inode | undefined {
    let inode = this.#fileSystem.inode(ROOT_INO)
    for (const name of path.split('/')) {
      if (name === '') continue
      if (!inode.isDirectory) return undefined
      const next = this.#fileSystem.lookup(inode, name)
      if (!next) return undefined
      inode = next
    }
    return inode
  }

  #need(path: string): Inode {
    const inode = this.#inode(path)
    if (inode) return inode
    throw new UmbraError('ENOENT', `${path} is not in ${this.name}`, { path })
  }
}

function* dataRuns(fileSystem: FileSystem, inode: Inode): Generator<ByteRange> {
  let at = 0
  while (at < inode.sizeBytes) {
    let from: number
    try {
      from = fileSystem.seek(inode, at, SEEK_DATA)
    } catch (error) {
      if (error instanceof UmbraError && error.code === 'ENXIO') return
      throw error
    }
    const end = Math.min(inode.sizeBytes, fileSystem.seek(inode, from, SEEK_HOLE))
    yield { offsetBytes: from, lengthBytes: end - from }
    at = end
  }
}

function nanoseconds({ sec, nsec }: Time): string {
  return String(BigInt(sec) * 1_000_000_000n + BigInt(nsec))
}

function milliseconds({ sec, nsec }: Time): number {
  return sec * 1000 + nsec / 1e6
}
