// The marker that shows how far the kernel's queue has been served: a hidden, virtual name at the
// root. A helper process calls syncfs, opens the marker and closes it; the kernel queues the RELEASE
// behind every WRITE that it had queued before, so when the RELEASE is here, those WRITEs are too.
//
// Always true: only an armed name exists, each arm has a name of its own, it is listed nowhere, has no
// inode on disk and no timeout in the kernel's caches, and its callback runs at most once, when a
// RELEASE arrives for it. (The dispatcher holds a RELEASE back behind requests that still wait.)

import { randomBytes } from 'node:crypto'
import { posixError } from '../base/errors.ts'
import { S_IFREG } from '../ext4/inode.ts'
import type { Attributes } from './attributes.ts'
import { MARKER_NODE_ID_FIRST, SLOT_SPAN, slotOf, VIRTUAL_SLOT } from './node-ids.ts'
import type { Requester } from './operations.ts'
import { O } from './protocol.ts'
import { RefusingOperations } from './refusing-operations.ts'

/** Names at the root that start so are never the file system's. */
export const MARKER_PREFIX = '.umbra-flush-'

export interface ArmedMarker {
  /** To be opened for reading and closed, below the mount's root. */
  readonly name: string
  readonly nonce: string
  /** Takes the name away; the callback will not run. */
  disarm(): void
}

interface Marker {
  readonly nodeId: number
  readonly nonce: string
  readonly onRelease: (nonce: string) => void
}

export class FlushMarker extends RefusingOperations {
  readonly #byName = new Map<string, Marker>()
  readonly #byNode = new Map<number, Marker>()
  #nextNodeId = MARKER_NODE_ID_FIRST

  constructor() {
    super('EPERM')
  }

  /** Makes a marker appear. @param onRelease called when the kernel's RELEASE for it arrives */
  arm(onRelease: (nonce: string) => void): ArmedMarker {
    const nonce = randomBytes(16).toString('hex')
    const name = MARKER_PREFIX + nonce
    const marker: Marker = { nodeId: this.#nextNodeId++, nonce, onRelease }
    if (this.#nextNodeId >= (VIRTUAL_SLOT + 1) * SLOT_SPAN) this.#nextNodeId = MARKER_NODE_ID_FIRST
    this.#byName.set(name, marker)
    this.#byNode.set(marker.nodeId, marker)
    return { name, nonce, disarm: () => this.#disarm(name, marker) }
  }

  #disarm(name: string, marker: Marker): void {
    this.#byName.delete(name)
    this.#byNode.delete(marker.nodeId)
  }

  static isNode(nodeId: number): boolean {
    return nodeId >= MARKER_NODE_ID_FIRST && slotOf(nodeId) === VIRTUAL_SLOT
  }

  override lookup(_parent: number, name: string, out: Attributes): void {
    const marker = this.#byName.get(name)
    if (marker === undefined) out.setMissing(0)
    else fill(marker, out)
  }

  override getattr(nodeId: number, out: Attributes): void {
    fill(this.#marker(nodeId), out)
  }

  override open(nodeId: number, flags: number, _killSuidSgid: boolean, _caller: Requester): void {
    if ((flags & O.ACCMODE) !== 0 || (flags & O.TRUNC) !== 0) throw posixError('EPERM')
    this.#marker(nodeId)
  }

  override read(): number {
    return 0
  }

  override release(nodeId: number, _flags: number): void {
    const marker = this.#byNode.get(nodeId)
    if (marker === undefined) return
    this.#disarm(MARKER_PREFIX + marker.nonce, marker)
    marker.onRelease(marker.nonce)
  }

  #marker(nodeId: number): Marker {
    const marker = this.#byNode.get(nodeId)
    if (marker === undefined) throw posixError('ESTALE')
    return marker
  }
}

/** Anybody may open it: its name is the secret. */
function fill(marker: Marker, out: Attributes): void {
  out.nodeId = marker.nodeId
  out.ino = marker.nodeId
  out.generation = 0
  out.entryTimeoutSec = 0
  out.attributesTimeoutSec = 0
  out.sizeBytes = 0
  out.sectorCount = 0
  out.atimeSec = out.mtimeSec = out.ctimeSec = out.btimeSec = 0
  out.atimeNsec = out.mtimeNsec = out.ctimeNsec = out.btimeNsec = 0
  out.mode = S_IFREG | 0o444
  out.linkCount = 1
  out.uid = 0
  out.gid = 0
  out.deviceNumber = 0
}
