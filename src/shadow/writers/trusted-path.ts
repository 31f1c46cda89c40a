// Whether what lies at a path may be run or believed: nobody else can have put it there.
//
// Always true of a path that passes: it and every folder on the way to it belong to root or to this user
// and cannot be written by others, but for sticky folders such as /tmp, where only an entry's owner moves it.

import { lstatSync, realpathSync, type Stats } from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../../base/errors.ts'

const WRITABLE_BY_OTHERS = 0o022
const STICKY = 0o1000

/**
 * @returns the path with every symbolic link resolved: what is to be used from here on
 * @throws UmbraError NOT_FOUND, NOT_PERMITTED
 */
export function trustedPath(path: string): string {
  let real: string
  try {
    real = realpathSync(path)
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `No such file or folder: ${path}`, { path }, error)
  }
  check(real, lstatSync(real), path)
  for (let folder = dirname(real); ; folder = dirname(folder)) {
    const stat = lstatSync(folder)
    if ((stat.mode & STICKY) === 0 || !isOwnerTrusted(stat)) check(folder, stat, path)
    if (folder === '/') return real
  }
}

function check(real: string, stat: Stats, path: string): void {
  const why = !isOwnerTrusted(stat)
    ? 'belongs to somebody else'
    : (stat.mode & WRITABLE_BY_OTHERS) !== 0
      ? 'can be written by others'
      : undefined
  if (why === undefined) return
  const via = real === path ? '' : ` (for ${path})`
  throw new UmbraError('NOT_PERMITTED', `${real}${via} ${why}, so nothing in it is run`, { path })
}

function isOwnerTrusted({ uid }: Stats): boolean {
  return uid === 0 || uid === process.getuid?.()
}
