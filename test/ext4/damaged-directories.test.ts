// Damaged directories, with right checksums as a hostile image would have them: each operation ends,
// with an answer or with an error that says so.

import test from 'brittle'
import { sealDirectoryBlock } from '../../src/ext4/directory-block.ts'
import { NODE_ENTRIES_AT, ROOT_ENTRIES_AT, sealIndexBlock } from '../../src/ext4/htree.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { Ext4Structure } from '../../src/ext4/structure.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { codeOf, makeFiles, openFiles, ROOT } from '../support/ext4-files.ts'
import { chosenSeed, Random } from '../support/random.ts'

const ANSWERS = [
  '',
  'CORRUPT',
  'CHECKSUM_MISMATCH',
  'UNSUPPORTED_FEATURE',
  'EEXIST',
  'ENOENT',
  'ESTALE',
  'EISDIR',
  'ENOSPC',
  'ENOTEMPTY',
  'EINVAL',
  'EPERM',
  'EMLINK',
  'ELOOP',
  'ENOTDIR',
  'EFBIG',
]
const BLOCK = 4096

/** Device blocks of the directory, in order. */
async function blocksOf(path: string, ino: number): Promise<{ blocks: number[]; seed: number }> {
  const storage = await FileStorage.open(path, { lock: 'none' })
  const core = Ext4Structure.open(new PlainDevice(storage), { readOnly: true })
  const inode = core.inode(ino)
  const blocks = Array.from({ length: inode.sizeBytes / BLOCK }, (_, i) => core.mapBlock(inode, i))
  const seed = core.inodeSeed(inode)
  await storage.close()
  return { blocks, seed }
}

function tryEverything(open: Awaited<ReturnType<typeof openFiles>>, ino: number, name: string): string[] {
  const { fs } = open
  const codes: string[] = []
  let directory: Inode | undefined
  codes.push(codeOf(() => (directory = fs.inode(ino))))
  if (!directory) return codes
  const d = directory
  codes.push(codeOf(() => fs.lookup(d, name)))
  let visits = 0
  codes.push(codeOf(() => fs.readDirectory(d, 0, () => ++visits < 1_000_000)))
  if (visits >= 1_000_000) codes.push('ENDLESS')
  codes.push(codeOf(() => fs.parentOf(d)))
  codes.push(codeOf(() => fs.makeNode(d, `${name}-new`, 0o100644, 0, ROOT)))
  codes.push(codeOf(() => fs.unlink(d, name)))
  for (let i = 0; i < 20; i++)
    codes.push(codeOf(() => fs.makeNode(d, `${i}`.padEnd(200, 'n'), 0o100644, 0, ROOT)))
  return codes
}

test('operations on damaged directories end with an answer', async (t) => {
  const random = new Random(chosenSeed(t))
  const files = await makeFiles(t, 16 * 1024 * 1024, { inodeRatioBytes: 4096 })
  const directory = files.fs.makeDirectory(files.root, 'd', 0o755, ROOT)
  for (let i = 0; i < 150; i++) files.fs.makeNode(directory, `${i}`.padEnd(150, 'x'), 0o100644, 0, ROOT)
  const { ino } = directory
  await files.close()
  const { blocks, seed } = await blocksOf(files.path, ino)
  const storage = await FileStorage.open(files.path, { lock: 'none' })
  t.teardown(() => storage.close())
  const image = new Uint8Array(16 * 1024 * 1024)
  storage.readSync(0, image.length, image, 0)
  const outcomes = new Map<string, number>()
  for (let round = 0; round < 150; round++) {
    const which = random.chance(0.5) ? 0 : random.below(blocks.length)
    const at = (blocks[which] as number) * BLOCK
    const bytes = image.slice(at, at + BLOCK)
    for (let i = random.between(1, 3); i > 0; i--)
      bytes[random.below(random.chance(0.7) ? 64 : BLOCK - 12)] = random.below(256)
    if (which > 0) sealDirectoryBlock(bytes, seed)
    else sealRoot(bytes, seed)
    storage.write(0, image.length, image, 0)
    storage.write(at, BLOCK, bytes, 0)
    const open = await openFiles(files.path)
    for (const code of tryEverything(open, ino, '77'.padEnd(150, 'x'))) {
      outcomes.set(code, (outcomes.get(code) ?? 0) + 1)
      if (!ANSWERS.includes(code)) t.fail(`round ${round}: ${code}`)
    }
    await open.close()
  }
  t.ok((outcomes.get('CORRUPT') ?? 0) > 50, JSON.stringify([...outcomes]))
  t.ok((outcomes.get('') ?? 0) > 50)
})

/** As the file system would, where the count leaves room for it. */
function sealRoot(bytes: Uint8Array, seed: number): void {
  const count = (bytes[ROOT_ENTRIES_AT + 2] as number) | ((bytes[ROOT_ENTRIES_AT + 3] as number) << 8)
  if (count <= 507) sealIndexBlock(bytes, ROOT_ENTRIES_AT, seed)
  else sealIndexBlock(bytes, NODE_ENTRIES_AT, seed)
}
