// What a restored PostgreSQL cluster needs before its server starts: links that lead to the restored
// places, no leavings of the old server, and, where it was asked for, how far to roll forward.
//
// Always true: recovery itself is the server's; nothing outside of the restored folders is touched; what was set
// for an earlier recovery is overruled, since of a setting the last line counts.

import {
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  openSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { HeldFolders } from '../../base/held-folders.ts'
import { hostCall } from '../../image/host-file.ts'
import { isAtOrBelow } from '../documents/file-spec.ts'
import { byteString, joinPath, textOf } from '../requester/file-tree.ts'
import type { ClusterLink } from './postgresql-files.ts'

const { O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants

/** How far to go: to the end of the log, or to a time or a position in it. */
export type RollForward = { readonly to: 'end' } | { readonly to: 'time' | 'lsn'; readonly point: string }

/**
 * Of restore options as VSS writes them: `"Roll Forward"="All"`, `"Roll Forward"="Partial:POINT"`.
 * @returns null: as it was at the backup
 * @throws UmbraError INVALID_ARGUMENT when the point is neither a time nor a position
 */
export function rollForwardIn(restoreOptions: string | undefined): RollForward | null {
  const wish = /"?Roll Forward"?="?(All|Partial:[^"]+)"?/i.exec(restoreOptions ?? '')?.[1]
  if (wish === undefined) return null
  const point = /^Partial:(.+)$/is.exec(wish)?.[1]?.trim()
  if (point === undefined) return { to: 'end' }
  if (/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(point)) return { to: 'lsn', point }
  if (/^\d{4}-\d\d-\d\d[ T][\d:.]+ ?(?:Z|[A-Za-z/_]+|[+-][\d:]+)?$/.test(point)) {
    // While it reads its settings the server knows no time zones by name, not even Z.
    return { to: 'time', point: point.replace('T', ' ').replace(/ ?Z$/, '+00') }
  }
  throw new UmbraError('INVALID_ARGUMENT', `Neither a time nor a position in the log: ${point}`)
}

/** Removes what belonged to the server that was backed up. */
export function removeLeavings(dataFolder: string): void {
  using held = heldIn(dataFolder)
  const data = byteString(dataFolder)
  held.removeTree(joinPath(data, 'postmaster.pid'))
  const slots = joinPath(data, 'pg_replslot')
  // A slot's folder without its state stops the server.
  for (const name of held.names(slots)) held.removeTree(joinPath(slots, name))
}

/**
 * Links to tablespaces and to the log are led to where those were restored.
 * @param known the links of the cluster that was backed up; without them each is taken to lead straight to its folder
 */
export function relink(
  dataFolder: string,
  known: readonly ClusterLink[],
  restoredTo: (folder: string) => string,
): void {
  using held = heldIn(dataFolder)
  const data = byteString(dataFolder)
  const spaces = held.names(joinPath(data, 'pg_tblspc')).map((name) => `pg_tblspc/${name}`)
  for (const name of [...spaces, 'pg_wal']) {
    const path = joinPath(data, name)
    if (!held.withNode(path, ({ stat }) => stat.isSymbolicLink())) continue
    const target = readlinkSync(held.at(path), 'utf8')
    const folder = known.find((link) => link.name === name && link.target === target)?.folder ?? target
    const moved = restoredTo(folder)
    if (moved === folder) continue
    unlinkSync(held.at(path))
    symlinkSync(moved, held.at(path))
  }
}

/** Tells the server's next start to go on with archived log. */
export function rollForward(dataFolder: string, archiveFolder: string, wish: RollForward): void {
  const lines = [
    `restore_command = '${quoted(`cp "${archiveFolder.replaceAll('%', '%%')}/%f" "%p"`)}'`,
    "recovery_target = ''",
    "recovery_target_name = ''",
    "recovery_target_xid = ''",
    "recovery_target_time = ''",
    "recovery_target_lsn = ''",
    "recovery_target_timeline = 'latest'",
    "recovery_target_action = 'promote'",
  ]
  // Last: once one target is set, the server refuses to be given another, even an empty one.
  if (wish.to !== 'end') lines.push(`recovery_target_${wish.to} = '${quoted(wish.point)}'`)
  using held = heldIn(dataFolder)
  const data = byteString(dataFolder)
  writeAs(held, joinPath(data, 'postgresql.auto.conf'), O_APPEND, `${lines.join('\n')}\n`)
  const signal = joinPath(data, 'recovery.signal')
  held.removeTree(signal)
  writeAs(held, signal, O_EXCL, '')
}

/** The server's folder is its user's, who could put anything there while root works in it. */
function heldIn(dataFolder: string): HeldFolders {
  const root = byteString(dataFolder)
  return new HeldFolders((path) => isAtOrBelow(root, path))
}

/** Writes a file that belongs to whom its folder belongs. @throws UmbraError INVALID_ARGUMENT: something else is there */
function writeAs(held: HeldFolders, path: string, how: number, text: string): void {
  const name = textOf(path).text
  hostCall(`Cannot write ${name}`, () => {
    const { uid, gid } = held.folder(dirname(path)).stat
    const fd = openSync(held.at(path), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | how, 0o600)
    try {
      const stat = fstatSync(fd)
      if (!stat.isFile() || stat.nlink !== 1)
        throw new UmbraError('INVALID_ARGUMENT', `${name} is no file of its own`, { path: name })
      writeSync(fd, text)
      fchownSync(fd, Number(uid), Number(gid))
    } finally {
      closeSync(fd)
    }
  })
}

function quoted(text: string): string {
  return text.replaceAll("'", "''")
}
