import test from 'brittle'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { MemoryFileSystem } from './memory-file-system.ts'
import { type Listed, listingOf, Session } from './session.ts'

const caller = { uid: 0, gid: 0, pid: 0 }

function withFiles(count: number) {
  const fileSystem = new MemoryFileSystem()
  const root = fileSystem.inode(2)
  const names = Array.from(
    { length: count },
    (_, i) => `${'x'.repeat(1 + ((i * 37) % 255)).slice(0, 250)}${i}`,
  )
  for (const name of names) fileSystem.makeNode(root, name, 0o100644, 0, caller)
  return { fileSystem, names, session: new Session({ operations: new LiveTree(fileSystem) }) }
}

const sizeOf = (name: string, isPlus: boolean) => Math.ceil(((isPlus ? 152 : 24) + name.length) / 8) * 8

function objection(fileSystem: MemoryFileSystem, entry: Listed, isPlus: boolean): string | undefined {
  const isDot = entry.name === '.' || entry.name === '..'
  const inode = isDot ? fileSystem.inode(2) : fileSystem.lookup(fileSystem.inode(2), entry.name)
  if (inode === undefined || entry.ino !== inode.ino) return 'another inode'
  if (entry.type !== inode.type >> 12) return 'another type'
  const counts = isPlus && !isDot
  if (entry.nodeId !== (counts ? inode.ino : 0)) return 'another node id'
  if (inode.lookupCount !== (counts ? 1 : 0)) return `${inode.lookupCount} lookups`
  return undefined
}

for (const isPlus of [false, true]) {
  const opcode = isPlus ? 'READDIRPLUS' : 'READDIR'

  test(`${opcode} fills the room to the last entry that fits, for every size`, (t) => {
    const { session, names } = withFiles(60)
    const all = ['.', '..', ...names]
    for (let room = 24; room < 4200; room += 1) {
      const { error, data } = session.ask(opcode, {}, 0n, 0n, room, 0, 0n, 0, 0)
      let expected = 0
      let count = 0
      for (const name of all) {
        const size = sizeOf(name, isPlus)
        if (expected + size > room) break
        expected += size
        count++
      }
      if (expected === 0) {
        if (error !== -22) t.fail(`room ${room}: error ${error} where not one entry fits`)
        continue
      }
      const listed = listingOf(data, isPlus).map((entry) => entry.name)
      if (data.length !== expected) t.fail(`room ${room}: ${data.length} bytes, not ${expected}`)
      if (listed.join() !== all.slice(0, count).join()) t.fail(`room ${room}: other entries`)
    }
    t.alike(session.faults, [])
  })

  test(`${opcode} goes on where it stopped, and ends with an empty answer`, (t) => {
    const { session, names, fileSystem } = withFiles(500)
    const seen: string[] = []
    let cookie = 0
    for (;;) {
      const { data } = session.ask(opcode, {}, 0n, BigInt(cookie), 4096, 0, 0n, 0, 0)
      if (data.length === 0) break
      for (const entry of listingOf(data, isPlus)) {
        seen.push(entry.name)
        cookie = entry.cookie
        const complaint = objection(fileSystem, entry, isPlus)
        if (complaint !== undefined) t.fail(`${entry.name}: ${complaint}`)
      }
    }
    t.alike(seen, ['.', '..', ...names])
  })
}

test('a listing of what is no directory is ENOTDIR, of nothing ESTALE', (t) => {
  const { session, fileSystem } = withFiles(1)
  const file = fileSystem.lookup(fileSystem.inode(2), 'x0')?.ino ?? 0
  t.is(session.ask('READDIR', { nodeId: file }, 0n, 0n, 4096, 0, 0n, 0, 0).error, -20)
  t.is(session.ask('READDIRPLUS', { nodeId: 99 }, 0n, 0n, 4096, 0, 0n, 0, 0).error, -116)
  t.is(session.borrowed, 0)
})
