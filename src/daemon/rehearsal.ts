// Rehearses the work of a mount on a small volume in memory, so that the engine has compiled the way of a
// request by the time that programs send them: the first thousands would cost several times as much.
//
// Always true: it works in short slices and only while the loop has nothing else to do; nothing of it
// touches the served volume, the mount or a file; when it ends, whyever, its memory is let go. It may be
// stopped at any time, and a failure in it ends it and nothing else.

import { GIB } from '../base/units.ts'
import { read32 } from '../ext4/bytes.ts'
import { Ext4 } from '../ext4/ext4.ts'
import { formatExt4 } from '../ext4/mkfs.ts'
import { FuseDispatcher } from '../fuse/dispatch.ts'
import { FlushMarker } from '../fuse/flush-marker.ts'
import { LiveTree } from '../fuse/live-tree.ts'
import { FATTR, O, OPCODE, ROOT_NODE_ID, WRITE } from '../fuse/protocol.ts'
import type { FuseReplies, ReplyBuffer } from '../fuse/request-handler.ts'
import { SnapshotsView } from '../fuse/snapshots-view.ts'
import { CreateIn, FsyncIn, InHeader, ReadIn, SetattrIn, WriteIn } from '../fuse/wire-structs.ts'
import { MemoryStorage } from '../storage/memory-storage.ts'
import { Volume } from '../volume/volume.ts'

export interface RehearsalPace {
  /** How long one slice works; a request that comes meanwhile waits so long at most. */
  readonly sliceMs?: number
  /** Time that the process has for other things between two slices. */
  readonly pauseMs?: number
  /** Turns after which it ends: so many as the engine needs to compile what they use. */
  readonly turnCount?: number
}

const DEFAULTS = { sliceMs: 2, pauseMs: 4, turnCount: 3000 } as const satisfies RehearsalPace
/** The loop counts as busy when it worked for more than this share of a pause; then the next is so long. */
const BUSY_SHARE = 0.25
const BUSY_PAUSE_MS = 20
/** Large enough for many block groups, so that numbers are as large as they will be. */
const VOLUME_BYTES = 4 * GIB
const BODY_AT = InHeader.sizeBytes
const DATA_OFFSET_BYTES = 4096
const BLOCK_BYTES = 4096
/** Files that exist at once; one is made and one removed in each turn. */
const FILES = 1000
const DATA_BLOCKS = 1024
const SYNC_INTERVAL_TURNS = 100
const LIST_INTERVAL_TURNS = 100
const REPLY_BYTES = 512 * 1024

/** Takes the place of the kernel: remembers which node the last answer was about. */
class Audience implements FuseReplies {
  lastNodeId = 0
  /** An answer told of a failure, which none does when all is right. */
  failed = false
  readonly #buffer: ReplyBuffer

  constructor() {
    const bytes = new Uint8Array(DATA_OFFSET_BYTES + REPLY_BYTES)
    this.#buffer = {
      bytes,
      view: new DataView(bytes.buffer),
      headerOffsetBytes: DATA_OFFSET_BYTES - 16,
      dataOffsetBytes: DATA_OFFSET_BYTES,
    }
  }

  send(bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number {
    if (read32(bytes, offsetBytes + 4) !== 0) this.failed = true
    this.lastNodeId = lengthBytes < 24 ? 0 : read32(bytes, offsetBytes + 16)
    return 0
  }
  borrow(): ReplyBuffer {
    return this.#buffer
  }
  giveBack(): void {}
}

/** Begins to rehearse, in the background. */
export function rehearse(pace: RehearsalPace = {}): Rehearsal {
  return new Rehearsal({ ...DEFAULTS, ...pace })
}

export class Rehearsal {
  /** How it ended: with every turn played, stopped before, or by a request that failed. */
  readonly whenEnded: Promise<'played' | 'stopped' | 'failed'>
  readonly #pace: Required<RehearsalPace>
  #tellEnd: (how: 'played' | 'stopped' | 'failed') => void = () => {}
  #turnsLeft: number
  #stage: Stage | undefined
  #timer: NodeJS.Timeout | undefined
  #hasEnded = false
  /** How busy the loop had been when the last slice ended. */
  #before = performance.eventLoopUtilization()

  constructor(pace: Required<RehearsalPace>) {
    this.#pace = pace
    this.#turnsLeft = pace.turnCount
    this.whenEnded = new Promise((resolve) => {
      this.#tellEnd = resolve
    })
    makeStage().then(
      (stage) => this.#begin(stage),
      () => this.#end('failed'),
    )
  }

  stop(): void {
    this.#end('stopped')
  }

  #begin(stage: Stage): void {
    if (this.#hasEnded) return
    this.#stage = stage
    this.#pause(this.#pace.pauseMs)
  }

  #end(how: 'played' | 'stopped' | 'failed'): void {
    this.#hasEnded = true
    this.#stage = undefined
    clearTimeout(this.#timer)
    this.#tellEnd(how)
  }

  #pause(pauseMs: number): void {
    this.#before = performance.eventLoopUtilization()
    this.#timer = setTimeout(() => this.#slice(), pauseMs)
    this.#timer.unref()
  }

  #slice(): void {
    const stage = this.#stage
    if (stage === undefined) return
    // What is in use compiles itself; it only must not be held up.
    if (performance.eventLoopUtilization(this.#before).utilization > BUSY_SHARE) {
      this.#pause(BUSY_PAUSE_MS)
      return
    }
    const endMs = performance.now() + this.#pace.sliceMs
    try {
      for (; this.#turnsLeft > 0 && performance.now() < endMs; this.#turnsLeft--) stage.turn()
    } catch {
      this.#end('failed')
      return
    }
    if (this.#turnsLeft > 0) this.#pause(this.#pace.pauseMs)
    else this.#end('played')
  }
}

async function makeStage(): Promise<Stage> {
  const volume = await Volume.create(new MemoryStorage(), { sizeBytes: VOLUME_BYTES })
  formatExt4(volume)
  await volume.commit()
  return new Stage(volume)
}

/** One volume in memory with the requests that are played on it. */
class Stage {
  readonly #audience = new Audience()
  readonly #dispatcher: FuseDispatcher
  readonly #arena = new Uint8Array(2 * DATA_OFFSET_BYTES + BLOCK_BYTES)
  readonly #view = new DataView(this.#arena.buffer)
  readonly #nodes: number[] = []
  readonly #folder: number
  readonly #data: number
  #made = 0

  constructor(volume: Volume) {
    const provider = {
      list: () => [],
      open: () => {
        throw new Error('There are no snapshots')
      },
      create: () => Promise.resolve(),
      remove: () => Promise.resolve(),
    }
    const operations = new SnapshotsView({
      live: new LiveTree(Ext4.open(volume)),
      provider,
      marker: new FlushMarker(),
      control: '',
    })
    this.#dispatcher = new FuseDispatcher(this.#audience, { operations })
    this.#view.setUint32(BODY_AT, 0o755, true)
    this.#play(OPCODE.MKDIR, ROOT_NODE_ID, 8, 'folder')
    this.#folder = this.#audience.lastNodeId
    this.#data = this.#create('data')
  }

  /** What a program does with a small file, from first to last, and a little of it with a large one. */
  turn(): void {
    const number = this.#made++
    const node = this.#create(`file-${number}`)
    this.#write(node, 0)
    this.#release(node)
    this.#play(OPCODE.GETATTR, node, 16)
    this.#read(OPCODE.READ, node, 0, BLOCK_BYTES)
    this.#nodes.push(node)
    const block = number < DATA_BLOCKS ? number : (number * 7919) % DATA_BLOCKS
    this.#write(this.#data, block)
    this.#read(OPCODE.READ, this.#data, block * BLOCK_BYTES, BLOCK_BYTES)
    if (number >= FILES) this.#remove(`file-${number - FILES}`, this.#nodes.shift() as number)
    if (number % LIST_INTERVAL_TURNS === 0) this.#list()
    if (number % SYNC_INTERVAL_TURNS === 0) this.#play(OPCODE.FSYNC, this.#data, FsyncIn.sizeBytes)
    if (this.#audience.failed) throw new Error('A request failed')
  }

  #create(name: string): number {
    this.#play(OPCODE.LOOKUP, this.#folder, 0, name)
    this.#view.setUint32(BODY_AT, O.WRONLY, true)
    this.#view.setUint32(BODY_AT + 4, 0o100644, true)
    this.#play(OPCODE.CREATE, this.#folder, CreateIn.sizeBytes, name)
    const node = this.#audience.lastNodeId
    this.#play(OPCODE.GETATTR, this.#folder, 16)
    return node
  }

  #release(node: number): void {
    this.#view.setUint32(BODY_AT + 8, O.WRONLY, true)
    this.#play(OPCODE.RELEASE, node, 24)
  }

  #remove(name: string, node: number): void {
    this.#play(OPCODE.UNLINK, this.#folder, 0, name)
    this.#view.setUint32(BODY_AT, FATTR.CTIME | FATTR.MTIME | FATTR.FH, true)
    this.#play(OPCODE.SETATTR, node, SetattrIn.sizeBytes)
    this.#view.setUint32(BODY_AT, 1, true)
    this.#play(OPCODE.FORGET, node, 8)
  }

  #write(node: number, block: number): void {
    this.#view.setUint32(BODY_AT + 8, block * BLOCK_BYTES, true)
    this.#view.setUint32(BODY_AT + 16, BLOCK_BYTES, true)
    this.#view.setUint32(BODY_AT + 20, WRITE.CACHE, true)
    this.#play(OPCODE.WRITE, node, WriteIn.sizeBytes + BLOCK_BYTES)
  }

  #read(opcode: number, node: number, offsetBytes: number, lengthBytes: number): void {
    this.#view.setUint32(BODY_AT + 8, offsetBytes, true)
    this.#view.setUint32(BODY_AT + 16, lengthBytes, true)
    this.#play(opcode, node, ReadIn.sizeBytes)
  }

  #list(): void {
    this.#read(OPCODE.READDIRPLUS, this.#folder, 0, REPLY_BYTES)
    // As the kernel counts them: one lookup for each entry that it was told of.
    for (const node of this.#nodes) {
      this.#view.setUint32(BODY_AT, 1, true)
      this.#play(OPCODE.FORGET, node, 8)
    }
  }

  /** Sends a request whose body so far is in the arena; the arena's body is zero again afterwards. */
  #play(opcode: number, node: number, bodyBytes: number, name?: string): void {
    const view = this.#view
    let end = BODY_AT + bodyBytes
    if (name !== undefined) {
      for (let i = 0; i < name.length; i++) view.setUint8(end++, name.charCodeAt(i))
      view.setUint8(end++, 0)
    }
    view.setUint32(0, end, true)
    view.setUint32(4, opcode, true)
    view.setUint32(8, 1, true)
    view.setUint32(16, node, true)
    this.#dispatcher.handle(this.#arena, 0, end)
    this.#arena.fill(0, BODY_AT, BODY_AT + 128)
  }
}
