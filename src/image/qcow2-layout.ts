// Where every part of a qcow2 image that we write goes, computed from its extents before a byte is written.
//
// Always true: parts follow each other in the order of qcow2-format.ts without gaps, each from a cluster
// border; every cluster of the file has exactly one owner, so every refcount is 1, but for the L2 tables
// of zeros alone: a long discard's L1 entries share one, as those of qemu's internal snapshots do, and its
// refcount is their number; the layout is within qemu's limits (32 MiB of L1, 8 MiB of refcount table, 512 MiB of bitmap).

import { assert } from '../base/assert.ts'
import { UmbraError } from '../base/errors.ts'
import { BLOCK_SIZE_BYTES, BLOCK_SIZE_LOG2 } from '../base/units.ts'
import type { DeltaExtent } from '../volume/points.ts'
import { type ImageSource, roundExtents } from './image-source.ts'
import { LIMITS, Qcow2BitmapEntry } from './qcow2-format.ts'

/** A run of whole clusters in the file. */
export interface ClusterRun {
  readonly clusterIndex: number
  readonly clusterCount: number
}

export interface BitmapLayout {
  readonly name: string
  readonly granularityBits: number
  /** Clusters of bitmap data if none were left out: entries of the table. */
  readonly tableEntryCount: number
  readonly directoryBytes: number
  readonly directory: ClusterRun
  readonly table: ClusterRun
  readonly data: ClusterRun
}

export interface Qcow2Layout {
  readonly clusterBits: number
  readonly clusterBytes: number
  readonly blocksPerCluster: number
  /** Entries of 8 bytes in a table of one cluster. */
  readonly entriesPerTable: number
  readonly sizeBytes: number
  readonly l1EntryCount: number
  readonly refcountTable: ClusterRun
  readonly refcountBlocks: ClusterRun
  readonly l1: ClusterRun
  readonly bitmap: BitmapLayout | null
  /** The shared tables of zeros come first. */
  readonly l2: ClusterRun
  /** L1 entries that refer to a shared table of zeros. */
  readonly zeroTableReferences: number
  readonly data: ClusterRun
  readonly totalClusters: number
  /** Blocks that the data extents cover. */
  readonly dataBlockCount: number
}

interface Counts {
  readonly dataClusters: number
  readonly dataBlocks: number
  readonly l2Tables: number
  readonly zeroTableReferences: number
  readonly bitmapClusters: number
}

/**
 * @param bitmapName null: no bitmap
 * @param headerBytes what the first cluster must hold
 * @throws UmbraError LIMIT_EXCEEDED if no legal cluster size holds it
 */
export function planQcow2(source: ImageSource, bitmapName: string | null, headerBytes = 0): Qcow2Layout {
  const sizeBytes = source.blockCount * BLOCK_SIZE_BYTES
  for (let clusterBits = BLOCK_SIZE_LOG2; clusterBits <= LIMITS.maxClusterBits; clusterBits++) {
    const entriesPerTable = 2 ** (clusterBits - 3)
    const l1EntryCount = Math.max(1, Math.ceil(sizeBytes / (entriesPerTable * 2 ** clusterBits)))
    if (l1EntryCount * 8 > LIMITS.l1Bytes || headerBytes > 2 ** clusterBits) continue
    const layout = arrange(source, clusterBits, l1EntryCount, bitmapName)
    if (layout.refcountTable.clusterCount * layout.clusterBytes <= LIMITS.refcountTableBytes) return layout
  }
  throw new UmbraError('LIMIT_EXCEEDED', `A volume of ${sizeBytes} bytes is too large for a qcow2 image`)
}

/** The source's extents in units of the layout's clusters. */
export function clusterExtents(source: ImageSource, blocksPerCluster: number): Iterable<DeltaExtent> {
  return roundExtents(source.extents(), blocksPerCluster, source.blockCount)
}

function arrange(
  source: ImageSource,
  clusterBits: number,
  l1EntryCount: number,
  bitmapName: string | null,
): Qcow2Layout {
  const clusterBytes = 2 ** clusterBits
  const blocksPerCluster = clusterBytes / BLOCK_SIZE_BYTES
  const entriesPerTable = clusterBytes / 8
  const sizeBytes = source.blockCount * BLOCK_SIZE_BYTES
  const granularityBits = bitmapGranularityBits(sizeBytes)
  const counts = count(source, blocksPerCluster, entriesPerTable, 2 ** (granularityBits + 3) * clusterBytes)

  const l1Clusters = Math.ceil((l1EntryCount * 8) / clusterBytes)
  const nameBytes = bitmapName === null ? 0 : Buffer.byteLength(bitmapName)
  const directoryBytes = Math.ceil((Qcow2BitmapEntry.sizeBytes + nameBytes) / 8) * 8
  const tableEntryCount = Math.max(1, Math.ceil(sizeBytes / 2 ** (granularityBits + 3) / clusterBytes))
  const bitmapParts =
    bitmapName === null
      ? [0, 0, 0]
      : [
          Math.ceil(directoryBytes / clusterBytes),
          Math.ceil((tableEntryCount * 8) / clusterBytes),
          counts.bitmapClusters,
        ]
  const others =
    1 + l1Clusters + bitmapParts.reduce((sum, n) => sum + n, 0) + counts.l2Tables + counts.dataClusters
  const refcounts = refcountClusters(others, clusterBytes)

  const runs = placeRuns([
    1,
    refcounts.tableClusters,
    refcounts.blockClusters,
    l1Clusters,
    ...bitmapParts,
    counts.l2Tables,
    counts.dataClusters,
  ])
  const [, refcountTable, refcountBlocks, l1, directory, table, bitmapData, l2, data] = runs as Nine
  return {
    clusterBits,
    clusterBytes,
    blocksPerCluster,
    entriesPerTable,
    sizeBytes,
    l1EntryCount,
    refcountTable,
    refcountBlocks,
    l1,
    bitmap:
      bitmapName === null
        ? null
        : {
            name: bitmapName,
            granularityBits,
            tableEntryCount,
            directoryBytes,
            directory,
            table,
            data: bitmapData,
          },
    l2,
    zeroTableReferences: counts.zeroTableReferences,
    data,
    totalClusters: data.clusterIndex + data.clusterCount,
    dataBlockCount: counts.dataBlocks,
  }
}

type Nine = [
  ClusterRun,
  ClusterRun,
  ClusterRun,
  ClusterRun,
  ClusterRun,
  ClusterRun,
  ClusterRun,
  ClusterRun,
  ClusterRun,
]

function placeRuns(clusterCounts: readonly number[]): ClusterRun[] {
  let next = 0
  return clusterCounts.map((clusterCount) => {
    const run = { clusterIndex: next, clusterCount }
    next += clusterCount
    return run
  })
}

/** 4096 bytes a bit, or the least above it with which the bitmap stays within qemu's limit. */
function bitmapGranularityBits(sizeBytes: number): number {
  let bits = BLOCK_SIZE_LOG2
  while (sizeBytes / 2 ** (bits + 3) > LIMITS.bitmapBytes) bits++
  assert(bits <= LIMITS.bitmapGranularityBits, 'a bitmap granularity that qemu reads is enough')
  return bits
}

function count(
  source: ImageSource,
  blocksPerCluster: number,
  entriesPerTable: number,
  bytesPerBitmapCluster: number,
): Counts {
  const l2Tables = new DistinctCounter(entriesPerTable * blocksPerCluster)
  const bitmapClusters = new DistinctCounter(bytesPerBitmapCluster / BLOCK_SIZE_BYTES)
  let dataClusters = 0
  let dataBlocks = 0
  let zeroTableReferences = 0
  for (const extent of clusterExtents(source, blocksPerCluster)) {
    l2Tables.add(extent)
    const zeroTables = wholeZeroTables(extent, entriesPerTable * blocksPerCluster)
    zeroTableReferences += zeroTables.end - zeroTables.first
    if (extent.kind !== 'data') continue
    dataClusters += Math.ceil(extent.blockCount / blocksPerCluster)
    dataBlocks += extent.blockCount
  }
  for (const extent of source.extents()) bitmapClusters.add(extent)
  return {
    dataClusters,
    dataBlocks,
    l2Tables: l2Tables.count - zeroTableReferences + sharedTableCount(zeroTableReferences),
    zeroTableReferences,
    bitmapClusters: bitmapClusters.count,
  }
}

/** L1 indexes, half open, whose whole range an extent makes zero. */
export function wholeZeroTables(extent: DeltaExtent, blocksPerTable: number): { first: number; end: number } {
  const first = Math.ceil(extent.blockIndex / blocksPerTable)
  if (extent.kind !== 'zero') return { first, end: first }
  return { first, end: Math.max(first, Math.floor((extent.blockIndex + extent.blockCount) / blocksPerTable)) }
}

/** A refcount of 16 bits counts this many references. */
export const REFERENCES_MAX = 2 ** (2 ** LIMITS.refcountOrder) - 1

export function sharedTableCount(references: number): number {
  return Math.ceil(references / REFERENCES_MAX)
}

/** References to the shared table with this ordinal: all that fit, the rest for the last. */
export function referencesTo(table: number, references: number): number {
  return Math.min(REFERENCES_MAX, references - table * REFERENCES_MAX)
}

/** Counts the units that ascending extents touch. */
class DistinctCounter {
  readonly #unitBlocks: number
  #last = -1
  count = 0

  constructor(unitBlocks: number) {
    this.#unitBlocks = unitBlocks
  }

  add(extent: DeltaExtent): void {
    const first = Math.floor(extent.blockIndex / this.#unitBlocks)
    const last = Math.floor((extent.blockIndex + extent.blockCount - 1) / this.#unitBlocks)
    this.count += last - Math.max(first, this.#last + 1) + 1
    this.#last = last
  }
}

/** Refcount blocks count themselves and their table, so the numbers are grown until they hold. */
function refcountClusters(
  otherClusters: number,
  clusterBytes: number,
): { tableClusters: number; blockClusters: number } {
  const refcountsPerBlock = (clusterBytes * 8) / 2 ** LIMITS.refcountOrder
  let tableClusters = 1
  let blockClusters = 1
  for (;;) {
    const total = otherClusters + tableClusters + blockClusters
    const blocks = Math.ceil(total / refcountsPerBlock)
    const tables = Math.ceil((blocks * 8) / clusterBytes)
    if (blocks <= blockClusters && tables <= tableClusters) return { tableClusters, blockClusters }
    blockClusters = Math.max(blocks, blockClusters)
    tableClusters = Math.max(tables, tableClusters)
  }
}
