// The first cluster of a qcow2 image: header, extensions, backing file name; encoded for our images,
// decoded with every length bounded from anybody's.
//
// Always true of what is encoded: version 3, the dirty and corrupt bits are never set; of what is decoded: magic, version, features and
// every offset and length of the first cluster have been checked, in this order.

import { assert } from '../base/assert.ts'
import { UmbraError } from '../base/errors.ts'
import {
  AUTOCLEAR_BITMAPS,
  EXTENSION,
  FEATURE_NAMES,
  INCOMPATIBLE,
  LIMITS,
  QCOW2_HEADER_BYTES,
  QCOW2_MAGIC,
  QCOW2_V3_MIN_HEADER_BYTES,
  Qcow2BitmapsExtension,
  Qcow2ExtensionHeader,
  Qcow2FeatureName,
  Qcow2HeaderV2,
  Qcow2HeaderV3,
} from './qcow2-format.ts'
import type { Qcow2Layout } from './qcow2-layout.ts'

export interface Backing {
  /** As written in the image: relative to the folder of the image, or absolute. */
  readonly name: string
  /** `raw`, `qcow2`; null: not said. */
  readonly format: string | null
}

export interface Qcow2Header {
  readonly version: number
  readonly clusterBits: number
  readonly sizeBytes: number
  readonly l1EntryCount: number
  readonly l1Offset: number
  readonly compressionType: 'zlib' | 'zstd'
  readonly backing: Backing | null
  /** The bytes of our private extension. */
  readonly identityBytes: Uint8Array | null
}

/** What the first cluster will hold, in bytes. @throws UmbraError LIMIT_EXCEEDED for a backing file name over 1023 bytes */
export function firstClusterBytes(
  identityBytes: Uint8Array,
  backing: Backing | null,
  hasBitmap: boolean,
): number {
  const nameBytes = Buffer.byteLength(backing?.name ?? '')
  if (nameBytes > LIMITS.backingNameBytes)
    throw new UmbraError('LIMIT_EXCEEDED', `A backing file name has at most ${LIMITS.backingNameBytes} bytes`)
  const bitmap = hasBitmap ? { directoryBytes: 0, directoryOffset: 0 } : null
  const extensions = extensionList(bitmap, identityBytes, backing)
  return extensions.reduce((sum, part) => sum + part.byteLength, QCOW2_HEADER_BYTES + nameBytes)
}

/** The layout's clusters hold {@link firstClusterBytes}. */
export function encodeFirstCluster(
  layout: Qcow2Layout,
  identityBytes: Uint8Array,
  backing: Backing | null,
): Uint8Array {
  const cluster = Buffer.alloc(layout.clusterBytes)
  const nameBytes = Buffer.from(backing?.name ?? '')
  const bitmap = layout.bitmap && {
    directoryBytes: layout.bitmap.directoryBytes,
    directoryOffset: layout.bitmap.directory.clusterIndex * layout.clusterBytes,
  }
  const extensions = Buffer.concat(extensionList(bitmap, identityBytes, backing))
  const backingNameOffset = QCOW2_HEADER_BYTES + extensions.byteLength
  assert(backingNameOffset + nameBytes.byteLength <= layout.clusterBytes, 'the header fits its cluster')
  const at = (run: { clusterIndex: number }) => run.clusterIndex * layout.clusterBytes
  Qcow2HeaderV2.encode(
    {
      magic: QCOW2_MAGIC,
      version: 3,
      backingNameOffset: backing ? backingNameOffset : 0,
      backingNameBytes: nameBytes.byteLength,
      clusterBits: layout.clusterBits,
      sizeBytes: layout.sizeBytes,
      cryptMethod: 0,
      l1EntryCount: layout.l1EntryCount,
      l1Offset: at(layout.l1),
      refcountTableOffset: at(layout.refcountTable),
      refcountTableClusters: layout.refcountTable.clusterCount,
      snapshotCount: 0,
      snapshotsOffset: 0,
    },
    cluster,
  )
  Qcow2HeaderV3.encode(
    {
      incompatibleHigh: 0,
      incompatible: 0,
      compatibleHigh: 0,
      compatible: 0,
      autoclearHigh: 0,
      autoclear: layout.bitmap ? AUTOCLEAR_BITMAPS : 0,
      refcountOrder: LIMITS.refcountOrder,
      headerBytes: QCOW2_HEADER_BYTES,
      compressionType: 0,
    },
    cluster,
    Qcow2HeaderV2.sizeBytes,
  )
  cluster.set(extensions, QCOW2_HEADER_BYTES)
  cluster.set(nameBytes, backingNameOffset)
  return cluster
}

function extensionList(
  bitmap: { directoryBytes: number; directoryOffset: number } | null,
  identityBytes: Uint8Array,
  backing: Backing | null,
): Uint8Array[] {
  const parts: Uint8Array[] = []
  const add = (type: number, bytes: Uint8Array) => {
    const part = Buffer.alloc(Qcow2ExtensionHeader.sizeBytes + Math.ceil(bytes.byteLength / 8) * 8)
    Qcow2ExtensionHeader.encode({ type, lengthBytes: bytes.byteLength }, part)
    part.set(bytes, Qcow2ExtensionHeader.sizeBytes)
    parts.push(part)
  }
  if (backing?.format) add(EXTENSION.backingFormat, Buffer.from(backing.format))
  add(
    EXTENSION.featureNames,
    Buffer.concat(FEATURE_NAMES.map((feature) => Qcow2FeatureName.encode({ ...feature }))),
  )
  if (bitmap) add(EXTENSION.bitmaps, Qcow2BitmapsExtension.encode({ bitmapCount: 1, ...bitmap }))
  add(EXTENSION.umbraIdentity, identityBytes)
  add(EXTENSION.end, new Uint8Array(0))
  return parts
}

/**
 * @param first the image's first bytes: a whole cluster, or the whole file if that is shorter
 * @throws UmbraError BAD_IMAGE, UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE
 */
export function decodeFirstCluster(first: Buffer, name: string): Qcow2Header {
  const bad = (what: string) => new UmbraError('BAD_IMAGE', `${name}: ${what}`, { image: name })
  if (first.byteLength < Qcow2HeaderV2.sizeBytes) throw bad('too short for a qcow2 header')
  const header = Qcow2HeaderV2.decode(first)
  if (header.magic !== QCOW2_MAGIC) throw bad('not a qcow2 image (wrong magic)')
  if (header.version !== 2 && header.version !== 3)
    throw new UmbraError('UNSUPPORTED_VERSION', `${name}: qcow2 version ${header.version}; 2 and 3 are read`)
  if (header.clusterBits < LIMITS.minClusterBits || header.clusterBits > LIMITS.maxClusterBits)
    throw bad(`clusters of 2^${header.clusterBits} bytes`)
  if (header.cryptMethod !== 0) throw unsupported(name, 'encryption')
  const clusterBytes = 2 ** header.clusterBits
  const limitBytes = Math.min(clusterBytes, first.byteLength)
  const extra = header.version === 3 ? decodeV3(first, limitBytes, name) : null
  const headerBytes = extra?.headerBytes ?? Qcow2HeaderV2.sizeBytes
  if (header.l1EntryCount * 8 > LIMITS.l1Bytes) throw bad(`an L1 table of ${header.l1EntryCount} entries`)

  const extensionsEnd = header.backingNameOffset === 0 ? limitBytes : header.backingNameOffset
  if (extensionsEnd < headerBytes || extensionsEnd > limitBytes)
    throw bad('the backing file name lies outside the first cluster')
  const extensions = decodeExtensions(first, headerBytes, extensionsEnd, name)
  return {
    version: header.version,
    clusterBits: header.clusterBits,
    sizeBytes: header.sizeBytes,
    l1EntryCount: header.l1EntryCount,
    l1Offset: header.l1Offset,
    compressionType: extra?.compressionType ?? 'zlib',
    backing: decodeBacking(first, header, limitBytes, extensions.backingFormat, name),
    identityBytes: extensions.identityBytes,
  }
}

function decodeV3(
  first: Buffer,
  limitBytes: number,
  name: string,
): { headerBytes: number; compressionType: 'zlib' | 'zstd' } {
  const bad = (what: string) => new UmbraError('BAD_IMAGE', `${name}: ${what}`, { image: name })
  if (limitBytes < QCOW2_HEADER_BYTES) throw bad('too short for a qcow2 header')
  const extra = Qcow2HeaderV3.decode(first, Qcow2HeaderV2.sizeBytes)
  if (extra.incompatibleHigh !== 0) throw unsupported(name, 'unknown incompatible features')
  const set = extra.incompatible
  if (set & INCOMPATIBLE.corrupt) throw bad('marked as corrupt; repair it with qemu-img check -r all')
  if (set & INCOMPATIBLE.externalData) throw unsupported(name, 'an external data file')
  if (set & INCOMPATIBLE.extendedL2) throw unsupported(name, 'extended L2 entries')
  const known = INCOMPATIBLE.dirty | INCOMPATIBLE.compressionType
  if ((set & ~known) !== 0) throw unsupported(name, `incompatible feature bits 0x${set.toString(16)}`)
  if (
    extra.headerBytes < QCOW2_V3_MIN_HEADER_BYTES ||
    extra.headerBytes % 8 !== 0 ||
    extra.headerBytes > limitBytes
  )
    throw bad(`a header of ${extra.headerBytes} bytes`)
  if (extra.refcountOrder > 6) throw bad(`refcounts of 2^${extra.refcountOrder} bits`)
  const type = extra.headerBytes > QCOW2_V3_MIN_HEADER_BYTES ? extra.compressionType : 0
  if ((type !== 0) !== ((set & INCOMPATIBLE.compressionType) !== 0))
    throw bad('the compression type and its feature bit disagree')
  if (type > 1) throw unsupported(name, `compression type ${type}`)
  return { headerBytes: extra.headerBytes, compressionType: type === 1 ? 'zstd' : 'zlib' }
}

function decodeExtensions(
  first: Buffer,
  beginBytes: number,
  endBytes: number,
  name: string,
): { backingFormat: string | null; identityBytes: Uint8Array | null } {
  const bad = (what: string) => new UmbraError('BAD_IMAGE', `${name}: ${what}`, { image: name })
  let backingFormat: string | null = null
  let identityBytes: Uint8Array | null = null
  let at = beginBytes
  while (at + Qcow2ExtensionHeader.sizeBytes <= endBytes) {
    const { type, lengthBytes } = Qcow2ExtensionHeader.decode(first, at)
    at += Qcow2ExtensionHeader.sizeBytes
    if (type === EXTENSION.end) break
    if (lengthBytes > endBytes - at) throw bad(`a header extension of ${lengthBytes} bytes`)
    const bytes = first.subarray(at, at + lengthBytes)
    if (type === EXTENSION.backingFormat) {
      if (lengthBytes > LIMITS.backingFormatBytes) throw bad('a backing format name that is too long')
      backingFormat = bytes.toString('utf8')
    } else if (type === EXTENSION.umbraIdentity) {
      if (identityBytes) throw bad('two identities')
      identityBytes = new Uint8Array(bytes)
    }
    at += Math.ceil(lengthBytes / 8) * 8
  }
  return { backingFormat, identityBytes }
}

function decodeBacking(
  first: Buffer,
  header: { backingNameOffset: number; backingNameBytes: number },
  limitBytes: number,
  format: string | null,
  name: string,
): Backing | null {
  if (header.backingNameOffset === 0) return null
  const { backingNameOffset: offset, backingNameBytes: length } = header
  if (length > LIMITS.backingNameBytes || offset + length > limitBytes)
    throw new UmbraError('BAD_IMAGE', `${name}: a backing file name of ${length} bytes at ${offset}`)
  if (length === 0) return null
  return { name: first.toString('utf8', offset, offset + length), format }
}

function unsupported(name: string, feature: string): UmbraError {
  return new UmbraError('UNSUPPORTED_FEATURE', `${name}: uses ${feature}, which is not read`, { image: name })
}
