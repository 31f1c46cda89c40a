// The end of a consolidation, and what is done when one was interrupted: both are the same steps.
//
// A consolidated image is first written under a name of its own, and the manifest refers to it from one rename on;
// then it takes the name of the delta, which later images have as their backing file, and the manifest
// follows; then everything goes that the manifest does not name. Killed anywhere, the backup is the old one or
// the new one, and the volume's content at its point is the same in both.
// Always true: nothing happens without the marker, which a consolidation sets before anything else; nothing that the
// manifest or its index names is removed; a backup whose manifest or index is damaged is left as it is.

import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { hasCode } from '../../base/errors.ts'
import { hostCall } from '../../image/host-file.ts'
import { syncFolder } from '../../image/output.ts'
import { imageFile } from './chains.ts'
import type { ImageRecord, Manifest } from './manifest.ts'
import { encodeManifest, MANIFEST_NAME, readFileIndex, readManifest } from './manifest-file.ts'

const MARKER_NAME = '.consolidating'
const NEXT_MANIFEST_NAME = '.manifest.json.next'
/** Where the files go that a consolidation makes, beside those of the backup itself. */
export const MERGED_FOLDER = 'merged'
export const MERGED_INDEX = 'merged.jsonl'
const INDEXES = ['files.jsonl', MERGED_INDEX]
const FILE_FOLDERS = ['files', MERGED_FOLDER]

/** Name of a consolidated image until it has taken the delta's. */
export function fullImageFile(volumeUuid: string): string {
  return `images/${volumeUuid}.full.qcow2`
}

/** From here on what the manifest does not name is nobody's. */
export function markConsolidation(folder: string): void {
  hostCall(`Cannot write ${folder}`, () => writeDurably(join(folder, MARKER_NAME), Buffer.alloc(0)))
  syncFolder(folder)
}

/** Replaces a backup's manifest, all or nothing. */
export function replaceManifest(folder: string, manifest: Manifest): void {
  const next = join(folder, NEXT_MANIFEST_NAME)
  hostCall(`Cannot write ${next}`, () => {
    writeDurably(next, encodeManifest(manifest))
    renameSync(next, join(folder, MANIFEST_NAME))
  })
  syncFolder(folder)
}

/** @param id the backup that lies in the folder */
export function settleConsolidation(folder: string, id: string): void {
  if (!existsSync(join(folder, MARKER_NAME))) return
  try {
    const manifest = withOldNames(folder, readManifest(folder, id))
    removeUnnamed(folder, manifest)
  } catch (error) {
    if (hasCode(error, 'INVALID_DOCUMENT') || hasCode(error, 'ENOENT')) return
    throw error
  }
  hostCall(`Cannot clean ${folder}`, () => {
    rmSync(join(folder, NEXT_MANIFEST_NAME), { force: true })
    rmSync(join(folder, MARKER_NAME), { force: true })
  })
  syncFolder(folder)
}

/** Consolidated images take the places of their deltas. */
function withOldNames(folder: string, manifest: Manifest): Manifest {
  const isNew = ({ file, volumeUuid }: ImageRecord) => file === fullImageFile(volumeUuid)
  if (!manifest.images.some(isNew)) return manifest
  const images = manifest.images.map((image) => {
    if (!isNew(image)) return image
    const file = imageFile(image.volumeUuid, image.format)
    takePlace(join(folder, image.file), join(folder, file))
    return { ...image, file }
  })
  syncFolder(join(folder, 'images'))
  const settled = { ...manifest, images }
  replaceManifest(folder, settled)
  return settled
}

/** Gives a file a second name, replacing what has it; on file systems without hard links, a copy. */
function takePlace(path: string, place: string): void {
  const temporary = `${place}.next`
  hostCall(`Cannot replace ${place}`, () => {
    rmSync(temporary, { force: true })
    linkOrCopy(path, temporary)
    renameSync(temporary, place)
  })
}

/** A second name for a file that never changes; a durable copy where the file system has no hard links. */
export function linkOrCopy(path: string, other: string): void {
  try {
    linkSync(path, other)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EPERM' && code !== 'EOPNOTSUPP' && code !== 'ENOSYS' && code !== 'EMLINK') throw error
    copyFileSync(path, other, constants.COPYFILE_EXCL)
    syncFile(other)
  }
}

function removeUnnamed(folder: string, manifest: Manifest): void {
  const named = new Set<string>()
  for (const { file, sidecar } of manifest.images) {
    named.add(file)
    if (sidecar) named.add(sidecar.file)
  }
  if (manifest.fileIndex) {
    named.add(manifest.fileIndex.file)
    for (const { stored } of readFileIndex(join(folder, manifest.fileIndex.file)))
      if (stored) named.add(stored.file)
  }
  hostCall(`Cannot clean ${folder}`, () => {
    for (const name of namesIn(join(folder, 'images'))) removeUnless(named, folder, `images/${name}`)
    for (const outer of FILE_FOLDERS)
      for (const inner of namesIn(join(folder, outer)))
        for (const name of namesIn(join(folder, outer, inner)))
          removeUnless(named, folder, `${outer}/${inner}/${name}`)
    for (const name of INDEXES) removeUnless(named, folder, name)
  })
}

function removeUnless(named: ReadonlySet<string>, folder: string, file: string): void {
  if (!named.has(file)) rmSync(join(folder, file), { force: true })
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : []
}

function writeDurably(path: string, bytes: Uint8Array): void {
  writeFileSync(path, bytes, { mode: 0o600 })
  syncFile(path)
}

function syncFile(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
