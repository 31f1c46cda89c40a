// Sizes: the block of the volume, and sizes as people write them.

import { UmbraError } from './errors.ts'

export const BLOCK_SIZE_BYTES = 4096
export const BLOCK_SIZE_LOG2 = 12
export const KIB = 1024
export const MIB = 1024 * KIB
export const GIB = 1024 * MIB
export const TIB = 1024 * GIB

/** A half-open range of 4096-byte blocks. */
export interface BlockRange {
  readonly blockIndex: number
  readonly blockCount: number
}

const FACTORS: Readonly<Record<string, number>> = { '': 1, K: KIB, M: MIB, G: GIB, T: TIB }

/**
 * Reads a size with a binary suffix: `512`, `4K`, `10G`, `1.5T`, also `10GiB`.
 * @throws UmbraError INVALID_ARGUMENT for anything else, or past 2^53 - 1
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text.trim())
  const factor = FACTORS[match?.[2]?.toUpperCase() ?? '-']
  const bytes = Number(match?.[1]) * (factor ?? Number.NaN)
  if (!Number.isSafeInteger(Math.round(bytes)) || Math.round(bytes) !== bytes) {
    throw new UmbraError('INVALID_ARGUMENT', `Not a size: ${JSON.stringify(text)} (write 512M, 10G, 1T)`)
  }
  return bytes
}

/** A size for people: `12.3 MiB`. */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ['TiB', TIB],
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= factor) return `${(bytes / factor).toFixed(bytes >= 100 * factor ? 0 : 1)} ${unit}`
  }
  return `${bytes} B`
}
