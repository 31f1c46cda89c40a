// The virtual directory .snapshots: its names are the volume's snapshots.
//
// Always true: it lists what the provider lists at that moment, in order of age, and remembers no
// name; names and attributes here have no timeouts, because snapshots come and go without the kernel.
// Its mtime moves whenever the list has changed, which is how the kernel's cache of the listing knows.
// mkdir takes a snapshot, rmdir deletes one, nothing else changes anything. Deleting is refused while
// files below are open (EBUSY); a mere working folder there does not count and becomes ESTALE.

import { posixError } from '../base/errors.ts'
import type { FileSystemStatistics } from '../ext4/file-system.ts'
import { ROOT_INO, S_IFDIR, S_IFMT } from '../ext4/inode.ts'
import { Attributes } from './attributes.ts'
import { SLOT_SPAN, SNAPSHOTS_NODE_ID } from './node-ids.ts'
import { type InodeOperations, type ListedEntry, NotReady, type Requester } from './operations.ts'
import { ROOT_NODE_ID } from './protocol.ts'
import { RecoveryWindows } from './recovery-windows.ts'
import { RefusingOperations } from './refusing-operations.ts'
import type { SnapshotEntry, SnapshotProvider } from './snapshot-provider.ts'
import { SnapshotTrees } from './snapshot-trees.ts'

const DIRECTORY_TYPE = S_IFDIR >> 12
/** Cookies: 1 after ".", 2 after "..", 3 + epoch after a snapshot. */
const COOKIE_OF_EPOCH_0 = 3
const NOT_WRITABLE_BY_OTHERS = 0o755

export class SnapshotsDirectory extends RefusingOperations {
  readonly trees: SnapshotTrees
  readonly windows: RecoveryWindows
  readonly #live: InodeOperations
  readonly #provider: SnapshotProvider
  readonly #unnamed = new Attributes()
  readonly #entry: ListedEntry = { name: '', ino: 0, type: DIRECTORY_TYPE, nextCookie: 0 }
  #listHash = -1
  #changedSec = 0
  #changedNsec = 0

  constructor(live: InodeOperations, provider: SnapshotProvider, openLimit: number) {
    super('EPERM')
    this.#live = live
    this.#provider = provider
    const fill = (out: Attributes) => this.getattr(SNAPSHOTS_NODE_ID, out)
    const parentOfRoot = { ino: SNAPSHOTS_NODE_ID, fill }
    this.trees = new SnapshotTrees(provider, parentOfRoot, openLimit)
    this.windows = new RecoveryWindows(parentOfRoot)
  }

  /** Owner and mode are the root's, less what others might write: who may change the root may snapshot. */
  override getattr(_nodeId: number, out: Attributes): void {
    this.#noticeChanges()
    this.#live.getattr(ROOT_NODE_ID, out)
    out.nodeId = SNAPSHOTS_NODE_ID
    out.ino = SNAPSHOTS_NODE_ID
    out.generation = 0
    out.entryTimeoutSec = 0
    out.attributesTimeoutSec = 0
    out.mode = S_IFDIR | (out.mode & ~S_IFMT & NOT_WRITABLE_BY_OTHERS)
    out.linkCount = 2
    out.sizeBytes = 0
    out.sectorCount = 0
    out.mtimeSec = out.ctimeSec = this.#changedSec
    out.mtimeNsec = out.ctimeNsec = this.#changedNsec
  }

  override lookup(_parent: number, name: string, out: Attributes): void {
    if (name === '.') {
      this.getattr(SNAPSHOTS_NODE_ID, out)
      return
    }
    if (name === '..') {
      this.#live.lookup(ROOT_NODE_ID, '.', out)
      return
    }
    const entry = this.#find(name)
    if (entry === undefined) {
      const window = this.windows.named(name)
      if (window === undefined) out.setMissing(0)
      else window.lookup(window.rootNodeId, '.', out)
      return
    }
    const tree = this.trees.opened(entry)
    tree.lookup(tree.slot * SLOT_SPAN + ROOT_INO, '.', out)
    out.entryTimeoutSec = 0
  }

  override mkdir(
    _parent: number,
    name: string,
    _mode: number,
    _caller: Requester,
    _out: Attributes,
  ): undefined | Promise<Attributes> {
    if (this.#find(name) !== undefined || this.windows.named(name)) throw posixError('EEXIST')
    const text = textOf(name)
    if (text === undefined) throw posixError('EINVAL', 'a name that is no UTF-8')
    return this.#create(name, text)
  }

  async #create(name: string, text: string): Promise<Attributes> {
    await this.#provider.create(text)
    const made = new Attributes()
    for (;;) {
      try {
        this.lookup(SNAPSHOTS_NODE_ID, name, made)
        break
      } catch (reason) {
        if (!(reason instanceof NotReady)) throw reason
        await reason.ready
      }
    }
    if (made.nodeId === 0) throw posixError('ENOENT')
    return made
  }

  override rmdir(_parent: number, name: string): undefined | Promise<void> {
    if (this.windows.named(name)) throw posixError('EBUSY')
    const entry = this.#find(name)
    if (entry === undefined) throw posixError('ENOENT')
    if (this.trees.isBusy(entry.epoch)) throw posixError('EBUSY')
    return this.#remove(entry)
  }

  async #remove(entry: SnapshotEntry): Promise<void> {
    const undo = await this.trees.retire(entry.epoch)
    try {
      // Another snapshot may have the name by now.
      if (this.#find(bytesOf(entry.name))?.epoch !== entry.epoch) throw posixError('ENOENT')
      await this.#provider.remove(entry.name)
    } catch (error) {
      undo()
      throw error
    }
  }

  override unlink(_parent: number, name: string): void {
    throw posixError(this.#find(name) === undefined ? 'ENOENT' : 'EISDIR')
  }

  override readdir(_nodeId: number, cookie: number, visit: (entry: ListedEntry) => boolean): void {
    if (cookie < 1 && !visit(this.#listed('.', SNAPSHOTS_NODE_ID, 1))) return
    if (cookie < 2 && !visit(this.#listed('..', ROOT_INO, 2))) return
    const entries = [...this.#provider.list()].sort((a, b) => a.epoch - b.epoch)
    for (const entry of entries) {
      const nextCookie = COOKIE_OF_EPOCH_0 + entry.epoch
      if (nextCookie <= cookie) continue
      const ino = this.trees.slotFor(entry.epoch) * SLOT_SPAN + ROOT_INO
      if (!visit(this.#listed(bytesOf(entry.name), ino, nextCookie))) return
    }
  }

  /** Without attributes: listing must not open every snapshot. */
  override readdirplus(
    nodeId: number,
    cookie: number,
    visit: (entry: ListedEntry, attributes: Attributes) => boolean,
  ): void {
    this.#unnamed.nodeId = 0
    this.readdir(nodeId, cookie, (entry) => visit(entry, this.#unnamed))
  }

  override statfs(_nodeId: number): FileSystemStatistics {
    return this.#live.statfs(ROOT_NODE_ID)
  }

  #find(name: string): SnapshotEntry | undefined {
    const text = textOf(name)
    return this.#provider.list().find((entry) => entry.name === text)
  }

  #listed(name: string, ino: number, nextCookie: number): ListedEntry {
    this.#entry.name = name
    this.#entry.ino = ino
    this.#entry.nextCookie = nextCookie
    return this.#entry
  }

  #noticeChanges(): void {
    const entries = this.#provider.list()
    let hash = entries.length
    for (const entry of entries) hash = (Math.imul(hash, 31) + entry.epoch) >>> 0
    if (hash === this.#listHash) return
    this.#listHash = hash
    const nowMs = Date.now()
    const sec = Math.floor(nowMs / 1000)
    const nsec = (nowMs % 1000) * 1_000_000
    const isLater = sec > this.#changedSec || (sec === this.#changedSec && nsec > this.#changedNsec)
    if (isLater) {
      this.#changedSec = sec
      this.#changedNsec = nsec
    } else if (++this.#changedNsec === 1_000_000_000) {
      this.#changedSec++
      this.#changedNsec = 0
    }
  }
}

/** A request's name, one char a byte, as the text that names a snapshot; undefined: it is no UTF-8. */
function textOf(name: string): string | undefined {
  const text = Buffer.from(name, 'latin1').toString('utf8')
  return bytesOf(text) === name ? text : undefined
}

/** The name of a snapshot as names are here: one char a byte. */
function bytesOf(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}
