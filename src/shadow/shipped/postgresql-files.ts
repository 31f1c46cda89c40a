// Where a PostgreSQL cluster keeps its files: the data directory, and what links in it lead to.
//
// Always true: read from the disk alone, so that it is the same whether the server runs or not; what a
// base backup leaves out is left out here (PostgreSQL manual 26.3.4, "Backing Up the Data Directory").

import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import type { FileSpec } from '../documents/writer-metadata.ts'

export interface PostgresqlFiles {
  readonly dataFolder: string
  /** Of pg_wal, where it is a link out of the data directory. */
  readonly walFolder: string | null
  /** Tablespaces outside of the data directory, sorted. */
  readonly tablespaces: readonly string[]
  readonly majorVersion: number
}

/** Contents that are worthless or harmful in another life of the server; the folders themselves must exist. */
const EMPTIED_FOLDERS = [
  'pg_dynshmem',
  'pg_notify',
  'pg_replslot',
  'pg_serial',
  'pg_snapshots',
  'pg_stat_tmp',
  'pg_subtrans',
]
const LEFT_OUT = ['postmaster.pid', 'postmaster.opts', 'pg_internal.init*']

/** @throws UmbraError NOT_FOUND when there is no cluster */
export function readPostgresqlFiles(folder: string): PostgresqlFiles {
  let dataFolder: string
  let version: string
  try {
    // It may be reached through a link; the files are where that leads.
    dataFolder = realpathSync(folder)
    version = readFileSync(join(dataFolder, 'PG_VERSION'), 'utf8')
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `No PostgreSQL cluster in ${folder}`, { dataFolder: folder }, error)
  }
  const outside = (path: string): string | null => {
    const real = realpathSync(path)
    return real === path || real.startsWith(`${dataFolder}/`) ? null : real
  }
  const links = join(dataFolder, 'pg_tblspc')
  const tablespaces = existsSync(links) ? readdirSync(links).map((name) => outside(join(links, name))) : []
  return {
    dataFolder,
    walFolder: outside(join(dataFolder, 'pg_wal')),
    tablespaces: tablespaces.filter((path) => path !== null).sort(),
    majorVersion: Number.parseInt(version, 10),
  }
}

export function foldersOf({ dataFolder, walFolder, tablespaces }: PostgresqlFiles): string[] {
  return [dataFolder, ...(walFolder === null ? [] : [walFolder]), ...tablespaces]
}

export function leftOut({ dataFolder, tablespaces }: PostgresqlFiles): FileSpec[] {
  const specs: FileSpec[] = EMPTIED_FOLDERS.map((name) => ({
    path: join(dataFolder, name),
    filespec: '*',
    recursive: true,
  }))
  for (const filespec of LEFT_OUT) specs.push({ path: dataFolder, filespec, recursive: true })
  for (const path of [join(dataFolder, 'base'), ...tablespaces]) {
    specs.push({ path, filespec: 'pgsql_tmp*', recursive: true })
  }
  return specs
}

/** Whether a server runs on the data directory: its lock file names a living process. */
export function isPostgresqlRunning(dataFolder: string): boolean {
  try {
    const pid = Number.parseInt(readFileSync(join(dataFolder, 'postmaster.pid'), 'utf8'), 10)
    if (!(pid > 0)) return false
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
