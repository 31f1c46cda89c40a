// What a restored PostgreSQL cluster needs before its server starts: links that lead to the restored
// places, no leavings of the old server, and, where it was asked for, how far to roll forward.
//
// Always true: recovery itself is the server's; nothing outside of the restored folders is touched; what was set
// for an earlier recovery is overruled, since of a setting the last line counts.

import {
  appendFileSync,
  chownSync,
  lstatSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'

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
  rmSync(join(dataFolder, 'postmaster.pid'), { force: true })
  const slots = join(dataFolder, 'pg_replslot')
  // A slot's folder without its state stops the server.
  for (const name of namesIn(slots)) rmSync(join(slots, name), { recursive: true, force: true })
}

/** Links to tablespaces and to the log are led to where those were restored. */
export function relink(dataFolder: string, restoredTo: (folder: string) => string): void {
  const spaces = join(dataFolder, 'pg_tblspc')
  for (const link of [...namesIn(spaces).map((name) => join(spaces, name)), join(dataFolder, 'pg_wal')]) {
    const stats = lstatSync(link, { throwIfNoEntry: false })
    if (!stats?.isSymbolicLink()) continue
    const target = readlinkSync(link)
    const moved = restoredTo(target)
    if (moved === target) continue
    rmSync(link)
    symlinkSync(moved, link)
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
  appendFileSync(join(dataFolder, 'postgresql.auto.conf'), `${lines.join('\n')}\n`, { mode: 0o600 })
  const signal = join(dataFolder, 'recovery.signal')
  writeFileSync(signal, '', { mode: 0o600 })
  const { uid, gid } = statSync(dataFolder)
  for (const path of [signal, join(dataFolder, 'postgresql.auto.conf')]) chownSync(path, uid, gid)
}

function quoted(text: string): string {
  return text.replaceAll("'", "''")
}

function namesIn(folder: string): string[] {
  return lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(folder) : []
}
