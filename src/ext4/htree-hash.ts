// The hashes that order an indexed directory: half MD4, TEA and the first, "legacy" one; each over
// signed or unsigned chars, as the superblock's flags say.
//
// Always true: `major` is even (its low bit means "goes on in the next block" in index entries) and
// never 0xfffffffe, which means the end to readers. The result object is reused by each call.
// Source: Linux fs/ext4/hash.c; RFC 1320 for MD4's rounds.

export const HASH_LEGACY = 0
export const HASH_HALF_MD4 = 1
export const HASH_TEA = 2

export interface HashValue {
  /** 32 bits, even. */
  major: number
  /** 32 bits. */
  minor: number
}

/** The parameters of a file system's hashes. */
export interface HashKey {
  readonly version: number
  readonly unsigned: boolean
  /** Four words; all zero: the algorithm's own initial values. */
  readonly seed: Uint32Array
}

const END_OF_HASHES = 0xfffffffe
const INITIAL = new Uint32Array([0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476])

const state = new Int32Array(4)
const words = new Int32Array(8)

/** Hash of a name of 1 to 255 bytes. @returns in `result`, which is also given back */
export function hashName(name: string, key: HashKey, result: HashValue): HashValue {
  const seeded = ((key.seed[0] as number) | (key.seed[1] as number) | (key.seed[2] as number)) !== 0
  state.set(seeded || key.seed[3] !== 0 ? key.seed : INITIAL)
  let major: number
  let minor = 0
  if (key.version === HASH_TEA) {
    for (let at = 0; at < name.length; at += 16) {
      pack(name, at, 4, key.unsigned)
      teaTransform()
    }
    major = state[0] as number
    minor = state[1] as number
  } else if (key.version === HASH_HALF_MD4) {
    for (let at = 0; at < name.length; at += 32) {
      pack(name, at, 8, key.unsigned)
      halfMd4Transform()
    }
    major = state[1] as number
    minor = state[2] as number
  } else {
    major = legacyHash(name, key.unsigned)
  }
  major = (major & ~1) >>> 0
  result.major = major === END_OF_HASHES ? END_OF_HASHES - 2 : major
  result.minor = minor >>> 0
  return result
}

function charAt(name: string, at: number, unsigned: boolean): number {
  const code = name.charCodeAt(at)
  return unsigned ? code : (code << 24) >> 24
}

/** Fills `wordCount` words with the chars from `at` on, padded by the length that is left. */
function pack(name: string, at: number, wordCount: number, unsigned: boolean): void {
  const left = name.length - at
  const byte = left & 0xff
  const padding = byte | (byte << 8) | (byte << 16) | (byte << 24)
  const length = Math.min(left, wordCount * 4)
  let word = padding
  let filled = 0
  for (let i = 0; i < length; i++) {
    word = (charAt(name, at + i, unsigned) + (word << 8)) | 0
    if ((i & 3) === 3) {
      words[filled++] = word
      word = padding
    }
  }
  if (filled < wordCount) words[filled++] = word
  while (filled < wordCount) words[filled++] = padding
}

function teaTransform(): void {
  let sum = 0
  let b0 = state[0] as number
  let b1 = state[1] as number
  const a = words[0] as number
  const b = words[1] as number
  const c = words[2] as number
  const d = words[3] as number
  for (let round = 0; round < 16; round++) {
    sum = (sum + 0x9e3779b9) | 0
    b0 = (b0 + (((b1 << 4) + a) ^ (b1 + sum) ^ ((b1 >>> 5) + b))) | 0
    b1 = (b1 + (((b0 << 4) + c) ^ (b0 + sum) ^ ((b0 >>> 5) + d))) | 0
  }
  state[0] = (state[0] as number) + b0
  state[1] = (state[1] as number) + b1
}

const ROUND_2 = 0x5a827999
const ROUND_3 = 0x6ed9eba1
const ORDER_1 = [0, 1, 2, 3, 4, 5, 6, 7]
const ORDER_2 = [1, 3, 5, 7, 0, 2, 4, 6]
const ORDER_3 = [3, 7, 2, 6, 1, 5, 0, 4]

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits))
}

function halfMd4Transform(): void {
  let a = state[0] as number
  let b = state[1] as number
  let c = state[2] as number
  let d = state[3] as number
  for (let half = 0; half < 8; half += 4) {
    a = rotate((a + (d ^ (b & (c ^ d))) + word(ORDER_1, half)) | 0, 3)
    d = rotate((d + (c ^ (a & (b ^ c))) + word(ORDER_1, half + 1)) | 0, 7)
    c = rotate((c + (b ^ (d & (a ^ b))) + word(ORDER_1, half + 2)) | 0, 11)
    b = rotate((b + (a ^ (c & (d ^ a))) + word(ORDER_1, half + 3)) | 0, 19)
  }
  for (let half = 0; half < 8; half += 4) {
    a = rotate((a + ((b & c) + ((b ^ c) & d)) + word(ORDER_2, half) + ROUND_2) | 0, 3)
    d = rotate((d + ((a & b) + ((a ^ b) & c)) + word(ORDER_2, half + 1) + ROUND_2) | 0, 5)
    c = rotate((c + ((d & a) + ((d ^ a) & b)) + word(ORDER_2, half + 2) + ROUND_2) | 0, 9)
    b = rotate((b + ((c & d) + ((c ^ d) & a)) + word(ORDER_2, half + 3) + ROUND_2) | 0, 13)
  }
  for (let half = 0; half < 8; half += 4) {
    a = rotate((a + (b ^ c ^ d) + word(ORDER_3, half) + ROUND_3) | 0, 3)
    d = rotate((d + (a ^ b ^ c) + word(ORDER_3, half + 1) + ROUND_3) | 0, 9)
    c = rotate((c + (d ^ a ^ b) + word(ORDER_3, half + 2) + ROUND_3) | 0, 11)
    b = rotate((b + (c ^ d ^ a) + word(ORDER_3, half + 3) + ROUND_3) | 0, 15)
  }
  state[0] = (state[0] as number) + a
  state[1] = (state[1] as number) + b
  state[2] = (state[2] as number) + c
  state[3] = (state[3] as number) + d
}

function word(order: readonly number[], index: number): number {
  return words[order[index] as number] as number
}

function legacyHash(name: string, unsigned: boolean): number {
  let hash0 = 0x12a3fe2d
  let hash1 = 0x37abe8f9
  for (let i = 0; i < name.length; i++) {
    let hash = (hash1 + (hash0 ^ Math.imul(charAt(name, i, unsigned), 7152373))) >>> 0
    if (hash & 0x80000000) hash = (hash - 0x7fffffff) >>> 0
    hash1 = hash0
    hash0 = hash
  }
  return (hash0 << 1) >>> 0
}
