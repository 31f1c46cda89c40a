// Names, paths and masks: which files a specification names and what a backup's type asks of them.

import test from 'brittle'
import {
  effectiveType,
  isBackupRequired,
  isSnapshotRequired,
  maskFromNumber,
  maskNumber,
  needsSnapshot,
  requiredFileSets,
} from '../../src/shadow/documents/file-set-mask.ts'
import {
  doOverlap,
  filespecFault,
  isExcluded,
  isSameSpec,
  matchesFile,
  matchesName,
  pathFault,
} from '../../src/shadow/documents/file-spec.ts'
import { BACKUP_TYPES, MASKED_TYPES } from '../../src/shadow/documents/vocabulary.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { builder } from './sample-documents.ts'

const spec = (path: string, filespec = '*', recursive = false) => ({ path, filespec, recursive })

test('names match as text, or as bytes where they are none', (t) => {
  const cases: readonly [string, string, boolean][] = [
    ['*', 'anything', true],
    ['*', '.hidden', true],
    ['*.*', 'no-dot', false],
    ['*.txt', 'a.txt', true],
    ['*.txt', 'a.TXT', false],
    ['?', '\u{1f600}', true],
    ['??', '\u{1f600}', false],
    ['a*b*c', 'a-b-b-c', true],
    ['a*b*c', 'a-b-b', false],
    ['File1.*', 'File1.', true],
    ['File1.*', 'File1', false],
    ['**', '', true],
    ['[ab]', 'a', false],
    ['[ab]', '[ab]', true],
  ]
  for (const [filespec, name, expected] of cases) {
    t.is(matchesName(filespec, name), expected, `${filespec} against ${name}`)
    t.is(matchesName(filespec, Buffer.from(name)), expected, `${filespec} against the bytes of ${name}`)
  }
  const bytes = Buffer.from([0x61, 0xff, 0x62])
  t.ok(matchesName('a?b', bytes), 'a byte that is no character is one')
  t.ok(matchesName('a*', bytes))
  t.absent(matchesName('a\ufffdb', bytes), 'what stands for a bad byte is not that byte')
  t.ok(matchesName('a\ufffdb', 'a\ufffdb'))
  t.ok(matchesFile(spec('/data', 'a?b', true), Buffer.concat([Buffer.from('/data/x/'), bytes])))
  t.absent(matchesFile(spec('/data', 'a?b'), Buffer.concat([Buffer.from('/data/x/'), bytes])))
})

test('a long pattern of stars ends soon', (t) => {
  t.absent(matchesName(`${'*a'.repeat(60)}*b`, 'a'.repeat(255)))
})

test('row 59: excludes win, on the default path; the example of Directory and File1', (t) => {
  const excludes = [spec('/docs/Directory', 'File1.*')]
  t.ok(isExcluded(excludes, '/docs/Directory/File1.txt'))
  t.absent(isExcluded(excludes, '/docs/Directory/File2.txt'))
  t.absent(isExcluded(excludes, '/docs/Directory/below/File1.txt'), 'not recursive')
  t.absent(isExcluded(excludes, '/docs/DirectoryTwo/File1.txt'))
  t.ok(isExcluded([spec('/', '*.tmp', true)], '/a/b/c.tmp'))
  t.ok(isExcluded([spec('/', 'x')], '/x'))
  t.absent(isExcluded([spec('/', 'x')], '/y/x'))
})

test('what is no clean path or filespec', (t) => {
  for (const path of ['a', '', '/a/', '//', '/a//b', '/a/./b', '/a/..', '/a/*', '/a?', '/a\0']) {
    t.ok(pathFault(path), JSON.stringify(path))
  }
  for (const path of ['/', '/a', '/a b/.c', '/\u00e4']) t.absent(pathFault(path), path)
  for (const name of ['', 'a/b', '.', '..', 'a\0']) t.ok(filespecFault(name), JSON.stringify(name))
})

test('two specs overlap exactly when a file could match both', (t) => {
  const random = new Random(chosenSeed(t))
  const alphabet = ['a', 'b', '*', '?']
  const pattern = (): string =>
    Array.from({ length: 1 + random.below(4) }, () => alphabet[random.below(4)] as string).join('')
  const names = ['']
  for (let length = 1, from = 0; length <= 6; length++) {
    const to = names.length
    for (; from < to; from++) for (const letter of ['a', 'b', 'c']) names.push(`${names[from]}${letter}`)
  }
  let overlaps = 0
  for (let round = 0; round < 300; round++) {
    const [a, b] = [pattern(), pattern()]
    // The shortest name that matches both has at most six letters: each needs no more than its own length without stars.
    const expected = names.some((name) => name !== '' && matchesName(a, name) && matchesName(b, name))
    if (expected) overlaps++
    const isEmptyOnly = !expected && /^\*+$/.test(a) && /^\*+$/.test(b)
    if (doOverlap(spec('/d', a), spec('/d', b)) !== (expected || isEmptyOnly)) t.fail(`${a} and ${b}`)
  }
  t.ok(overlaps > 30 && overlaps < 290, `${overlaps} of 300 overlap`)
  t.ok(doOverlap(spec('/a', '*', true), spec('/a/b/c', '*')))
  t.absent(doOverlap(spec('/a', '*'), spec('/a/b', '*', true)))
  t.absent(doOverlap(spec('/a', '*', true), spec('/ab', '*', true)))
  t.ok(isSameSpec(spec('/a'), spec('/a')))
  t.absent(isSameSpec(spec('/a'), spec('/a', '*', true)))
})

test('row 68: every mask against every type', (t) => {
  const bits = { full: 1, differential: 2, incremental: 4, log: 8 } as const
  for (let number = 0; number < 0x1000; number++) {
    if ((number & 0xf0) !== 0) continue
    const mask = maskFromNumber(number)
    if (maskNumber(mask) !== number) t.fail(`mask ${number}`)
    for (const type of MASKED_TYPES) {
      const isBackup = (number & bits[type]) !== 0
      const isSnapshot = ((number >> 8) & bits[type]) !== 0
      if (isBackupRequired(mask, type) !== isBackup) t.fail(`${type}: backup bits of ${number}`)
      if (isSnapshotRequired(mask, type) !== isSnapshot) t.fail(`${type}: snapshot bits of ${number}`)
    }
    if (!isBackupRequired(mask, 'copy') || !isSnapshotRequired(mask, 'copy')) t.fail('copy takes all')
  }
  t.is(maskNumber(maskFromNumber(0x10f0f)), 0x10f0f)
})

test('row 68: a LOG-only mandatory component contributes nothing to a full', (t) => {
  const document = builder().setBackupSchema('log', 'incremental')
  document.addFileGroup({ name: 'plain' }).addFiles({ path: '/plain' })
  document
    .addDatabase({ name: 'logged', selectable: false })
    .addDatabaseFiles({ path: '/db', filespec: 'main', ...maskFromNumber(0x000) })
    .addLogFiles({ path: '/log', ...maskFromNumber(0x808) })
  const [plain, logged] = document.build().components
  if (!plain || !logged) return t.fail()
  t.alike(requiredFileSets(logged, 'full'), [], 'mandatory, yet a full has nothing of it')
  t.is(requiredFileSets(logged, 'log').length, 1)
  t.is(requiredFileSets(plain, 'log').length, 0, 'a log backup takes database logs only')
  t.alike(
    BACKUP_TYPES.map((type) => needsSnapshot(logged, type)),
    [false, false, false, true, true],
    'and needs no snapshot but for a log or a copy',
  )
  t.ok(needsSnapshot(plain, 'incremental'), 'the default mask needs one')
})

test('row 65: a type that the writer does not know is a full for it', (t) => {
  const document = builder().setBackupSchema('incremental', 'timestamped')
  document.addFileGroup({ name: 'data' })
  const metadata = document.build()
  t.alike(
    BACKUP_TYPES.map((type) => effectiveType(metadata, type)),
    ['full', 'incremental', 'full', 'full', 'copy'],
  )
})
