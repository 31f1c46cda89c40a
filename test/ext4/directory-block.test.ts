// The codec of a directory's leaf blocks, and the memory of names beside it.

import test from 'brittle'
import {
  addRecord,
  checkDirectoryBlock,
  entryTypeOf,
  fileTypeOf,
  findRecord,
  findRoom,
  initDirectoryBlock,
  packRecords,
  RECORDS_END,
  recordIno,
  recordLength,
  recordName,
  recordSize,
  removeRecord,
  sealDirectoryBlock,
} from '../../src/ext4/directory-block.ts'
import { DirectoryIndexCache } from '../../src/ext4/directory-index.ts'
import { codeOf } from '../support/ext4-files.ts'
import { chosenSeed, Random } from '../support/random.ts'

function contents(bytes: Uint8Array): Map<string, number> {
  const found = new Map<string, number>()
  for (let at = 0; at < RECORDS_END; at += recordLength(bytes, at)) {
    if (recordIno(bytes, at) !== 0) found.set(recordName(bytes, at), recordIno(bytes, at))
  }
  return found
}

test('records are added, found, removed and packed as in a map', (t) => {
  const random = new Random(chosenSeed(t))
  const bytes = new Uint8Array(4096)
  const model = new Map<string, number>()
  let full = 0
  initDirectoryBlock(bytes)
  for (let step = 1; step <= 5000; step++) {
    const name = `${random.below(400)}`.padEnd(random.between(1, 255) * (random.chance(0.2) ? 1 : 0), '\xff')
    const at = findRecord(bytes, name)
    if (at >= 0 !== model.has(name)) t.fail(`${name} is found`)
    if (at >= 0) {
      removeRecord(bytes, at)
      model.delete(name)
    } else {
      const room = findRoom(bytes, recordSize(name.length))
      if (room < 0) full++
      else {
        addRecord(bytes, room, step, name, 1)
        model.set(name, step)
      }
    }
    if (step % 250 !== 0) continue
    sealDirectoryBlock(bytes, 7)
    checkDirectoryBlock(bytes, 7, 2)
    t.alike([...contents(bytes)].sort(), [...model].sort())
    const packed = new Uint8Array(4096)
    packRecords(
      packed,
      bytes,
      [...model.keys()].map((key) => findRecord(bytes, key)),
    )
    sealDirectoryBlock(packed, 7)
    checkDirectoryBlock(packed, 7, 2)
    t.alike([...contents(packed)].sort(), [...model].sort())
  }
  t.ok(full > 0, `${full} times there was no room`)
})

test('a block with any damaged length is refused, also under a right checksum', (t) => {
  const random = new Random(chosenSeed(t))
  const whole = new Uint8Array(4096)
  initDirectoryBlock(whole)
  for (let i = 1; i < 60; i++) addRecord(whole, findRoom(whole, recordSize(20)), i, `${i}`.padEnd(20, 'x'), 1)
  sealDirectoryBlock(whole, 1)
  checkDirectoryBlock(whole, 1, 2)
  let refused = 0
  for (let round = 0; round < 2000; round++) {
    const bytes = whole.slice()
    const at = random.below(4096)
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8))
    t.ok(codeOf(() => checkDirectoryBlock(bytes, 1, 2)) !== '', `bit ${at} is covered`)
    sealDirectoryBlock(bytes, 1)
    const code = codeOf(() => checkDirectoryBlock(bytes, 1, 2))
    if (code === 'CORRUPT') refused++
    else if (contents(bytes).size > 400) t.fail('the walk ends')
  }
  t.ok(refused > 50, `${refused} refused`)
  t.is(
    codeOf(() => checkDirectoryBlock(new Uint8Array(4096), 1, 2)),
    'CORRUPT',
    'zeros',
  )
})

test('file types map to d_type and from modes', (t) => {
  for (const [mode, type] of [
    [0o100644, 8],
    [0o040755, 4],
    [0o020600, 2],
    [0o060600, 6],
    [0o010600, 1],
    [0o140600, 12],
    [0o120777, 10],
  ] as const) {
    t.is(entryTypeOf(fileTypeOf(mode)), type)
  }
  t.is(entryTypeOf(99), 0)
})

test('DirectoryIndexCache forgets the least recently used names beyond its limit', (t) => {
  const cache = new DirectoryIndexCache(100)
  const add = (ino: number, count: number): void => {
    const index = cache.get(ino, () => 0)
    cache.start(index)
    for (let i = 0; i < count; i++) cache.set(index, `${i}`, 1)
  }
  const names = (ino: number): number | undefined => cache.get(ino, () => 0).names?.size
  add(1, 40)
  add(2, 40)
  t.is(names(1), 40)
  add(3, 30)
  t.is(names(2), undefined, 'directory 2 was used longest ago')
  t.is(names(1), 40)
  t.is(names(3), 30)
  t.is(cache.nameCount, 70)
  add(4, 101)
  t.is(names(4), undefined, 'too large by itself')
  t.ok(cache.nameCount <= 100)
  cache.forget(3)
  t.is(names(3), undefined)
})
