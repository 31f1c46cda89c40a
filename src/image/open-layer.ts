// Opens image files as layers, one by one or by following backing file names.
//
// Always true: at most CHAIN_MAX layers are opened, a loop of backing names is refused, and whatever was opened is
// closed again when a later one fails. Backing names lead to plain files only, as in the image's folder.

import { dirname, isAbsolute, join } from 'node:path'
import { UmbraError } from '../base/errors.ts'
import { HostFile } from './host-file.ts'
import type { ImageLayer } from './layer.ts'
import { QCOW2_MAGIC } from './qcow2-format.ts'
import type { Backing } from './qcow2-header.ts'
import { Qcow2Reader } from './qcow2-reader.ts'
import { RawReader } from './raw-reader.ts'
import { readSidecar } from './sidecar.ts'

export const CHAIN_MAX = 1000

/** First bytes of formats that would else pass for raw. */
const OTHER_FORMATS: readonly (readonly [string, string])[] = [
  ['KDMV', 'vmdk'],
  ['vhdxfile', 'vhdx'],
  ['conectix', 'vpc'],
  ['QED\0', 'qed'],
  ['LUKS\xba\xbe', 'luks'],
  ['rbd diff v1', 'rbd-diff'],
]

/**
 * @param format what is known of it; null: look at its first bytes
 * @throws UmbraError ENOENT, BAD_IMAGE, UNSUPPORTED_FEATURE, UNSUPPORTED_VERSION
 */
export function openLayer(path: string, format: string | null = null): ImageLayer {
  if (format !== null && format !== 'raw' && format !== 'qcow2')
    throw new UmbraError('UNSUPPORTED_FEATURE', `${path}: format ${format} is not read; qcow2 and raw are`)
  const file = new HostFile(path)
  try {
    const magic = Buffer.alloc(16)
    file.read(0, magic.byteLength, magic, 0)
    if (format === 'qcow2' || (format === null && magic.readUInt32BE(0) === QCOW2_MAGIC))
      return new Qcow2Reader(file)
    if (format === null) refuseOtherFormats(magic, path)
    return openRaw(file)
  } catch (error) {
    file.close()
    throw error
  }
}

function openRaw(file: HostFile): RawReader {
  const sidecar = readSidecar(file.path)
  if (sidecar?.applyingTo)
    throw new UmbraError(
      'BAD_IMAGE',
      `${file.path} holds an unfinished apply; apply the same images again to complete it`,
    )
  if (sidecar && sidecar.identity.sizeBytes !== file.sizeBytes)
    throw new UmbraError(
      'BAD_IMAGE',
      `${file.path} has ${file.sizeBytes} bytes but its identity says ${sidecar.identity.sizeBytes}`,
    )
  return new RawReader(file, sidecar?.identity ?? null)
}

function refuseOtherFormats(magic: Buffer, path: string): void {
  const text = magic.toString('latin1')
  for (const [prefix, name] of OTHER_FORMATS) {
    if (text.startsWith(prefix))
      throw new UmbraError('UNSUPPORTED_FEATURE', `${path}: looks like ${name}; qcow2 and raw are read`)
  }
}

/** Opens files in the order given, oldest first. */
export function openLayers(paths: readonly string[]): ImageLayer[] {
  if (paths.length > CHAIN_MAX)
    throw new UmbraError('LIMIT_EXCEEDED', `A chain has at most ${CHAIN_MAX} images`)
  const layers: ImageLayer[] = []
  try {
    for (const path of paths) layers.push(openLayer(path))
    return layers
  } catch (error) {
    closeLayers(layers)
    throw error
  }
}

/**
 * Puts what lies below `layers` before them, by backing file names; stops at a full image of ours, whatever
 * backing name somebody gave it.
 */
export function openBelow(layers: ImageLayer[]): ImageLayer[] {
  const seen = new Set(layers.map((layer) => layer.path))
  const all = [...layers]
  try {
    for (;;) {
      const lowest = all[0]
      if (!lowest?.backing || lowest.identity?.base === null) return all
      const path = backingPath(lowest.path, lowest.backing)
      if (lowest === layers[0] && layers.slice(1).some((layer) => layer.path === path))
        throw new UmbraError('WRONG_BASE', `${lowest.path} goes on from ${path}, which must come before it`)
      if (seen.has(path) || all.length >= CHAIN_MAX)
        throw new UmbraError('BAD_IMAGE', `${lowest.path}: its backing files form a loop at ${path}`)
      seen.add(path)
      all.unshift(openLayer(path, lowest.backing.format))
    }
  } catch (error) {
    closeLayers(all)
    throw error
  }
}

export function closeLayers(layers: readonly ImageLayer[]): void {
  for (const layer of layers) layer.close()
}

function backingPath(path: string, backing: Backing): string {
  const name = backing.name.startsWith('file:') ? backing.name.slice('file:'.length) : backing.name
  if (/^[a-z][a-z0-9+.-]*:/i.test(name) || name.includes('\0'))
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `${path}: its backing file ${JSON.stringify(name.slice(0, 80))} is not a plain file name`,
    )
  return isAbsolute(name) ? name : join(dirname(path), name)
}
