import { execFileSync } from 'node:child_process'
import test from 'brittle'
import { HASH_HALF_MD4, HASH_LEGACY, HASH_TEA, hashName } from '../../src/ext4/htree-hash.ts'
import { requires } from '../support/requires.ts'

const SEED_TEXT = '00010203-0405-0607-0809-0a0b0c0d0e0f'
const SEED = new Uint32Array(Uint8Array.from({ length: 16 }, (_, i) => i).buffer)
const NAMES = ['a', 'hello', 'exactly-16-bytes', '\xc3\xa9\xff\x80', `${'a'.repeat(65)}b`, 'x'.repeat(255)]

test('hashName() agrees with debugfs for each algorithm', requires('debugfs'), (t) => {
  for (const [name, version] of [
    ['legacy', HASH_LEGACY],
    ['half_md4', HASH_HALF_MD4],
    ['tea', HASH_TEA],
  ] as const) {
    for (const text of NAMES) {
      const request = Buffer.from(`dx_hash -h ${name} -s ${SEED_TEXT} ${text}\n`, 'latin1')
      const said = execFileSync('/usr/sbin/debugfs', [], {
        input: request,
        stdio: ['pipe', 'pipe', 'ignore'],
      })
      const match = /is (0x[0-9a-f]+) \(minor (0x[0-9a-f]+)\)/.exec(said.toString('latin1'))
      const hash = hashName(text, { version, unsigned: false, seed: SEED }, { major: 0, minor: 0 })
      t.is(hash.major, Number(match?.[1]), `${name} of ${text.length} bytes`)
      t.is(hash.minor, Number(match?.[2]), `${name} of ${text.length} bytes, minor`)
    }
  }
})

test('hashName() tells signed from unsigned chars only above 127', (t) => {
  const both = (name: string) =>
    [true, false].map((unsigned) => ({
      ...hashName(name, { version: HASH_HALF_MD4, unsigned, seed: SEED }, { major: 0, minor: 0 }),
    }))
  t.alike(both('plain')[0], both('plain')[1])
  t.unlike(both('\xe9')[0], both('\xe9')[1])
})
