// The typed API for writers in TypeScript: a class with a method for each event.
//
// Always true: identify() has no side effect and gives the same document while the store is unchanged; it
// may be called at any time, also in the middle of a backup. The handlers of one session come one after
// another (onAbort may come while another one still runs past its time); sessions may overlap.

import { randomUuid } from '../../base/uuid.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterContext } from './writer-context.ts'

/**
 * Returns: the event is handled, with what context.fail() said. Throws WriterFailure: with that result. Throws anything else: fatal,
 * non-retryable.
 */
export type WriterHandler = (context: WriterContext) => void | Promise<void>

export abstract class Writer {
  /** For the metadata's identity: new at every start. */
  readonly instanceId: string = randomUuid()

  abstract identify(): WriterMetadata | Promise<WriterMetadata>

  /** Slow work may begin; stamps, metadata, partial and differenced files may be set. */
  onPrepareForBackup?(context: WriterContext): void | Promise<void>
  /** Slow work must end: checkpoints, spit files. */
  onPrepareForSnapshot?(context: WriterContext): void | Promise<void>
  /** No writes from here to onThaw() or onAbort(); short. */
  onFreeze?(context: WriterContext): void | Promise<void>
  onThaw?(context: WriterContext): void | Promise<void>
  /** The shadow copy is there, writable where the volumes say so; the last chance to set anything. */
  onPostSnapshot?(context: WriterContext): void | Promise<void>
  /** Undo what the events so far did; may come twice, and without a Freeze before it. */
  onAbort?(context: WriterContext): void | Promise<void>
  /** The only place to truncate logs, for components with backupSucceeded and types that allow it. */
  onBackupComplete?(context: WriterContext): void | Promise<void>
  /** The session is over; without a BackupComplete before it the backup failed. */
  onBackupShutdown?(context: WriterContext): void | Promise<void>
  /** Let go of the files; the restore target may be set. */
  onPreRestore?(context: WriterContext): void | Promise<void>
  /** The files are back: recover, unless more restores follow. */
  onPostRestore?(context: WriterContext): void | Promise<void>
}
