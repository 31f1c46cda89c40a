// What is said over a daemon's control socket: JSON-RPC 2.0, one request type a method.
//
// Always true: a failure travels as an error whose data holds the UmbraError's code, message and
// context, so that the caller gets the same error as in process; times are milliseconds, sizes bytes.
// A lease belongs to its connection and ends with it.

import {
  ErrorCodes,
  NotificationType,
  RequestType,
  RequestType0,
  ResponseError,
} from 'vscode-jsonrpc/node.js'
import { ERROR_CODES, type ErrorCode, type ErrorContext, UmbraError } from '../base/errors.ts'
import type {
  Bookmark,
  Point,
  Snapshot,
  SnapshotSizes,
  SpaceEvent,
  SpaceFault,
  SpaceReport,
} from '../volume/points.ts'
import type { SpacePolicy } from '../volume/space-policy.ts'

/** The error data on the wire. */
export interface WireError {
  readonly code: ErrorCode
  readonly context: ErrorContext
}

export interface VolumeStatus {
  readonly volume: string
  readonly uuid: string
  readonly mountPoint: string | null
  readonly daemon: { readonly pid: number; readonly socket: string } | null
  /** `failed` with the reason when the volume turned read-only by itself. */
  readonly state: 'serving' | 'failed' | 'unmounted'
  readonly reason: string | null
  readonly readOnly: boolean
  /** Name of the snapshot that is mounted by itself. */
  readonly mountedSnapshot: string | null
  /** The folder of hooks that was given to the mount. */
  readonly hooks: string | null
  readonly epoch: number
  readonly transaction: number
  readonly durableTransaction: number
  readonly sizeBytes: number
  readonly snapshots: number
  readonly bookmarks: number
  readonly space: SpaceReport
  readonly policy: SpacePolicy
  /** Why live writes are refused for the snapshots' sake. */
  readonly fault: SpaceFault | null
  /** The last things that happened about the snapshots' room, oldest first. */
  readonly events: readonly SpaceEvent[]
}

/** The room that snapshots have and take. */
export interface PolicyReport {
  readonly volume: string
  readonly policy: SpacePolicy
  /** What they alone hold. Nothing is set aside for them beforehand, so that is what is allocated too. */
  readonly usedBytes: number
  readonly allocatedBytes: number
  /** Null: no limit. */
  readonly maxBytes: number | null
  readonly snapshots: number
  readonly fault: SpaceFault | null
  readonly events: readonly SpaceEvent[]
  /** Names of the snapshots that were dropped for the change. */
  readonly evicted: readonly string[]
}

/** How long taking a snapshot of a mounted volume took. */
export interface SnapshotTaken {
  readonly snapshot: Snapshot
  readonly flushMs: number
  readonly cutMs: number
}

export interface SnapshotDetails {
  readonly snapshot: Snapshot
  readonly sizes: SnapshotSizes
}

export interface ResizedVolume {
  readonly volume: string
  /** Of the volume: what was asked for, in whole blocks. */
  readonly sizeBytes: number
  /** Of the file system; a few MiB less where a last group would have no room for files. */
  readonly fileSystemBytes: number
}

export interface NameParams {
  readonly name: string
}

export interface LeaseParams {
  /** Names of snapshots or bookmarks. */
  readonly names: readonly string[]
  /** Take a temporary snapshot of the present too; it is deleted when the lease ends. */
  readonly present: boolean
}

/** What a reader in another process needs to read the points from the volume file. */
export interface Leased {
  readonly volumeUuid: string
  /** In the order of the names. */
  readonly points: readonly Point[]
  readonly present: Snapshot | null
  /**
   * Held on the volume file for as long as what was leased is there; a reader in another process looks for
   * it after each read. Null: the reader is in the process that has the volume open.
   */
  readonly mark: number | null
}

export const statusRequest = new RequestType0<VolumeStatus, WireError>('status')
/** The flush and a commit: everything written before the call is durable. */
export const syncRequest = new RequestType0<{ flushMs: number; commitMs: number }, WireError>('sync')
export const snapshotCreateRequest = new RequestType<NameParams, SnapshotTaken, WireError>('snapshot.create')
export const snapshotListRequest = new RequestType0<SnapshotDetails[], WireError>('snapshot.list')
export const snapshotShowRequest = new RequestType<NameParams, SnapshotDetails, WireError>('snapshot.show')
export const snapshotDeleteRequest = new RequestType<
  NameParams & { keepBookmark: boolean },
  { freedBytes: number },
  WireError
>('snapshot.delete')
export const snapshotPinRequest = new RequestType<NameParams & { pinned: boolean }, Snapshot, WireError>(
  'snapshot.pin',
)
export const bookmarkCreateRequest = new RequestType<NameParams, Bookmark, WireError>('bookmark.create')
export const bookmarkListRequest = new RequestType0<Bookmark[], WireError>('bookmark.list')
export const bookmarkDeleteRequest = new RequestType<NameParams, null, WireError>('bookmark.delete')
/** What deleting all of these snapshots would free. @throws NOT_FOUND */
export const snapshotFreedRequest = new RequestType<
  { names: readonly string[] },
  { freedBytes: number },
  WireError
>('snapshot.freed')
/** Changes what is given of the policy; nothing: shows it. @throws INVALID_ARGUMENT, OUT_OF_SPACE, READ_ONLY */
export const policyRequest = new RequestType<Partial<SpacePolicy>, PolicyReport, WireError>('policy')
/** Makes the volume and its file system larger. @throws BUSY without a mount, and as resizeVolume() */
export const resizeRequest = new RequestType<{ sizeBytes: number }, ResizedVolume, WireError>('resize')
/** Keeps the named points until the connection closes. @throws NOT_FOUND */
export const leaseRequest = new RequestType<LeaseParams, Leased, WireError>('lease')
/** Names of leased snapshots of this connection that were evicted all the same. */
export const leaseCheckRequest = new RequestType0<string[], WireError>('lease.check')
/** A leased snapshot was evicted; the mark of the lease is gone. */
export const leaseEvictedNotification = new NotificationType<NameParams>('lease.evicted')
/** Unmounts (BUSY when files are in use and not `lazy`), commits and ends the daemon, which closes the connection. */
export const unmountRequest = new RequestType<{ lazy: boolean }, null, WireError>('unmount')

/** The error to send for anything thrown. */
export function toWire(thrown: unknown): ResponseError<WireError> {
  if (thrown instanceof UmbraError) {
    const context: Record<string, string | number | boolean> = {}
    for (const [key, value] of Object.entries(thrown.context)) {
      context[key] = typeof value === 'bigint' ? value.toString() : value
    }
    return new ResponseError(ErrorCodes.UnknownErrorCode, thrown.message, { code: thrown.code, context })
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new ResponseError(ErrorCodes.InternalError, message, { code: 'IO_FAILED', context: {} })
}

/** The UmbraError that the other side threw; a broken connection becomes UNAVAILABLE. */
export function fromWire(thrown: unknown): UmbraError {
  if (thrown instanceof UmbraError) return thrown
  if (thrown instanceof ResponseError && thrown.data !== undefined) {
    const data = thrown.data as Partial<WireError> | undefined
    const code = data?.code !== undefined && Object.hasOwn(ERROR_CODES, data.code) ? data.code : 'IO_FAILED'
    return new UmbraError(code, thrown.message, data?.context ?? {}, thrown)
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  return new UmbraError('UNAVAILABLE', `The daemon has gone: ${message}`, {}, thrown)
}
