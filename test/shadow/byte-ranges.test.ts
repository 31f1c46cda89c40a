// Byte ranges as text and as a ranges file.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import {
  type ByteRange,
  clipRanges,
  formatByteRanges,
  normalizeRanges,
  parseByteRanges,
  rangesFilePathIn,
  rangesFileReference,
  totalLengthBytes,
} from '../../src/shadow/documents/byte-ranges.ts'
import {
  decodeRangesFile,
  encodeRangesFile,
  readRangesFile,
  writeRangesFile,
} from '../../src/shadow/documents/ranges-file.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { tempFolder } from '../support/temp.ts'

const range = (offsetBytes: number, lengthBytes: number): ByteRange => ({ offsetBytes, lengthBytes })

function malformed(t: Assertion, work: () => unknown, message: string): void {
  try {
    t.fail(`${message}: taken as ${JSON.stringify(work())}`)
  } catch (error) {
    t.ok(hasCode(error, 'INVALID_DOCUMENT'), message)
  }
}

test('row 73: the text form, decimal and hexadecimal, with and without blanks, past 4 GiB', (t) => {
  t.alike(parseByteRanges('64:448,0x1239E8577A:65536'), [range(64, 448), range(0x1239e8577a, 65536)])
  t.alike(parseByteRanges('5000000000:1, 0X10:0x10'), [range(16, 16), range(5_000_000_000, 1)])
  t.alike(parseByteRanges('10:5,0:10'), [range(0, 15)], 'sorted, touching ones in one')
  t.alike(parseByteRanges('0:10,5:2,8:7'), [range(0, 15)], 'overlapping ones in one')
  t.alike(parseByteRanges('7:0'), [], 'an empty range is none')
  const toTheEnd = parseByteRanges('4096:0xffffffffffffffff')
  t.alike(clipRanges(toTheEnd, 10_000), [range(4096, 5904)], 'to the end of the file, however long')
  t.alike(clipRanges(parseByteRanges('0xffffffffffffff00:16'), 10_000), [])
  const bad = [
    '',
    ' ',
    ',',
    '1',
    '1:',
    ':1',
    '1:2:3',
    '1:2,',
    '1:2;3:4',
    '-1:2',
    '1.5:2',
    '1e3:2',
    '0x:1',
    'x:1',
    '0xg:1',
    '1 2:3',
  ]
  for (const text of bad) malformed(t, () => parseByteRanges(text), JSON.stringify(text))
  malformed(t, () => parseByteRanges('0:0x10000000000000000'), '65 bits')
  malformed(t, () => parseByteRanges(`0:${'9'.repeat(40)}`), 'a number without end')
})

test('row 73: what is written is read back, and covers the same bytes as a bitmap says', (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 200; round++) {
    const base = random.below(2) * 5 * 2 ** 32
    const given = Array.from({ length: random.below(12) }, () =>
      range(base + random.below(60), random.below(12)),
    )
    const truth = new Set(
      given.flatMap(({ offsetBytes, lengthBytes }) =>
        Array.from({ length: lengthBytes }, (_, i) => offsetBytes + i),
      ),
    )
    const merged = normalizeRanges(given)
    const covered = merged.flatMap(({ offsetBytes, lengthBytes }) =>
      Array.from({ length: lengthBytes }, (_, i) => offsetBytes + i),
    )
    const isSame = covered.length === truth.size && covered.every((byte) => truth.has(byte))
    const isApart = merged.every((one, i) => {
      const before = merged[i - 1]
      return one.lengthBytes > 0 && (!before || before.offsetBytes + before.lengthBytes < one.offsetBytes)
    })
    if (!isSame || !isApart) t.fail(JSON.stringify(given))
    const hex = given.map((r) => `0x${r.offsetBytes.toString(16)}:0x${r.lengthBytes.toString(16)}`).join(', ')
    if (given.length > 0) t.alike(parseByteRanges(hex), merged)
    t.alike(parseByteRanges(formatByteRanges(merged)), merged)
    t.alike(decodeRangesFile(encodeRangesFile(given)), merged)
    t.is(totalLengthBytes(merged), truth.size)
  }
})

test('row 73: a ranges file is named as File=PATH or by its path alone', (t) => {
  t.is(rangesFilePathIn('File=/var/x.ranges'), '/var/x.ranges')
  t.is(rangesFilePathIn('file=/var/x y'), '/var/x y')
  t.is(rangesFilePathIn('/var/x.ranges'), '/var/x.ranges')
  t.is(rangesFilePathIn('0:1'), undefined)
  t.is(rangesFilePathIn(rangesFileReference('/a:b,c')), '/a:b,c')
  malformed(t, () => rangesFilePathIn('File=x'), 'relative')
  malformed(t, () => rangesFilePathIn('File='), 'nothing')
})

test('row 73: the ranges file is little endian, counted, and refused unless it is whole', (t) => {
  const folder = tempFolder(t)
  const path = join(folder, 'ranges')
  const ranges = [range(0x1_0000_0001, 0x0203), range(7, 1)]
  writeRangesFile(path, ranges)
  t.alike(readRangesFile(path), [range(7, 1), range(0x1_0000_0001, 0x0203)])
  const bytes = encodeRangesFile([range(0x1_0000_0001, 0x0203)])
  t.is(Buffer.from(bytes).toString('hex'), '0100000000000000' + '0100000001000000' + '0302000000000000')
  malformed(t, () => decodeRangesFile(bytes.subarray(0, 23)), 'a byte short')
  malformed(t, () => decodeRangesFile(Buffer.concat([bytes, Buffer.alloc(1)])), 'a byte too many')
  malformed(t, () => decodeRangesFile(new Uint8Array(7)), 'no count')
  malformed(t, () => decodeRangesFile(Buffer.from('ffffffffffffffff', 'hex')), 'a count without its ranges')
  writeFileSync(path, Buffer.from('ffffffffffffff7f', 'hex'))
  malformed(t, () => readRangesFile(path), 'a count that no memory holds')
  t.alike(decodeRangesFile(new Uint8Array(8)), [])
})
