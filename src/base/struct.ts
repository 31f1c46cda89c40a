// On-disk and wire structures as tables of named fields at written offsets, checked when loaded.
//
// A structure is declared once: `struct('Name', sizeBytes, { field: kind(offset), ... })`. Building
// it throws if a field starts where none ended, overlaps another, or the sum is not the size; so a
// hex dump can be read beside the source. Padding is a named `zeros` field. Little and big endian
// are in the kind's name. 64-bit integers are numbers and must fit 2^53 - 1, checked both ways;
// words that are opaque (hashes, masks) use the bigint kinds or two u32.
//
// For arrays of records in hot loops use DataView or typed arrays with the offsets from `fields`.

import { assert } from './assert.ts'
import { UmbraError } from './errors.ts'

export interface FieldKind<T> {
  readonly offsetBytes: number
  readonly sizeBytes: number
  /** What docs call it: u32le, bytes, ascii... */
  readonly type: string
  get(view: DataView, baseBytes: number): T
  set(view: DataView, baseBytes: number, value: T): void
}

type Fields = Readonly<Record<string, FieldKind<unknown>>>
type ValueOf<F> = F extends FieldKind<infer T> ? T : never

export type StructValue<F extends Fields> = {
  -readonly [K in keyof F as ValueOf<F[K]> extends undefined ? never : K]: ValueOf<F[K]>
}

export interface Struct<F extends Fields> {
  readonly name: string
  readonly sizeBytes: number
  readonly fields: F
  /** Reads every field; bounds are checked, meaning is not. */
  decode(bytes: Uint8Array, offsetBytes?: number): StructValue<F>
  /** Zero-fills the structure's bytes, then writes every field. */
  encode(value: StructValue<F>, target?: Uint8Array, offsetBytes?: number): Uint8Array
}

export function struct<F extends Fields>(name: string, sizeBytes: number, fields: F): Struct<F> {
  checkLayout(name, sizeBytes, fields)
  const entries = Object.entries(fields)
  return {
    name,
    sizeBytes,
    fields,
    decode(bytes, offsetBytes = 0) {
      checkBounds(name, sizeBytes, bytes, offsetBytes)
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const value: Record<string, unknown> = {}
      for (const [key, field] of entries) {
        const read = field.get(view, offsetBytes)
        if (read !== undefined) value[key] = read
      }
      return value as StructValue<F>
    },
    encode(value, target = new Uint8Array(sizeBytes), offsetBytes = 0) {
      checkBounds(name, sizeBytes, target, offsetBytes)
      target.fill(0, offsetBytes, offsetBytes + sizeBytes)
      const view = new DataView(target.buffer, target.byteOffset, target.byteLength)
      for (const [key, field] of entries) {
        field.set(view, offsetBytes, (value as Record<string, unknown>)[key])
      }
      return target
    },
  }
}

function checkLayout(name: string, sizeBytes: number, fields: Fields): void {
  let endBytes = 0
  for (const [key, field] of Object.entries(fields)) {
    assert(
      field.offsetBytes === endBytes,
      `${name}.${key} is declared at ${field.offsetBytes} but the field before it ends at ${endBytes}`,
    )
    endBytes += field.sizeBytes
  }
  assert(
    endBytes === sizeBytes,
    `${name} is declared as ${sizeBytes} bytes but its fields end at ${endBytes}`,
  )
}

function checkBounds(name: string, sizeBytes: number, bytes: Uint8Array, offsetBytes: number): void {
  if (offsetBytes < 0 || offsetBytes + sizeBytes > bytes.byteLength) {
    throw new UmbraError(
      'TRUNCATED',
      `Cannot read or write ${name}: ${sizeBytes} bytes at ${offsetBytes} do not fit in ${bytes.byteLength}`,
    )
  }
}

function number(
  type: string,
  sizeBytes: number,
  offsetBytes: number,
  get: (v: DataView, at: number) => number,
  set: (v: DataView, at: number, x: number) => void,
  max: number,
  min = 0,
): FieldKind<number> {
  return {
    type,
    sizeBytes,
    offsetBytes,
    get: (view, base) => get(view, base + offsetBytes),
    set(view, base, value) {
      assert(Number.isInteger(value) && value >= min && value <= max, `${value} fits ${type}`)
      set(view, base + offsetBytes, value)
    },
  }
}

export const u8 = (at: number): FieldKind<number> =>
  number(
    'u8',
    1,
    at,
    (v, o) => v.getUint8(o),
    (v, o, x) => v.setUint8(o, x),
    0xff,
  )
export const u16le = (at: number): FieldKind<number> =>
  number(
    'u16le',
    2,
    at,
    (v, o) => v.getUint16(o, true),
    (v, o, x) => v.setUint16(o, x, true),
    0xffff,
  )
export const u32le = (at: number): FieldKind<number> =>
  number(
    'u32le',
    4,
    at,
    (v, o) => v.getUint32(o, true),
    (v, o, x) => v.setUint32(o, x, true),
    0xffffffff,
  )
export const i32le = (at: number): FieldKind<number> =>
  number(
    'i32le',
    4,
    at,
    (v, o) => v.getInt32(o, true),
    (v, o, x) => v.setInt32(o, x, true),
    0x7fffffff,
    -0x80000000,
  )
export const u16be = (at: number): FieldKind<number> =>
  number(
    'u16be',
    2,
    at,
    (v, o) => v.getUint16(o),
    (v, o, x) => v.setUint16(o, x),
    0xffff,
  )
export const u32be = (at: number): FieldKind<number> =>
  number(
    'u32be',
    4,
    at,
    (v, o) => v.getUint32(o),
    (v, o, x) => v.setUint32(o, x),
    0xffffffff,
  )
export const u64le = (at: number): FieldKind<number> =>
  number(
    'u64le',
    8,
    at,
    (v, o) => wide(v.getUint32(o + 4, true), v.getUint32(o, true)),
    (v, o, x) => {
      v.setUint32(o, x >>> 0, true)
      v.setUint32(o + 4, Math.floor(x / 2 ** 32), true)
    },
    Number.MAX_SAFE_INTEGER,
  )
export const u64be = (at: number): FieldKind<number> =>
  number(
    'u64be',
    8,
    at,
    (v, o) => wide(v.getUint32(o), v.getUint32(o + 4)),
    (v, o, x) => {
      v.setUint32(o + 4, x >>> 0)
      v.setUint32(o, Math.floor(x / 2 ** 32))
    },
    Number.MAX_SAFE_INTEGER,
  )

function wide(high: number, low: number): number {
  const value = high * 2 ** 32 + low
  if (value > Number.MAX_SAFE_INTEGER)
    throw new UmbraError(
      'CORRUPT',
      `A 64-bit field holds ${high.toString(16)}:${low.toString(16)}, which is past 2^53 - 1`,
    )
  return value
}

/** An opaque 64-bit word. */
export const word64le = (at: number): FieldKind<bigint> => ({
  type: 'word64le',
  sizeBytes: 8,
  offsetBytes: at,
  get: (v, b) => v.getBigUint64(b + at, true),
  set: (v, b, x) => v.setBigUint64(b + at, x, true),
})
export const word64be = (at: number): FieldKind<bigint> => ({
  type: 'word64be',
  sizeBytes: 8,
  offsetBytes: at,
  get: (v, b) => v.getBigUint64(b + at),
  set: (v, b, x) => v.setBigUint64(b + at, x),
})

/** Raw bytes, copied out; a shorter value is zero-padded, a longer one is a bug. */
export const bytes = (at: number, sizeBytes: number): FieldKind<Uint8Array> => ({
  type: `bytes[${sizeBytes}]`,
  sizeBytes,
  offsetBytes: at,
  get: (v, b) => new Uint8Array(v.buffer, v.byteOffset + b + at, sizeBytes).slice(),
  set(v, b, x) {
    assert(x.byteLength <= sizeBytes, `${x.byteLength} bytes fit ${sizeBytes}`)
    new Uint8Array(v.buffer, v.byteOffset + b + at, sizeBytes).set(x)
  },
})

/** A NUL-padded string of bytes, one char a byte (latin1); decodes up to the first NUL. */
export const ascii = (at: number, sizeBytes: number): FieldKind<string> => ({
  type: `ascii[${sizeBytes}]`,
  sizeBytes,
  offsetBytes: at,
  get(v, b) {
    let text = ''
    for (let i = 0; i < sizeBytes; i++) {
      const code = v.getUint8(b + at + i)
      if (code === 0) break
      text += String.fromCharCode(code)
    }
    return text
  },
  set(v, b, x) {
    assert(x.length <= sizeBytes, `${JSON.stringify(x)} fits ${sizeBytes} bytes`)
    for (let i = 0; i < x.length; i++) v.setUint8(b + at + i, x.charCodeAt(i) & 0xff)
  },
})

/** Padding: written as zeros, not decoded. */
export const zeros = (at: number, sizeBytes: number): FieldKind<undefined> => ({
  type: `zeros[${sizeBytes}]`,
  sizeBytes,
  offsetBytes: at,
  get: () => undefined,
  set: () => undefined,
})
