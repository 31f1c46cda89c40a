// The kernel's own bookkeeping as a model: what it counts must be what the tree counts, after any
// history; and an inode lives exactly as long as a link, a lookup or a handle holds it.
import test from 'brittle'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { MemoryFileSystem } from './memory-file-system.ts'
import { entryOf, listingOf, Session } from './session.ts'

interface Known {
  lookups: number
  opens: number
}

class Model {
  readonly known = new Map<number, Known>()

  of(nodeId: number): Known {
    let entry = this.known.get(nodeId)
    if (entry === undefined) {
      entry = { lookups: 0, opens: 0 }
      this.known.set(nodeId, entry)
    }
    return entry
  }
}

function run(seed: number, steps: number) {
  let state = seed
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const fileSystem = new MemoryFileSystem()
  const session = new Session({ operations: new LiveTree(fileSystem) })
  session.ask('INIT', {}, 7, 45, 131072, 0xffffffff, 0xffffffff, new Uint8Array(44))
  const model = new Model()
  const name = () => `n${random(12)}`
  const pick = (keep: (entry: Known) => boolean) => {
    const nodes = [...model.known].filter(([, entry]) => keep(entry)).map(([nodeId]) => nodeId)
    return nodes[random(nodes.length)]
  }
  const looked = (reply: ReturnType<Session['ask']>, opens = 0) => {
    const { nodeId, error } = entryOf(reply)
    if (error !== 0 || nodeId === 0) return
    model.of(nodeId).lookups++
    model.of(nodeId).opens += opens
  }
  const actions: (() => void)[] = [
    () => looked(session.ask('LOOKUP', {}, name())),
    () => looked(session.ask('CREATE', {}, 2, 0o100644, 0, 0, name()), 1),
    () => looked(session.ask('MKDIR', {}, 0o755, 0, name())),
    () => looked(session.ask('MKNOD', {}, 0o100600, 0, 0, 0, name())),
    () => looked(session.ask('SYMLINK', {}, name(), 'x')),
    () => looked(session.ask('TMPFILE', {}, 2, 0o100600, 0, 0, 't'), 1),
    () => {
      const nodeId = pick((entry) => entry.lookups > 0)
      if (nodeId !== undefined) looked(session.ask('LINK', {}, BigInt(nodeId), name()))
    },
    () => session.ask('UNLINK', {}, name()),
    () => session.ask('RMDIR', {}, name()),
    () => session.ask('RENAME', {}, 1n, name(), name()),
    () => {
      const nodeId = pick((entry) => entry.lookups > 0)
      if (nodeId !== undefined && session.ask('OPEN', { nodeId }, 0, 0).error === 0) model.of(nodeId).opens++
    },
    () => {
      const nodeId = pick((entry) => entry.opens > 0)
      if (nodeId === undefined) return
      session.ask('RELEASE', { nodeId }, 0n, 0, 0, 0n)
      model.of(nodeId).opens--
    },
    () => {
      const room = 300 + random(900)
      const reply = session.ask('READDIRPLUS', {}, 0n, BigInt(random(8)), room, 0, 0n, 0, 0)
      for (const { nodeId } of listingOf(reply.data, true)) if (nodeId !== 0) model.of(nodeId).lookups++
    },
    () => {
      // As the kernel: an inode is forgotten, all at once, when nothing of it is open.
      const nodeId = pick((entry) => entry.lookups > 0 && entry.opens === 0)
      if (nodeId === undefined) return
      const entry = model.of(nodeId)
      const count = random(3) === 0 ? entry.lookups : 1 + random(entry.lookups)
      if (random(2) === 0) session.tell('FORGET', { nodeId }, BigInt(count))
      else session.tell('BATCH_FORGET', {}, 1, 0, BigInt(nodeId), BigInt(count))
      entry.lookups -= count
    },
  ]
  for (let step = 0; step < steps; step++) {
    actions[random(actions.length)]?.()
    for (const [nodeId, { lookups, opens }] of model.known) {
      if (!fileSystem.has(nodeId)) {
        if (lookups + opens > 0) throw new Error(`step ${step}: node ${nodeId} was freed too early`)
        model.known.delete(nodeId)
        continue
      }
      const inode = fileSystem.inode(nodeId)
      if (inode.lookupCount !== lookups || inode.openCount !== opens) {
        throw new Error(
          `step ${step}: node ${nodeId} counts ${inode.lookupCount}/${inode.openCount}, kernel ${lookups}/${opens}`,
        )
      }
      if (inode.linkCount === 0 && lookups + opens === 0) throw new Error(`step ${step}: ${nodeId} leaked`)
    }
  }
  return session
}

test("lookup and open counts are the kernel's after random histories", (t) => {
  const first = Number(process.env['UMBRA_SEED'] ?? Date.now() % 2 ** 31)
  t.comment(`UMBRA_SEED=${first}`)
  const rounds = process.env['UMBRA_LONG'] ? 200 : 20
  for (let round = 0; round < rounds; round++) {
    const session = run(first + round, 1500)
    if (session.faults.length > 0) t.fail(session.faults.join(', '))
  }
  t.pass(`${rounds} histories`)
})
