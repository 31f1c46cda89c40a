// Live reads, where other users own folders above the files: a link of theirs leads nowhere that is not theirs.

import { chownSync, lchownSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { LiveTree } from '../../src/shadow/requester/live-tree.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'

const SOMEBODY = 12_345

test('a folder that its owner replaced by a link is not followed', requires('root'), async (t) => {
  const folder = tempFolder(t)
  const at = (...names: string[]): string => join(folder, ...names)
  mkdirSync(at('secret'))
  writeFileSync(at('secret/file'), 'secret')
  mkdirSync(at('theirs/logs'), { recursive: true })
  writeFileSync(at('theirs/logs/file'), 'theirs')
  symlinkSync(at('theirs'), at('by-root'))
  for (const path of ['theirs', 'theirs/logs', 'theirs/logs/file']) chownSync(at(path), SOMEBODY, SOMEBODY)

  const read = async (path: string): Promise<string> => {
    using tree = new LiveTree()
    const sizeBytes = tree.find(path)?.sizeBytes ?? 0
    const reader = tree.open(path)
    try {
      const bytes = Buffer.alloc(sizeBytes)
      await reader.read(0, sizeBytes, bytes, 0)
      return bytes.toString()
    } finally {
      reader.close()
    }
  }
  t.is(await read(at('theirs/logs/file')), 'theirs')
  t.is(await read(at('by-root/logs/file')), 'theirs', "a link of root's is followed")
  using held = new LiveTree()
  t.alike(held.list(at('theirs/logs')), ['file'])

  renameSync(at('theirs/logs'), at('theirs/moved'))
  symlinkSync(at('secret'), at('theirs/logs'))
  lchownSync(at('theirs/logs'), SOMEBODY, SOMEBODY)
  const error = await read(at('theirs/logs/file')).catch((thrown: unknown) => thrown)
  t.ok(hasCode(error, 'EACCES'), String(error))
  t.is(held.find(at('theirs/logs/file'))?.sizeBytes, 6, 'what was listed is what is read')
  t.is(held.find(at('theirs/nothing/file')), undefined)
  t.is(held.find(at('theirs/moved/file/below')), undefined, 'a file is no folder')
  t.is(held.find(at('theirs/logs'))?.kind, 'symlink')
})
