// What a backup can be told.
//
// Always true: options that contradict each other are refused before anything is asked of anybody.

import { UmbraError } from '../../base/errors.ts'
import type { LongWork } from '../../image/pace.ts'
import type { BackupType } from '../documents/vocabulary.ts'

export interface RetryPolicy {
  /** Tries after the first; VSS: 3. */
  readonly count: number
  /** VSS: ten minutes. */
  readonly waitMs: number
}

export const DEFAULT_RETRIES: RetryPolicy = { count: 3, waitMs: 600_000 }

export interface BackupOptions extends LongWork {
  readonly type: BackupType
  /** Volume files or mount points whose images are taken. */
  readonly volumes: readonly string[]
  /** Block images of the volumes. Default: true, but for a log backup. */
  readonly images?: boolean | undefined
  /**
   * Components whose files are saved: `all`, `none`, or a list of WRITER and WRITER:PATH/NAME. Default:
   * `all` where no images are taken, else `none`: writers then take part as a whole (freeze and thaw), so
   * that the images are consistent for them.
   */
  readonly components?: 'all' | 'none' | readonly string[] | undefined
  readonly format?: 'qcow2' | 'raw' | undefined
  /** Nobody is asked to freeze; images are as after a power cut. */
  readonly withoutWriters?: boolean | undefined
  /** Names, instances or class ids. */
  readonly excludeWriters?: readonly string[] | undefined
  /** The backup is not made if one of these is not there. */
  readonly requireWriters?: readonly string[] | undefined
  /** What a failed writer has is left out and told, instead of giving up. */
  readonly continueWithoutFailedWriters?: boolean | undefined
  /** Without a base, or with a broken chain: a full. */
  readonly orFull?: boolean | undefined
  /** The shadow copies stay when the backup is interrupted, and the next run goes on with them. */
  readonly resumable?: boolean | undefined
  /** Save changed ranges of files for writers that know nothing of partial files; beyond VSS. */
  readonly changedRanges?: boolean | undefined
  /** How long to wait while another creation is under way. Default: not at all. */
  readonly autoRetryMs?: number | undefined
  readonly retries?: RetryPolicy | undefined
  /** What people should know while it runs, one sentence each. */
  readonly onNote?: ((note: string) => void) | undefined
}

/** The same with every default filled in. */
export interface BackupChoice extends BackupOptions {
  readonly images: boolean
  readonly components: 'all' | 'none' | readonly string[]
  readonly format: 'qcow2' | 'raw'
  readonly retries: RetryPolicy
}

/** @throws UmbraError INVALID_ARGUMENT */
export function chosen(options: BackupOptions): BackupChoice {
  const images = options.images ?? (options.type !== 'log' && options.volumes.length > 0)
  const components = options.withoutWriters ? 'none' : (options.components ?? (images ? 'none' : 'all'))
  const format = options.format ?? 'qcow2'
  const choice = { ...options, images, components, format, retries: options.retries ?? DEFAULT_RETRIES }
  const wrong = CONTRADICTIONS.find(([isSo]) => isSo(choice, options))
  if (wrong) throw new UmbraError('INVALID_ARGUMENT', wrong[1])
  return choice
}

const CONTRADICTIONS: readonly (readonly [
  (choice: BackupChoice, given: BackupOptions) => boolean,
  string,
])[] = [
  [({ images, type }) => images && type === 'log', 'A log backup saves component files only, no images'],
  [({ images, volumes }) => images && volumes.length === 0, 'Images are taken of volumes: name one'],
  [
    ({ images, components }) => !images && components === 'none',
    'Neither images nor components are to be saved',
  ],
  [
    ({ images, type, format }) => images && format === 'raw' && type !== 'full' && type !== 'copy',
    'A raw image is always full; incremental and differential images are qcow2',
  ],
  [
    ({ withoutWriters }, { components }) => withoutWriters === true && (components ?? 'none') !== 'none',
    'Components belong to writers and cannot be saved without them',
  ],
  [
    ({ withoutWriters, requireWriters }) => withoutWriters === true && (requireWriters?.length ?? 0) > 0,
    'Writers cannot be required and left out at once',
  ],
]
