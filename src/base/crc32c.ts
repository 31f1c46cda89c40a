// CRC32C (Castagnoli, reflected polynomial 0x82F63B78), chained and without final inversion, as
// ext4 and the volume use it: crc = crc32c(crc, bytes), the first call seeded with ~0.
//
// The addon computes it with the processor's instruction where it is loaded; this twin (slicing by
// eight) is used otherwise and is the addon's oracle in tests.

import { loadAddon } from './addon.ts'

export const CRC32C_SEED = 0xffffffff

const TABLES = buildTables()

function buildTables(): Uint32Array {
  const tables = new Uint32Array(8 * 256)
  for (let i = 0; i < 256; i++) {
    let crc = i
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
    tables[i] = crc
  }
  for (let i = 256; i < 8 * 256; i++) {
    const before = tables[i - 256] as number
    tables[i] = (before >>> 8) ^ (tables[before & 0xff] as number)
  }
  return tables
}

/** The twin in TypeScript; same arguments and result as {@link crc32c}. */
export function crc32cPortable(
  seed: number,
  bytes: Uint8Array,
  offsetBytes = 0,
  lengthBytes = bytes.length - offsetBytes,
): number {
  const t = TABLES
  const end = offsetBytes + lengthBytes
  let crc = seed >>> 0
  let at = offsetBytes
  for (; at + 8 <= end; at += 8) {
    const a =
      crc ^
      ((bytes[at] as number) |
        ((bytes[at + 1] as number) << 8) |
        ((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 24))
    crc =
      (t[1792 + (a & 0xff)] as number) ^
      (t[1536 + ((a >>> 8) & 0xff)] as number) ^
      (t[1280 + ((a >>> 16) & 0xff)] as number) ^
      (t[1024 + (a >>> 24)] as number) ^
      (t[768 + (bytes[at + 4] as number)] as number) ^
      (t[512 + (bytes[at + 5] as number)] as number) ^
      (t[256 + (bytes[at + 6] as number)] as number) ^
      (t[bytes[at + 7] as number] as number)
  }
  for (; at < end; at++) crc = (crc >>> 8) ^ (t[(crc ^ (bytes[at] as number)) & 0xff] as number)
  return crc >>> 0
}

type Crc32c = (seed: number, bytes: Uint8Array, offsetBytes: number, lengthBytes: number) => number

let chosen: Crc32c | undefined

/** @returns the chained checksum, 0 to 2^32 - 1 */
export function crc32c(
  seed: number,
  bytes: Uint8Array,
  offsetBytes = 0,
  lengthBytes = bytes.length - offsetBytes,
): number {
  chosen ??= loadAddon()?.crc32c ?? crc32cPortable
  return chosen(seed, bytes, offsetBytes, lengthBytes)
}
