// Where a PostgreSQL cluster keeps its files: the data directory, and what links in it lead to.
//
// Always true: read from the disk alone, so that it is the same whether the server runs or not; what a
// base backup leaves out is left out here (PostgreSQL manual 26.3.4, "Backing Up the Data Directory").

import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { isAtOrBelow } from '../documents/file-spec.ts'
import type { FileSpec } from '../documents/writer-metadata.ts'

/** A link in the data directory: to a tablespace, or to the log. */
export interface ClusterLink {
  /** In the data directory: `pg_wal`, or `pg_tblspc/` and the tablespace's OID. */
  readonly name: string
  /** As it is written. */
  readonly target: string
  /** Where that leads, without links. */
  readonly folder: string
}

export interface PostgresqlFiles {
  readonly dataFolder: string
  readonly links: readonly ClusterLink[]
  /** Of pg_wal, where it is a link out of the data directory. */
  readonly walFolder: string | null
  /** Tablespaces outside of the data directory, sorted. */
  readonly tablespaces: readonly Tablespace[]
  readonly majorVersion: number
}

/** Another server's files may lie beside its own; its own are in a folder named after its version. */
export interface Tablespace {
  readonly folder: string
  readonly versionFolders: readonly string[]
}

const WAL = 'pg_wal'
const TABLESPACES = 'pg_tblspc'
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

/** @throws UmbraError NOT_FOUND when there is no cluster, or a tablespace of it is not there */
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
  const majorVersion = Number.parseInt(version, 10)
  const links = linksOf(dataFolder)
  const outside = links.filter((link) => !isAtOrBelow(link.folder, dataFolder))
  return {
    dataFolder,
    links,
    walFolder: outside.find(({ name }) => name === WAL)?.folder ?? null,
    tablespaces: outside
      .filter(({ name }) => name !== WAL)
      .map((link) => tablespaceAt(link.folder, majorVersion))
      .sort((a, b) => (a.folder < b.folder ? -1 : 1)),
    majorVersion,
  }
}

/**
 * What is known of a cluster that is lost: its folder, which is not there or empty, waits for a restore.
 * @returns null: something is there
 */
export function lostCluster(dataFolder: string): PostgresqlFiles | null {
  const names = existsSync(dataFolder) ? readdirSync(dataFolder) : []
  if (names.some((name) => name !== 'lost+found')) return null
  return { dataFolder, links: [], walFolder: null, tablespaces: [], majorVersion: 0 }
}

/** Names and targets of the links to tablespaces, one line each, sorted: what tells whether they are still the same. */
export function tablespaceLinks(dataFolder: string): string[] {
  return linkNames(dataFolder)
    .map((name) => `${name} ${readlinkSync(join(dataFolder, name))}`)
    .sort()
}

function linksOf(dataFolder: string): ClusterLink[] {
  return [...linkNames(dataFolder), ...(isLink(join(dataFolder, WAL)) ? [WAL] : [])].map((name) => {
    const target = readlinkSync(join(dataFolder, name))
    try {
      return { name, target, folder: realpathSync(join(dataFolder, name)) }
    } catch (error) {
      throw new UmbraError(
        'NOT_FOUND',
        `${join(dataFolder, name)} leads to ${target}, which is not there`,
        { path: target },
        error,
      )
    }
  })
}

/** A tablespace made "in place" is a folder and no link. */
function linkNames(dataFolder: string): string[] {
  const folder = join(dataFolder, TABLESPACES)
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => isLink(join(folder, name)))
    .map((name) => `${TABLESPACES}/${name}`)
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
}

function tablespaceAt(folder: string, majorVersion: number): Tablespace {
  const names = readdirSync(folder).filter((name) => name.startsWith(`PG_${majorVersion}_`))
  if (names.length > 0) return { folder, versionFolders: names.sort().map((name) => join(folder, name)) }
  throw new UmbraError(
    'NOT_FOUND',
    `The tablespace in ${folder} has no folder of PostgreSQL ${majorVersion}`,
    { path: folder },
  )
}

export function foldersOf({ dataFolder, walFolder, tablespaces }: PostgresqlFiles): string[] {
  const spaces = tablespaces.map(({ folder }) => folder)
  return [dataFolder, ...(walFolder === null ? [] : [walFolder]), ...spaces]
}

/** Folders that are the cluster's alone: other files in them would be taken for its own. */
export function ownFoldersOf({ dataFolder, walFolder, tablespaces }: PostgresqlFiles): string[] {
  const spaces = tablespaces.flatMap(({ versionFolders }) => versionFolders)
  return [dataFolder, ...(walFolder === null ? [] : [walFolder]), ...spaces]
}

export function leftOut({ dataFolder, tablespaces }: PostgresqlFiles): FileSpec[] {
  const specs: FileSpec[] = EMPTIED_FOLDERS.map((name) => ({
    path: join(dataFolder, name),
    filespec: '*',
    recursive: true,
  }))
  for (const filespec of LEFT_OUT) specs.push({ path: dataFolder, filespec, recursive: true })
  for (const path of [join(dataFolder, 'base'), ...tablespaces.map(({ folder }) => folder)]) {
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
