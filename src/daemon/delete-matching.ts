// Deletes the files that writers exclude from a shadow copy: those below a folder whose names match.
//
// Always true: only what has no folder in it goes (files, symbolic links, special files), never a
// folder; no symbolic link is followed; a path that is not on this volume, or is not there, matches
// nothing; a file that cannot be deleted is left, for this is done as far as it goes.

import { relative, sep } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { posixError } from '../base/errors.ts'
import type { FileSystem } from '../ext4/file-system.ts'
import { type Inode, ROOT_INO, S_IFDIR } from '../ext4/inode.ts'
import type { FileSpec } from '../shadow/documents/writer-metadata.ts'

const DIRECTORY_TYPE = S_IFDIR >> 12
/** Other requests are served after so many files and folders. */
const IN_ONE_TURN = 256

/**
 * @param mountPoint what the files' paths begin with; null: they are paths inside the volume
 * @returns how many were deleted
 */
export async function deleteMatching(
  fileSystem: FileSystem,
  files: readonly FileSpec[],
  mountPoint: string | null,
): Promise<number> {
  let deleted = 0
  let seen = 0
  for (const { path, filespec, recursive } of files) {
    const top = folderAt(fileSystem, path, mountPoint)
    const pattern = patternOf(filespec)
    const folders = top ? [top] : []
    for (let folder = folders.pop(); folder; folder = folders.pop()) {
      const { names, below } = lookInto(fileSystem, folder, pattern)
      if (recursive) folders.push(...below)
      for (const name of ['', ...names]) {
        if (name !== '' && unlinked(fileSystem, folder, name)) deleted++
        if (++seen % IN_ONE_TURN === 0) await nextTurn()
      }
    }
  }
  return deleted
}

/** The names in it that match, and the folders below it. */
function lookInto(
  fileSystem: FileSystem,
  folder: Inode,
  pattern: RegExp,
): { names: string[]; below: Inode[] } {
  const names: string[] = []
  const inodes: number[] = []
  fileSystem.readDirectory(folder, 0, ({ name, ino, type }) => {
    if (name === '.' || name === '..') return true
    if (type === DIRECTORY_TYPE) inodes.push(ino)
    else if (pattern.test(textOf(name))) names.push(name)
    return true
  })
  return { names, below: inodes.map((ino) => fileSystem.inode(ino)) }
}

function unlinked(fileSystem: FileSystem, folder: Inode, name: string): boolean {
  try {
    fileSystem.unlink(folder, name)
    return true
  } catch {
    return false
  }
}

function folderAt(fileSystem: FileSystem, path: string, mountPoint: string | null): Inode | undefined {
  const inside = relative(mountPoint ?? '/', path)
  if (inside === '..' || inside.startsWith(`..${sep}`)) return undefined
  let folder = fileSystem.inode(ROOT_INO)
  for (const part of inside.split(sep)) {
    if (part === '') continue
    const child = fileSystem.lookup(folder, Buffer.from(part, 'utf8').toString('latin1'))
    if (child?.isDirectory !== true) return undefined
    folder = child
  }
  return folder
}

/** `*` is any number of characters, `?` is one. @throws EINVAL for one with a slash */
export function patternOf(filespec: string): RegExp {
  if (filespec.includes('/')) throw posixError('EINVAL', `A filespec names no folders: ${filespec}`)
  const source = filespec
    .replace(/[\\^$.+()|[\]{}]/g, '\\$&')
    .replace(/\*+/g, '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`, 'su')
}

/** A name is bytes, one char a byte; patterns are text. */
function textOf(name: string): string {
  return Buffer.from(name, 'latin1').toString('utf8')
}
