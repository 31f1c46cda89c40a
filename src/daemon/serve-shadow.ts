// The shadow copy service's side of a volume daemon: who may begin a sequence, which connection has
// which, and their end.
//
// Always true: one shadow copy of the volume is being made at a time, and one sequence belongs to a
// connection; its close ends it. close() leaves nothing unsealed, nor what was to go with its session.

import { UmbraError } from '../base/errors.ts'
import { uuidBytes } from '../base/uuid.ts'
import { DEFAULT_LIMITS } from '../shadow/coordinator/limits.ts'
import {
  HOLD_TIMEOUT_MS,
  type ShadowRequest,
  type ShadowVolumeInfo,
} from '../shadow/coordinator/shadow-provider.ts'
import { SHADOW_ATTRIBUTES } from '../volume/points.ts'
import type { ControlServer, Session } from './control-server.ts'
import { type SequenceLimits, type SequenceVolume, ServedSequence } from './served-sequence.ts'
import * as protocol from './shadow-protocol.ts'

/**
 * The window must outlast what the coordinator allows in it: other volumes' opening of theirs, PostSnapshot, the
 * deletion of excluded files. The coordinator's own limits end these first; a lost one ends with its connection.
 */
const WINDOW_TIMEOUT_MS = DEFAULT_LIMITS.longEventMs + 2 * DEFAULT_LIMITS.providerStepMs + 60_000

export const SEQUENCE_LIMITS: SequenceLimits = { holdMs: HOLD_TIMEOUT_MS, windowMs: WINDOW_TIMEOUT_MS }

/** What no software provider does. */
const UNSUPPORTED =
  SHADOW_ATTRIBUTES.PLEX | SHADOW_ATTRIBUTES.TRANSPORTABLE | SHADOW_ATTRIBUTES.HARDWARE_ASSISTED

export class ShadowService {
  readonly #volume: SequenceVolume
  readonly #sequences = new Map<Session, ServedSequence>()
  #isClosed = false

  constructor(volume: SequenceVolume) {
    this.#volume = volume
  }

  /** @throws UmbraError VOLUME_NOT_SUPPORTED */
  info(): ShadowVolumeInfo {
    const { volume } = this.#volume.hosted
    if (!volume.readOnly) return this.#volume.info
    throw new UmbraError('VOLUME_NOT_SUPPORTED', 'The volume is read-only: no shadow copy can be made of it')
  }

  list(): protocol.ServedShadows {
    const snapshots = this.#volume.hosted.volume.snapshots().filter(({ shadow }) => shadow !== null)
    return { info: this.#volume.info, snapshots }
  }

  /** @throws UmbraError VOLUME_NOT_SUPPORTED, INVALID_ARGUMENT, SET_IN_PROGRESS, BAD_STATE, and for the name */
  begin(request: ShadowRequest, session: Session): ShadowVolumeInfo {
    const info = this.info()
    checkRequest(request)
    if (this.#isClosed) throw new UmbraError('CLOSED', 'The volume is being closed')
    if (this.#sequences.has(session)) {
      throw new UmbraError('BAD_STATE', 'This connection has a shadow copy already')
    }
    if ([...this.#sequences.values()].some(({ isCreating }) => isCreating)) {
      throw new UmbraError('SET_IN_PROGRESS', 'Another shadow copy of this volume is being made')
    }
    this.#volume.hosted.checkNewName(request.snapshotName)
    const attributes = (request.attributes | SHADOW_ATTRIBUTES.DIFFERENTIAL) >>> 0
    const sequence = new ServedSequence(this.#volume, { ...request, attributes })
    this.#sequences.set(session, sequence)
    session.onEnd(() => void this.#end(session, sequence))
    return info
  }

  /** The sequence of a connection. @throws UmbraError BAD_STATE */
  of(session: Session): ServedSequence {
    const sequence = this.#sequences.get(session)
    if (sequence) return sequence
    throw new UmbraError('BAD_STATE', 'No shadow copy was begun on this connection')
  }

  /** Before the volume is closed. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#sequences].map(([session, sequence]) => this.#end(session, sequence)))
  }

  async #end(session: Session, sequence: ServedSequence): Promise<void> {
    await sequence.close()
    this.#sequences.delete(session)
  }
}

function checkRequest({ attributes, setCount, snapshotSetId, snapshotId }: ShadowRequest): void {
  if (!Number.isInteger(attributes) || attributes < 0 || attributes > 0xffffffff) {
    throw new UmbraError('INVALID_ARGUMENT', `Not the attributes of a shadow copy: ${attributes}`)
  }
  if (!Number.isInteger(setCount) || setCount < 1) {
    throw new UmbraError('INVALID_ARGUMENT', `A shadow set of ${setCount} volumes`)
  }
  uuidBytes(snapshotSetId)
  if (snapshotId !== undefined) uuidBytes(snapshotId)
  const both = SHADOW_ATTRIBUTES.PLEX | SHADOW_ATTRIBUTES.DIFFERENTIAL
  if ((attributes & both) === both) {
    throw new UmbraError('INVALID_ARGUMENT', 'A shadow copy is either differential or a full clone')
  }
  if ((attributes & UNSUPPORTED) !== 0) {
    throw new UmbraError(
      'VOLUME_NOT_SUPPORTED',
      'Shadow copies here are differential: no full clones, nothing transportable, no hardware',
    )
  }
}

/** @param service undefined where a single snapshot is served */
export function serveShadow(server: ControlServer, service: () => ShadowService): void {
  const of = (session: Session): ServedSequence => service().of(session)
  server.handle(protocol.shadowInfoRequest, () => service().info())
  server.handle(protocol.shadowListRequest, () => service().list())
  server.handleWith(protocol.shadowBeginRequest, (request, session) => service().begin(request, session))
  server.handleWith(protocol.shadowEndPrepareRequest, ({ setCount }, session) =>
    of(session).endPrepare(setCount),
  )
  server.handle(protocol.shadowPreCommitRequest, (session) => of(session).preCommit())
  server.handle(protocol.shadowFlushAndHoldRequest, (session) => of(session).flushAndHold())
  server.handle(protocol.shadowCommitRequest, (session) => of(session).commit())
  server.handle(protocol.shadowReleaseRequest, (session) => of(session).release())
  server.handle(protocol.shadowPostCommitRequest, (session) => of(session).postCommit())
  server.handle(protocol.shadowPreFinalCommitRequest, (session) => of(session).preFinalCommit())
  server.handleWith(protocol.shadowDeleteFilesRequest, ({ files }, session) =>
    of(session).deleteFromSnapshot(files),
  )
  server.handle(protocol.shadowSealRequest, (session) => of(session).seal())
  server.handle(protocol.shadowAbortRequest, (session) => of(session).abort())
  server.handleWith(protocol.shadowEndRequest, ({ keepBookmark }, session) => of(session).end(keepBookmark))
}
