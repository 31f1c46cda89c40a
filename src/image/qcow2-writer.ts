// Writes a full image or a delta as qcow2, version 3: what qemu-img check, info, map and compare, a
// backing chain and qemu-nbd -B read without knowing of us.
//
// Always true: a zero extent of a delta becomes zero clusters, never unallocated ones, which would let
// the backing file show through; everything is written in ascending order but the header, which comes
// last, so that an unfinished file is no image; memory is bounded by pages of the tables.

import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES } from '../base/units.ts'
import { copyExtents } from './copy-extents.ts'
import { ContentDigest } from './digest.ts'
import { encodeIdentity, IDENTITY_VERSION, type ImageIdentity } from './identity.ts'
import type { ImageSource } from './image-source.ts'
import { type OutputFile, type OutputOptions, writeOutput } from './output.ts'
import { type LongWork, Pace } from './pace.ts'
import {
  BITMAP_NAME_MAX_BYTES,
  BITMAP_TYPE_DIRTY,
  ENTRY_COPIED_HIGH,
  ENTRY_ZERO_LOW,
  Qcow2BitmapEntry,
} from './qcow2-format.ts'
import { type Backing, encodeFirstCluster, firstClusterBytes } from './qcow2-header.ts'
import {
  type BitmapLayout,
  type ClusterRun,
  clusterExtents,
  planQcow2,
  type Qcow2Layout,
  REFERENCES_MAX,
  referencesTo,
  sharedTableCount,
  wholeZeroTables,
} from './qcow2-layout.ts'
import { TableWriter } from './table-writer.ts'

export interface Qcow2Options extends OutputOptions, LongWork {
  /** Written into a delta as its backing file. Default: none, to be attached with qemu-img rebase -u. */
  readonly backing?: Backing | undefined
  /** The delta's dirty bitmap. Default: `umbra-` and the base's name; null: none. Full images have none. */
  readonly bitmapName?: string | null | undefined
}

/** What a written image is. */
export interface WrittenImage {
  readonly identity: ImageIdentity
  /** Size of the file, holes included. */
  readonly fileBytes: number
  /** Bytes of volume data in it. */
  readonly dataBytes: number
}

/**
 * @throws UmbraError ALREADY_EXISTS, OUT_OF_SPACE, ABORTED, LIMIT_EXCEEDED, and what reading the source
 *   throws; then no file is left behind
 */
export async function writeQcow2(
  source: ImageSource,
  path: string,
  options: Qcow2Options = {},
): Promise<WrittenImage> {
  const bitmapName = bitmapNameFor(source, options)
  const backing = options.backing ?? null
  const describe = (digest: string): ImageIdentity => ({
    formatVersion: IDENTITY_VERSION,
    volumeUuid: source.volumeUuid,
    point: source.point,
    base: source.base,
    sizeBytes: source.blockCount * BLOCK_SIZE_BYTES,
    digest,
  })
  // Every digest is as long as this one.
  const headerBytes = firstClusterBytes(
    encodeIdentity(describe('0'.repeat(64))),
    backing,
    bitmapName !== null,
  )
  const layout = planQcow2(source, bitmapName, headerBytes)
  return writeOutput(path, options, async (output) => {
    output.truncate(layout.totalClusters * layout.clusterBytes)
    writeRefcounts(output, layout)
    writeL1(output, layout, source)
    if (layout.bitmap) writeBitmap(output, layout, layout.bitmap, source)
    writeL2(output, layout, source)
    const digest = await writeData(output, layout, source, options)
    await source.confirm?.()
    const identity = describe(digest)
    const first = encodeFirstCluster(layout, encodeIdentity(identity), backing)
    output.write(0, first.byteLength, first, 0)
    return {
      identity,
      fileBytes: layout.totalClusters * layout.clusterBytes,
      dataBytes: layout.dataBlockCount * BLOCK_SIZE_BYTES,
    }
  })
}

function bitmapNameFor(source: ImageSource, options: Qcow2Options): string | null {
  if (source.base === null || options.bitmapName === null) return null
  const name = options.bitmapName ?? `umbra-${source.base.name}`
  if (name !== '' && Buffer.byteLength(name) <= BITMAP_NAME_MAX_BYTES) return name
  throw new UmbraError('LIMIT_EXCEEDED', `A bitmap's name has 1 to ${BITMAP_NAME_MAX_BYTES} bytes`)
}

function tableFor(output: OutputFile, layout: Qcow2Layout, run: ClusterRun): TableWriter {
  const { clusterBytes } = layout
  return new TableWriter(output, run.clusterIndex * clusterBytes, run.clusterCount * clusterBytes)
}

/** Puts the offset of cluster `clusterIndex` into a table. */
function setOffset(
  table: TableWriter,
  index: number,
  clusterIndex: number,
  layout: Qcow2Layout,
  flagsHigh: number,
): void {
  const offset = clusterIndex * layout.clusterBytes
  table.setWord(index, flagsHigh | Math.floor(offset / 2 ** 32), offset % 2 ** 32)
}

function writeRefcounts(output: OutputFile, layout: Qcow2Layout): void {
  const table = tableFor(output, layout, layout.refcountTable)
  for (let i = 0; i < layout.refcountBlocks.clusterCount; i++)
    setOffset(table, i, layout.refcountBlocks.clusterIndex + i, layout, 0)
  table.finish()
  const blocks = tableFor(output, layout, layout.refcountBlocks)
  const { l2, zeroTableReferences, totalClusters } = layout
  const shared = sharedTableCount(zeroTableReferences)
  blocks.fillWords16(0, l2.clusterIndex, 1)
  for (let i = 0; i < shared; i++)
    blocks.fillWords16(l2.clusterIndex + i, 1, referencesTo(i, zeroTableReferences))
  blocks.fillWords16(l2.clusterIndex + shared, totalClusters - l2.clusterIndex - shared, 1)
  blocks.finish()
}

function writeL1(output: OutputFile, layout: Qcow2Layout, source: ImageSource): void {
  const table = tableFor(output, layout, layout.l1)
  const blocksPerL2 = layout.entriesPerTable * layout.blocksPerCluster
  let nextL2 = layout.l2.clusterIndex + sharedTableCount(layout.zeroTableReferences)
  let zeroReference = 0
  let last = -1
  for (const extent of clusterExtents(source, layout.blocksPerCluster)) {
    const zeroTables = wholeZeroTables(extent, blocksPerL2)
    const end = Math.floor((extent.blockIndex + extent.blockCount - 1) / blocksPerL2)
    for (let i = Math.max(last + 1, Math.floor(extent.blockIndex / blocksPerL2)); i <= end; i++) {
      if (i >= zeroTables.first && i < zeroTables.end) setZeroTable(table, i, zeroReference++, layout)
      else setOffset(table, i, nextL2++, layout, ENTRY_COPIED_HIGH)
    }
    last = end
  }
  table.finish()
}

/** An L1 entry that shares a table of zeros; the flag "refcount is 1" only where that is so. */
function setZeroTable(table: TableWriter, index: number, reference: number, layout: Qcow2Layout): void {
  const shared = Math.floor(reference / REFERENCES_MAX)
  const isOnly = referencesTo(shared, layout.zeroTableReferences) === 1
  setOffset(table, index, layout.l2.clusterIndex + shared, layout, isOnly ? ENTRY_COPIED_HIGH : 0)
}

function writeL2(output: OutputFile, layout: Qcow2Layout, source: ImageSource): void {
  const { entriesPerTable, blocksPerCluster } = layout
  const table = tableFor(output, layout, layout.l2)
  const shared = sharedTableCount(layout.zeroTableReferences)
  for (let i = 0; i < shared * entriesPerTable; i++) table.setWord(i, 0, ENTRY_ZERO_LOW)
  let nextData = layout.data.clusterIndex
  let ordinal = shared - 1
  let lastL1 = -1
  for (const extent of clusterExtents(source, blocksPerCluster)) {
    const zeroTables = wholeZeroTables(extent, entriesPerTable * blocksPerCluster)
    const end = Math.ceil((extent.blockIndex + extent.blockCount) / blocksPerCluster)
    for (let cluster = extent.blockIndex / blocksPerCluster; cluster < end; cluster++) {
      const l1Index = Math.floor(cluster / entriesPerTable)
      if (l1Index >= zeroTables.first && l1Index < zeroTables.end) {
        cluster = zeroTables.end * entriesPerTable - 1
        continue
      }
      if (l1Index !== lastL1) {
        lastL1 = l1Index
        ordinal++
      }
      const index = ordinal * entriesPerTable + (cluster % entriesPerTable)
      if (extent.kind === 'zero') table.setWord(index, 0, ENTRY_ZERO_LOW)
      else setOffset(table, index, nextData++, layout, ENTRY_COPIED_HIGH)
    }
  }
  table.finish()
}

/** The delta as a persistent bitmap: not in use, not recording by itself. */
function writeBitmap(
  output: OutputFile,
  layout: Qcow2Layout,
  bitmap: BitmapLayout,
  source: ImageSource,
): void {
  const name = Buffer.from(bitmap.name)
  const entry = Buffer.alloc(bitmap.directoryBytes)
  Qcow2BitmapEntry.encode(
    {
      tableOffset: bitmap.table.clusterIndex * layout.clusterBytes,
      tableEntryCount: bitmap.tableEntryCount,
      flags: 0,
      type: BITMAP_TYPE_DIRTY,
      granularityBits: bitmap.granularityBits,
      nameBytes: name.byteLength,
      extraDataBytes: 0,
    },
    entry,
  )
  entry.set(name, Qcow2BitmapEntry.sizeBytes)
  output.write(bitmap.directory.clusterIndex * layout.clusterBytes, entry.byteLength, entry, 0)

  const table = tableFor(output, layout, bitmap.table)
  const data = tableFor(output, layout, bitmap.data)
  const blocksPerBit = 2 ** bitmap.granularityBits / BLOCK_SIZE_BYTES
  const bitsPerCluster = layout.clusterBytes * 8
  let next = -1
  let lastCluster = -1
  for (const extent of source.extents()) {
    const endBit = Math.ceil((extent.blockIndex + extent.blockCount) / blocksPerBit)
    for (let bit = Math.floor(extent.blockIndex / blocksPerBit); bit < endBit; ) {
      const cluster = Math.floor(bit / bitsPerCluster)
      if (cluster !== lastCluster) {
        lastCluster = cluster
        next++
        setOffset(table, cluster, bitmap.data.clusterIndex + next, layout, 0)
      }
      const count = Math.min(endBit, (cluster + 1) * bitsPerCluster) - bit
      data.fillBits(next * bitsPerCluster + (bit % bitsPerCluster), count)
      bit += count
    }
  }
  table.finish()
  data.finish()
}

async function writeData(
  output: OutputFile,
  layout: Qcow2Layout,
  source: ImageSource,
  work: LongWork,
): Promise<string> {
  const digest = new ContentDigest(source.base === null ? 'full' : 'delta', layout.sizeBytes)
  const pace = new Pace(layout.dataBlockCount * BLOCK_SIZE_BYTES, work)
  let offsetBytes = layout.data.clusterIndex * layout.clusterBytes
  const extents = clusterExtents(source, layout.blocksPerCluster)
  await copyExtents(source.device, extents, digest, pace, (_blockIndex, blockCount, bytes) => {
    // Only the volume's last cluster can be short; nothing follows it.
    const lengthBytes = blockCount * BLOCK_SIZE_BYTES
    const written = output.writeLater(offsetBytes, lengthBytes, bytes, 0)
    offsetBytes += lengthBytes
    return written
  })
  pace.finish()
  return digest.finish()
}
