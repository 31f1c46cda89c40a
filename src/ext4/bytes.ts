// Little-endian numbers read and written in place: ext4's records are touched per request, and a
// DataView or an object for each would cost more than the work itself.
//
// Always true: offsets were bounded by the caller; reads give unsigned numbers.

export function read16(b: Uint8Array, at: number): number {
  return (b[at] as number) | ((b[at + 1] as number) << 8)
}

export function read32(b: Uint8Array, at: number): number {
  return (
    ((b[at] as number) |
      ((b[at + 1] as number) << 8) |
      ((b[at + 2] as number) << 16) |
      ((b[at + 3] as number) << 24)) >>>
    0
  )
}

export function write16(b: Uint8Array, at: number, value: number): void {
  b[at] = value
  b[at + 1] = value >>> 8
}

export function write32(b: Uint8Array, at: number, value: number): void {
  b[at] = value
  b[at + 1] = value >>> 8
  b[at + 2] = value >>> 16
  b[at + 3] = value >>> 24
}
