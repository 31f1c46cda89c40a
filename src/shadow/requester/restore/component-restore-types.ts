// What a restore of component files is asked for and what it tells.
//
// Always true: a component's status is that of its whole chain: `all`, `none` (nothing on disk changed) or
// `failed` (some backup's files are there, not all that were asked for).

import type { LongWork } from '../../../image/pace.ts'
import type { CoordinatorControl } from '../../coordinator/requester-session.ts'
import type { FileRestoreStatus } from '../../documents/vocabulary.ts'

/** Stops and starts services for the methods that need it. */
export interface ServiceControl {
  /** @throws UmbraError when it does not stop */
  stop(name: string): Promise<void>
  start(name: string): Promise<void>
  /** The command line that starts it, for people. */
  startCommand?(name: string): string
}

export interface RestoreSurroundings {
  readonly coordinator: CoordinatorControl
  readonly services: ServiceControl
  /** Where changes that are under way are written down. */
  readonly journalFolder: string
}

export interface NewFolder {
  readonly from: string
  readonly to: string
}

export interface ComponentRestoreOptions extends LongWork {
  /** Id of a backup; undefined: the newest that holds the components. */
  readonly backup?: string | undefined
  /** `WRITER` or `WRITER:PATH/NAME`. */
  readonly components: 'all' | readonly string[]
  /** File sets at or below `from` go to `to`. */
  readonly newFolders?: readonly NewFolder[] | undefined
  /** As in vss.md section 5.2: `"Sub":"Name"="Value",...`. */
  readonly restoreOptions?: string | undefined
  /** `all`, a time or a log position. */
  readonly rollForward?: string | undefined
  /** No writer is told. */
  readonly withoutWriters?: boolean | undefined
  readonly dryRun?: boolean | undefined
  readonly onNote?: ((note: string) => void) | undefined
  /** Before each file takes its place; what it throws fails the component. */
  readonly onStep?: ((path: string) => void) | undefined
}

export interface RestoredComponent {
  readonly writer: string
  readonly instanceName: string
  readonly logicalPath: string
  readonly name: string
  /** Full paths; empty: the whole component. */
  readonly subcomponents: readonly string[]
  /** Backups that were replayed, or would be. */
  readonly chain: readonly string[]
  /** Null in a dry run. */
  readonly status: Exclude<FileRestoreStatus, 'undefined'> | null
  /** Where its files went, or would go. */
  readonly place: 'original' | 'alternate' | 'directed' | 'new-target' | null
  readonly fileCount: number
  readonly bytes: number
  readonly failure: string | null
}

export interface ComponentRestoreResult {
  readonly backup: string
  /** Backups in the order of their operations. */
  readonly operations: readonly string[]
  readonly components: readonly RestoredComponent[]
  readonly notes: readonly string[]
  readonly isDryRun: boolean
  /** Something was not restored, or a writer failed afterwards. */
  readonly isPartial: boolean
}
