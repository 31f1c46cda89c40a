// What is at a path of the host, and its attributes, for a restore that replaces it or puts it back.
//
// Always true: paths are byte strings; what is seen by path only decides what is tried, as it may be another
// node by the time of the change; attributes are set of a node that is held, in the order that keeps them
// all: owner, mode, extended attributes, time.

import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  lstatSync,
  openSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { readXattrs, replaceXattrs, setModifyTime } from '../../../base/file-attributes.ts'
import type { HeldNode } from '../../../base/held-folders.ts'
import { hostCall } from '../../../image/host-file.ts'
import { bytesOf, textOf } from '../file-tree.ts'

export interface NodeAttributes {
  /** With the type's bits. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Nanoseconds since 1970, decimal. */
  readonly mtimeNs: string
  readonly xattrs?: Readonly<Record<string, string>> | undefined
}

export type DiskKind = 'file' | 'directory' | 'other'

export interface DiskNode extends NodeAttributes {
  readonly kind: DiskKind
  readonly isLink: boolean
  readonly sizeBytes: number
  readonly linkCount: number
  readonly device: number
  readonly ino: number
}

/** Undefined: nothing is there. @throws UmbraError EACCES, IO_FAILED */
export function diskNode(path: string, follow = false): DiskNode | undefined {
  const look = follow ? statSync : lstatSync
  const stat = hostCall(`Cannot look at ${textOf(path).text}`, () => {
    try {
      return look(bytesOf(path), { bigint: true })
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
      throw error
    }
  })
  if (!stat) return undefined
  return {
    kind: stat.isFile() ? 'file' : stat.isDirectory() ? 'directory' : 'other',
    isLink: stat.isSymbolicLink(),
    mode: Number(stat.mode),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    mtimeNs: String(stat.mtimeNs),
    sizeBytes: Number(stat.size),
    linkCount: Number(stat.nlink),
    device: Number(stat.dev),
    ino: Number(stat.ino),
  }
}

/** With its extended attributes, to put back later. */
export function attributesOf({ handle, stat }: HeldNode): NodeAttributes {
  const { mode, uid, gid, mtimeNs } = stat
  return {
    mode: Number(mode),
    uid: Number(uid),
    gid: Number(gid),
    mtimeNs: String(mtimeNs),
    xattrs: readXattrs(handle),
  }
}

/** @throws UmbraError EPERM where this user may not give a file that owner, EOPNOTSUPP, EROFS */
export function setAttributes({ handle, stat }: HeldNode, path: string, wanted: NodeAttributes): void {
  const name = textOf(path).text
  if (Number(stat.uid) !== wanted.uid || Number(stat.gid) !== wanted.gid)
    hostCall(`Cannot give ${name} its owner ${wanted.uid}:${wanted.gid}`, () =>
      chownSync(handle, wanted.uid, wanted.gid),
    )
  if (!stat.isSymbolicLink())
    hostCall(`Cannot set the mode of ${name}`, () => chmodSync(handle, wanted.mode & 0o7777))
  replaceXattrs(handle, wanted.xattrs)
  setModifyTime(handle, BigInt(wanted.mtimeNs))
}

/**
 * The nearest folder above that exists, links followed.
 * @param isReplaced what is there becomes a folder, if it is none
 */
export function existingFolder(path: string, isReplaced: (folder: string) => boolean = () => false): string {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    const node = diskNode(folder, true)
    if (folder === '/' || node?.kind === 'directory' || (node && !isReplaced(folder))) return folder
  }
}

/** Null: it can be overwritten, or created; else why not. */
export function whyNotWritable(path: string, isReplaced: (folder: string) => boolean): string | null {
  const name = textOf(path).text
  const node = diskNode(path)
  try {
    if (node?.kind === 'file') {
      // Also refused for a program that runs.
      closeSync(openSync(bytesOf(path), constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW))
    }
    const folder = existingFolder(path, isReplaced)
    if (diskNode(folder, true)?.kind !== 'directory') return `${textOf(folder).text} is no folder`
    accessSync(bytesOf(folder), constants.W_OK | constants.X_OK)
    return null
  } catch (error) {
    return `${name}: ${(error as Error).message}`
  }
}
