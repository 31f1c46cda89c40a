// Shadow copies that are mounted by themselves for as long as they exist: VSS's exposing. Which ones is
// written down in the configuration folder, so that they can be mounted again after a restart.
//
// Always true: the file is replaced as a whole; only what outlives its session is exposed, and never what
// is there for previous versions (client-accessible); unexposing leaves the shadow copy. Two commands that
// change the list at the same moment are as one after the other.

import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, UmbraError } from '../base/errors.ts'
import { canonicalMountPoint } from '../fuse/device/mount-table.ts'
import { hasAttribute } from '../shadow/documents/vocabulary.ts'
import { configurationFolder } from '../shadow/writers/writer-configuration.ts'
import type { Snapshot } from '../volume/points.ts'
import { launchDaemon } from './launch.ts'
import { findMount, isOurs } from './locate.ts'
import { openControl } from './open-control.ts'
import { prepareMount } from './prepare-mount.ts'
import { unmountVolume } from './unmount.ts'

export interface Exposure {
  /** Absolute path of the volume file. */
  readonly volume: string
  readonly snapshotId: string
  readonly mountPoint: string
}

interface ExposuresFile {
  readonly format: typeof FORMAT
  readonly exposures: readonly Exposure[]
}

const FORMAT = 'umbra-exposures-1'
const FILE_NAME = 'exposed.json'
const LOCK_PATIENCE_MS = 5000
const LOCK_POLL_MS = 20

/** In the order in which they were exposed. @throws UmbraError INVALID_DOCUMENT */
export function readExposures(): readonly Exposure[] {
  const path = join(configurationFolder(), FILE_NAME)
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
  const exposures = parsed(text)
  if (exposures) return exposures
  throw new UmbraError('INVALID_DOCUMENT', `${path} is no list of exposed shadow copies; move it away`)
}

/**
 * Mounts a shadow copy by itself at an existing folder, and remembers that.
 * @param nameOrId of a snapshot of the volume
 * @throws UmbraError NOT_FOUND, BUSY, INVALID_ARGUMENT for one that may not be exposed, ALREADY_EXISTS
 */
export async function exposeSnapshot(volume: string, nameOrId: string, folder: string): Promise<Exposure> {
  const { snapshot, volumePath } = await findSnapshot(volume, nameOrId)
  refuseUnexposable(snapshot)
  if (readExposures().some(({ snapshotId }) => snapshotId === snapshot.id)) {
    throw new UmbraError('ALREADY_EXISTS', `${snapshot.name} is exposed already`)
  }
  const mountPoint = await mountAlone(volumePath, snapshot.name, folder)
  const exposure = { volume: volumePath, snapshotId: snapshot.id, mountPoint }
  await changeExposures((all) => [...all, exposure])
  return exposure
}

/**
 * @param nameIdOrFolder the shadow copy's id, or where it is exposed
 * @throws UmbraError NOT_FOUND, BUSY while files are open there
 */
export async function unexposeSnapshot(idOrFolder: string): Promise<Exposure> {
  const folder = await canonicalMountPoint(idOrFolder).catch(() => idOrFolder)
  const exposure = readExposures().find(
    ({ snapshotId, mountPoint }) => snapshotId === idOrFolder || mountPoint === folder,
  )
  if (!exposure) throw new UmbraError('NOT_FOUND', `No shadow copy is exposed as ${idOrFolder}`)
  if (await isMounted(exposure)) await unmountVolume(exposure.mountPoint, { lazy: false, force: false })
  await changeExposures((all) => all.filter(({ snapshotId }) => snapshotId !== exposure.snapshotId))
  return exposure
}

export interface ReexposeResult {
  readonly exposure: Exposure
  /** Null: it is mounted. */
  readonly failure: UmbraError | null
}

/** Mounts again what a restart took away; forgets what was deleted meanwhile. */
export async function reexposeSnapshots(): Promise<ReexposeResult[]> {
  const results: ReexposeResult[] = []
  for (const exposure of readExposures()) {
    try {
      if (!(await isMounted(exposure))) await mountAgain(exposure)
      results.push({ exposure, failure: null })
    } catch (error) {
      if (!(error instanceof UmbraError)) throw error
      results.push({ exposure, failure: error })
    }
  }
  const isGone = (id: string) =>
    results.some(({ exposure, failure }) => exposure.snapshotId === id && hasCode(failure, 'NOT_FOUND'))
  await changeExposures((all) => all.filter(({ snapshotId }) => !isGone(snapshotId)))
  return results
}

async function mountAgain({ volume, snapshotId, mountPoint }: Exposure): Promise<void> {
  const { snapshot } = await findSnapshot(volume, snapshotId)
  await mountAlone(volume, snapshot.name, mountPoint)
}

async function mountAlone(volumePath: string, snapshot: string, folder: string): Promise<string> {
  const options = await prepareMount(volumePath, folder, {
    readOnly: true,
    writeThrough: false,
    allowOther: false,
    accessTimes: false,
    snapshot,
    driver: 'device',
    hooks: null,
  })
  await launchDaemon(options)
  return options.mountPoint
}

async function findSnapshot(
  volume: string,
  nameOrId: string,
): Promise<{ snapshot: Snapshot; volumePath: string }> {
  await using control = await openControl(volume, { write: false })
  const { snapshot } = await control.volume.showSnapshot(nameOrId)
  return { snapshot, volumePath: control.volumePath }
}

function refuseUnexposable({ name, shadow }: Snapshot): void {
  if (shadow === null) return
  const refuse = (why: string): never => {
    throw new UmbraError('INVALID_ARGUMENT', `${name} cannot be exposed: ${why}`)
  }
  if (hasAttribute(shadow.attributes, 'client-accessible')) refuse('it is there for previous versions')
  if (!hasAttribute(shadow.attributes, 'persistent')) refuse('it is not persistent and goes with its session')
}

async function isMounted({ mountPoint }: Exposure): Promise<boolean> {
  const mount = await findMount(mountPoint)
  return mount !== undefined && isOurs(mount)
}

function parsed(text: string): readonly Exposure[] | undefined {
  try {
    const { format, exposures } = JSON.parse(text) as Partial<ExposuresFile>
    if (format !== FORMAT || !Array.isArray(exposures)) return undefined
    return exposures.every(isExposure) ? exposures : undefined
  } catch {
    return undefined
  }
}

function isExposure(value: unknown): value is Exposure {
  const { volume, snapshotId, mountPoint } = (value ?? {}) as Partial<Record<keyof Exposure, unknown>>
  return [volume, snapshotId, mountPoint].every((field) => typeof field === 'string')
}

async function changeExposures(change: (all: readonly Exposure[]) => readonly Exposure[]): Promise<void> {
  const folder = configurationFolder()
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  const path = join(folder, FILE_NAME)
  const fresh = await openAlone(`${path}.new`)
  try {
    const content: ExposuresFile = { format: FORMAT, exposures: change(readExposures()) }
    writeFileSync(fresh, `${JSON.stringify(content, null, 2)}\n`)
    fsyncSync(fresh)
    renameSync(`${path}.new`, path)
  } catch (error) {
    rmSync(`${path}.new`, { force: true })
    throw error
  } finally {
    closeSync(fresh)
  }
}

/** The new file is the lock too; one left by a command that died is taken away after a while. */
async function openAlone(path: string): Promise<number> {
  const deadlineMs = Date.now() + LOCK_PATIENCE_MS
  for (;;) {
    try {
      return openSync(path, 'wx', 0o644)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      if (Date.now() > deadlineMs) rmSync(path, { force: true })
    }
    await sleep(LOCK_POLL_MS)
  }
}
