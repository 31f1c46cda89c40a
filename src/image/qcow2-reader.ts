// Reads a qcow2 image, version 2 or 3, as a layer: whatever qemu-img makes without encryption, external
// data files and extended L2 entries. Compressed clusters: deflate always, zstd where this Node.js has it.
//
// Always true: every offset is cluster aligned where the format asks for it and lies within the file before it is followed; memory is the
// L1 table (at most 32 MiB), a bounded cache of L2 tables and one decompressed cluster.

import * as zlib from 'node:zlib'
import { inflateRawSync } from 'node:zlib'
import { hasCode, UmbraError } from '../base/errors.ts'
import { MIB } from '../base/units.ts'
import type { HostFile } from './host-file.ts'
import { decodeIdentity, type ImageIdentity } from './identity.ts'
import type { ImageLayer, LayerKind, LayerRun } from './layer.ts'
import {
  ENTRY_COMPRESSED_HIGH,
  ENTRY_OFFSET_HIGH_MASK,
  ENTRY_OFFSET_LOW_MASK,
  ENTRY_ZERO_LOW,
  LIMITS,
} from './qcow2-format.ts'
import { type Backing, decodeFirstCluster, type Qcow2Header } from './qcow2-header.ts'

const L2_CACHE_BYTES = 8 * MIB
const SECTOR_BYTES = 512

/** Where one cluster of the virtual disk is. */
interface ClusterPlace {
  readonly kind: LayerKind
  readonly compressed: boolean
  /** Of the cluster, or of the compressed bytes; 0 if it is not data. */
  readonly offsetBytes: number
  /** Of the compressed bytes, at most. */
  readonly lengthBytes: number
}

const UNALLOCATED: ClusterPlace = { kind: 'unallocated', compressed: false, offsetBytes: 0, lengthBytes: 0 }
const ZERO: ClusterPlace = { kind: 'zero', compressed: false, offsetBytes: 0, lengthBytes: 0 }

export class Qcow2Reader implements ImageLayer {
  readonly format = 'qcow2'
  readonly identity: ImageIdentity | null
  readonly #file: HostFile
  readonly #header: Qcow2Header
  readonly #clusterBytes: number
  readonly #entriesPerTable: number
  readonly #l1: Buffer
  /** L2 tables by L1 index, least recently used first. */
  readonly #l2Cache = new Map<number, Buffer>()
  #decompressedCluster = -1
  #decompressed: Buffer = Buffer.alloc(0)

  /** @throws UmbraError BAD_IMAGE, UNSUPPORTED_VERSION, UNSUPPORTED_FEATURE, IO_FAILED */
  constructor(file: HostFile) {
    this.#file = file
    const first = Buffer.alloc(Math.min(file.sizeBytes, 2 ** LIMITS.maxClusterBits))
    file.read(0, first.byteLength, first, 0)
    this.#header = decodeHeader(first, file.path)
    this.#clusterBytes = 2 ** this.#header.clusterBits
    this.#entriesPerTable = this.#clusterBytes / 8
    this.identity = this.#header.identityBytes && decodeIdentity(this.#header.identityBytes, file.path)
    this.#l1 = this.#readL1()
    if (this.identity && this.identity.sizeBytes !== this.sizeBytes)
      throw this.#bad(`its identity says ${this.identity.sizeBytes} bytes but its header ${this.sizeBytes}`)
  }

  get path(): string {
    return this.#file.path
  }

  get sizeBytes(): number {
    return this.#header.sizeBytes
  }

  get backing(): Backing | null {
    return this.#header.backing
  }

  mapAt(offsetBytes: number, maxLengthBytes: number): LayerRun {
    const endBytes = offsetBytes + maxLengthBytes
    let cluster = Math.floor(offsetBytes / this.#clusterBytes)
    const { kind } = this.#placeOf(cluster)
    for (;;) {
      const isAbsent = kind === 'unallocated' && this.#l1Offset(this.#l1IndexOf(cluster)) === 0
      cluster = isAbsent ? (this.#l1IndexOf(cluster) + 1) * this.#entriesPerTable : cluster + 1
      const at = cluster * this.#clusterBytes
      if (at >= endBytes) return { kind, lengthBytes: maxLengthBytes }
      if (this.#placeOf(cluster).kind !== kind) return { kind, lengthBytes: at - offsetBytes }
    }
  }

  readData(offsetBytes: number, lengthBytes: number, target: Buffer, targetOffset: number): void {
    const endBytes = offsetBytes + lengthBytes
    for (let at = offsetBytes; at < endBytes; ) {
      const cluster = Math.floor(at / this.#clusterBytes)
      const within = at - cluster * this.#clusterBytes
      const place = this.#placeOf(cluster)
      let take = Math.min(endBytes - at, this.#clusterBytes - within)
      if (place.kind !== 'data') target.fill(0, targetOffset, targetOffset + take)
      else if (place.compressed)
        this.#decompress(cluster, place).copy(target, targetOffset, within, within + take)
      else {
        take = this.#extendRun(cluster, place.offsetBytes, within + take, within + (endBytes - at)) - within
        this.#file.read(place.offsetBytes + within, take, target, targetOffset)
      }
      at += take
      targetOffset += take
    }
  }

  close(): void {
    this.#file.close()
  }

  /** Clusters that lie side by side in the file are read at once: how far from the first one's start. */
  #extendRun(cluster: number, offsetBytes: number, runBytes: number, maxBytes: number): number {
    let end = runBytes
    for (let i = 1; end < maxBytes; i++) {
      const place = this.#placeOf(cluster + i)
      if (place.kind !== 'data' || place.compressed) break
      if (place.offsetBytes !== offsetBytes + i * this.#clusterBytes) break
      end = Math.min(maxBytes, (i + 1) * this.#clusterBytes)
    }
    return end
  }

  #l1IndexOf(cluster: number): number {
    return Math.floor(cluster / this.#entriesPerTable)
  }

  #placeOf(cluster: number): ClusterPlace {
    const table = this.#l2Table(this.#l1IndexOf(cluster))
    if (!table) return UNALLOCATED
    const at = (cluster % this.#entriesPerTable) * 8
    const high = table.readUInt32BE(at)
    const low = table.readUInt32BE(at + 4)
    if ((high & ENTRY_COMPRESSED_HIGH) !== 0) return this.#compressedPlace(high, low)
    if ((low & ENTRY_ZERO_LOW) !== 0 && this.#header.version >= 3) return ZERO
    const offsetBytes = offsetOf(high, low)
    if (offsetBytes === 0) return UNALLOCATED
    this.#requireCluster(offsetBytes, 'a data cluster')
    return { kind: 'data', compressed: false, offsetBytes, lengthBytes: this.#clusterBytes }
  }

  /** A byte offset in the low bits, then how many further sectors the compressed bytes touch. */
  #compressedPlace(high: number, low: number): ClusterPlace {
    const offsetBits = 62 - (this.#header.clusterBits - 8)
    const sectorShift = offsetBits - 32
    const descriptorHigh = high & 0x3fffffff
    const offsetBytes = (descriptorHigh % 2 ** sectorShift) * 2 ** 32 + low
    const sectors = Math.floor(descriptorHigh / 2 ** sectorShift) + 1
    const lengthBytes = sectors * SECTOR_BYTES - (offsetBytes % SECTOR_BYTES)
    if (!(offsetBytes < this.#file.sizeBytes)) throw this.#bad(`compressed data at ${offsetBytes}`)
    return {
      kind: 'data',
      compressed: true,
      offsetBytes,
      lengthBytes: Math.min(lengthBytes, this.#file.sizeBytes - offsetBytes),
    }
  }

  #decompress(cluster: number, place: ClusterPlace): Buffer {
    if (cluster === this.#decompressedCluster) return this.#decompressed
    const packed = Buffer.alloc(place.lengthBytes)
    this.#file.read(place.offsetBytes, place.lengthBytes, packed, 0)
    let bytes: Buffer
    try {
      bytes =
        this.#header.compressionType === 'zstd'
          ? unzstd(packed, this.#clusterBytes, this.path)
          : inflateRawSync(packed, {
              maxOutputLength: this.#clusterBytes,
              finishFlush: zlib.constants.Z_SYNC_FLUSH,
            })
    } catch (error) {
      if (hasCode(error, 'UNSUPPORTED_FEATURE')) throw error
      throw this.#bad(`cluster ${cluster} does not decompress`)
    }
    if (bytes.byteLength !== this.#clusterBytes)
      throw this.#bad(`cluster ${cluster} decompresses to ${bytes.byteLength} bytes`)
    this.#decompressedCluster = cluster
    this.#decompressed = bytes
    return bytes
  }

  #readL1(): Buffer {
    const { l1EntryCount, l1Offset, sizeBytes } = this.#header
    const needed = Math.ceil(sizeBytes / (this.#clusterBytes * this.#entriesPerTable))
    if (needed > l1EntryCount)
      throw this.#bad(`an L1 table of ${l1EntryCount} entries where ${needed} are needed`)
    const l1 = Buffer.alloc(l1EntryCount * 8)
    if (l1EntryCount === 0) return l1
    if (
      l1Offset % this.#clusterBytes !== 0 ||
      l1Offset === 0 ||
      l1Offset + l1.byteLength > this.#file.sizeBytes
    )
      throw this.#bad(`an L1 table at ${l1Offset}, outside the file`)
    this.#file.read(l1Offset, l1.byteLength, l1, 0)
    return l1
  }

  #l1Offset(index: number): number {
    const at = index * 8
    if (at + 8 > this.#l1.byteLength) return 0
    return offsetOf(this.#l1.readUInt32BE(at), this.#l1.readUInt32BE(at + 4))
  }

  #l2Table(l1Index: number): Buffer | null {
    const cached = this.#l2Cache.get(l1Index)
    if (cached) return cached
    const offsetBytes = this.#l1Offset(l1Index)
    if (offsetBytes === 0) return null
    this.#requireCluster(offsetBytes, 'an L2 table')
    if (offsetBytes + this.#clusterBytes > this.#file.sizeBytes)
      throw this.#bad(`an L2 table at ${offsetBytes}, outside the file`)
    const table = Buffer.alloc(this.#clusterBytes)
    this.#file.read(offsetBytes, this.#clusterBytes, table, 0)
    if ((this.#l2Cache.size + 1) * this.#clusterBytes > Math.max(L2_CACHE_BYTES, 4 * this.#clusterBytes)) {
      const oldest = this.#l2Cache.keys().next()
      if (!oldest.done) this.#l2Cache.delete(oldest.value)
    }
    this.#l2Cache.set(l1Index, table)
    return table
  }

  #requireCluster(offsetBytes: number, what: string): void {
    if (offsetBytes % this.#clusterBytes !== 0 || offsetBytes >= this.#file.sizeBytes)
      throw this.#bad(`${what} at ${offsetBytes}, unaligned or outside the file`)
  }

  #bad(what: string): UmbraError {
    return new UmbraError('BAD_IMAGE', `${this.path}: ${what}`, { image: this.path })
  }
}

function decodeHeader(first: Buffer, name: string): Qcow2Header {
  try {
    return decodeFirstCluster(first, name)
  } catch (error) {
    // A 64-bit field past 2^53, which the struct tables refuse.
    if (!hasCode(error, 'CORRUPT')) throw error
    throw new UmbraError('BAD_IMAGE', `${name}: ${error.message}`, { image: name }, error)
  }
}

function offsetOf(high: number, low: number): number {
  return (high & ENTRY_OFFSET_HIGH_MASK) * 2 ** 32 + ((low & ENTRY_OFFSET_LOW_MASK) >>> 0)
}

/** Newer Node.js has zstd in node:zlib; the types of the oldest supported one do not know it. */
function unzstd(packed: Buffer, clusterBytes: number, name: string): Buffer {
  const decompress = (zlib as unknown as Record<string, unknown>)['zstdDecompressSync']
  if (typeof decompress !== 'function')
    throw new UmbraError(
      'UNSUPPORTED_FEATURE',
      `${name}: uses zstd compression, which Node.js ${process.version} cannot read; rewrite it with qemu-img convert`,
    )
  return (decompress as (bytes: Buffer, options: object) => Buffer)(packed, { maxOutputLength: clusterBytes })
}
