// The addon's checksum against published vectors and against the twin in TypeScript.

import test from 'brittle'
import { requireAddon } from '../../src/base/addon.ts'
import { CRC32C_SEED, crc32c, crc32cPortable } from '../../src/base/crc32c.ts'
import { chosenSeed, Random } from '../support/random.ts'

const addon = requireAddon()
const implementations = [
  ['instruction', addon.crc32c],
  ['table', addon.crc32cTable],
  ['twin', crc32cPortable],
] as const

// RFC 3720 B.4, and the check value of the catalogue of CRCs; all with the final inversion undone.
const VECTORS: readonly (readonly [string, Uint8Array, number])[] = [
  ['123456789', Buffer.from('123456789'), 0xe3069283],
  ['32 zeros', new Uint8Array(32), 0x8a9136aa],
  ['32 ones', new Uint8Array(32).fill(0xff), 0x62a8ab43],
  ['0 to 31', Uint8Array.from({ length: 32 }, (_, i) => i), 0x46dd794e],
  ['31 to 0', Uint8Array.from({ length: 32 }, (_, i) => 31 - i), 0x113fdb5c],
]

for (const [name, sum] of implementations) {
  test(`crc32c by ${name}: published vectors`, (t) => {
    for (const [label, bytes, expected] of VECTORS)
      t.is((~sum(CRC32C_SEED, bytes, 0, bytes.length) >>> 0).toString(16), expected.toString(16), label)
  })
}

test('crc32c: all implementations agree on any length, offset and seed', (t) => {
  const random = new Random(chosenSeed(t))
  const bytes = random.bytes(20_000)
  // The lengths around which the three streams begin and end, and random ones.
  const lengths = [0, 1, 7, 8, 9, 1360, 4079, 4080, 4081, 4087, 4088, 4092, 4096, 8159, 8160, 8161, 12240]
  for (let i = 0; i < 300; i++) lengths.push(random.below(19_000))
  let disagreements = 0
  for (const length of lengths) {
    const offset = random.below(16)
    const seed = random.below(2 ** 32)
    const expected = crc32cPortable(seed, bytes, offset, length)
    for (const [, sum] of implementations) if (sum(seed, bytes, offset, length) !== expected) disagreements++
  }
  t.is(disagreements, 0)
})

test('crc32c: chaining two parts is the sum of the whole; one changed bit is seen', (t) => {
  const bytes = new Random(1).bytes(9000)
  const whole = crc32c(CRC32C_SEED, bytes)
  for (const cut of [0, 1, 4080, 5000, 9000])
    t.is(crc32c(crc32c(CRC32C_SEED, bytes, 0, cut), bytes, cut), whole, `cut at ${cut}`)
  for (const at of [0, 1359, 1360, 4079, 4080, 8999]) {
    bytes[at] = (bytes[at] as number) ^ 1
    t.not(crc32c(CRC32C_SEED, bytes), whole, `bit flipped in byte ${at}`)
    bytes[at] = (bytes[at] as number) ^ 1
  }
})

test('crc32c: a range outside its bytes is refused', (t) => {
  t.is(addon.crc32c(0, new Uint8Array(8), 1, 8), -22)
  t.is(addon.crc32c(0, new Uint8Array(8), 9, 0), -22)
})
