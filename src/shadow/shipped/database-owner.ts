// As whom a database that belongs to somebody else is opened.
//
// A database's journal names files that its recovery deletes, and whoever may write to the database's folder
// may write a journal. So root does not open what a user owns as root.
//
// Always true: as root, the client runs as the owner of the database; a database of root's in a folder that others
// may write to is refused. Any other user opens what it may open.

import { lstatSync } from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../../base/errors.ts'

const WRITABLE_BY_OTHERS = 0o022

/**
 * @param path with its folders' links resolved
 * @returns undefined: this process's own user will do
 * @throws UmbraError NOT_FOUND when it is no regular file, NOT_PERMITTED
 */
export function databaseOwner(path: string): { uid: number; gid: number } | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat?.isFile()) throw new UmbraError('NOT_FOUND', `${path} is no file`, { path })
  if (process.getuid?.() !== 0) return undefined
  if (stat.uid !== 0) return { uid: stat.uid, gid: stat.gid }
  const folder = lstatSync(dirname(path))
  if (folder.uid === 0 && (folder.mode & WRITABLE_BY_OTHERS) === 0) return undefined
  throw new UmbraError(
    'NOT_PERMITTED',
    `${path} belongs to root, but others may write to its folder: give the database to its program's user`,
    { path },
  )
}
