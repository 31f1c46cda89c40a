// What a shadow copy provider says over a volume daemon's control socket: one request type for each
// step of ShadowSequence, in its order.
//
// Always true: a sequence belongs to its connection, one at a time; a step out of order fails with
// BAD_STATE and changes nothing; when the connection closes, whatever the sequence made goes, but a
// sealed snapshot with NO_AUTO_RELEASE.

import { RequestType, RequestType0 } from 'vscode-jsonrpc/node.js'
import type { ShadowRequest, ShadowVolumeInfo } from '../shadow/coordinator/shadow-provider.ts'
import type { FileSpec } from '../shadow/documents/writer-metadata.ts'
import type { Snapshot } from '../volume/points.ts'
import type { WireError } from './control-protocol.ts'

/** CommitSnapshots' answer. */
export interface ShadowCommitted {
  readonly snapshotId: string
  readonly epoch: number
  readonly createdAtMs: number
}

/** What the volume knows of a sealed shadow copy. */
export interface ServedShadows {
  readonly info: ShadowVolumeInfo
  /** Oldest first. */
  readonly snapshots: readonly Snapshot[]
}

/** @throws VOLUME_NOT_SUPPORTED where no shadow copy can be made */
export const shadowInfoRequest = new RequestType0<ShadowVolumeInfo, WireError>('shadow.info')
export const shadowListRequest = new RequestType0<ServedShadows, WireError>('shadow.list')
export const shadowBeginRequest = new RequestType<ShadowRequest, ShadowVolumeInfo, WireError>('shadow.begin')
export const shadowEndPrepareRequest = new RequestType<{ setCount: number }, null, WireError>(
  'shadow.endPrepare',
)
export const shadowPreCommitRequest = new RequestType0<null, WireError>('shadow.preCommit')
export const shadowFlushAndHoldRequest = new RequestType0<{ flushMs: number }, WireError>(
  'shadow.flushAndHold',
)
export const shadowCommitRequest = new RequestType0<ShadowCommitted, WireError>('shadow.commit')
export const shadowReleaseRequest = new RequestType0<{ heldMs: number }, WireError>('shadow.release')
export const shadowPostCommitRequest = new RequestType0<null, WireError>('shadow.postCommit')
export const shadowPreFinalCommitRequest = new RequestType0<{ recoveryPath: string | null }, WireError>(
  'shadow.preFinalCommit',
)
export const shadowDeleteFilesRequest = new RequestType<{ files: readonly FileSpec[] }, number, WireError>(
  'shadow.deleteFromSnapshot',
)
export const shadowSealRequest = new RequestType0<Snapshot, WireError>('shadow.seal')
export const shadowAbortRequest = new RequestType0<null, WireError>('shadow.abort')
export const shadowEndRequest = new RequestType<{ keepBookmark: boolean }, null, WireError>('shadow.end')
