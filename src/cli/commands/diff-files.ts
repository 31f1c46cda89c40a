// umbra diff --files: which files differ between two points, for people, for programs, and as lists for
// rsync, tar and restic.
//
// Always true: names come out byte for byte in lists; a list without NULs refuses a name with a newline
// before it prints anything.

import { isUtf8 } from 'node:buffer'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { type PointAccess, withPoints, withPresent } from '../../daemon/point-access.ts'
import { writeOutput } from '../../image/output.ts'
import type {
  ChangeKind,
  ComparisonCost,
  FileChange,
  ForgottenPoint,
} from '../../shadow/changed-files/file-change.ts'
import { FileComparison } from '../../shadow/changed-files/file-comparison.ts'
import { pathsToCopy, pathsToDelete } from '../../shadow/changed-files/path-lists.ts'
import type { Point, Snapshot } from '../../volume/points.ts'
import { type JsonOption, millisecondsText, printResult, tableText } from '../output.ts'

const RANGES_SHOWN = 4

export interface DiffFilesOptions extends JsonOption {
  readonly format?: string
  readonly null?: boolean
  readonly skipDirectories?: boolean
  readonly output?: string
}

interface ShownFile extends FileChange {
  /** Each path in base64, when one of them is not UTF-8. */
  readonly pathsBase64: readonly string[] | null
  readonly oldPathsBase64: readonly string[] | null
}

interface FileDifference {
  readonly from: string
  readonly to: string | null
  /** What FROM is: a bookmark has no blocks, so its deletions and old names are not known. */
  readonly base: Point['kind']
  readonly counts: Readonly<Record<ChangeKind, number>>
  readonly files: readonly ShownFile[]
  readonly cost: ComparisonCost
}

export async function diffFiles(
  volume: string,
  from: string,
  to: string | undefined,
  options: DiffFilesOptions,
): Promise<void> {
  const run = (access: PointAccess, target: Snapshot): Promise<void> =>
    tell(access, from, target, to ?? null, options)
  if (to === undefined) await withPresent(volume, [from], run)
  else await withPoints(volume, [from, to], (access) => run(access, access.snapshot(to)))
}

async function tell(
  access: PointAccess,
  from: string,
  target: Snapshot,
  to: string | null,
  options: DiffFilesOptions,
): Promise<void> {
  const base = access.point(from)
  const before: ForgottenPoint | ReturnType<PointAccess['device']> =
    base.kind === 'snapshot' ? access.device(base) : { createdAtMs: base.createdAtMs }
  const comparison = new FileComparison({
    before,
    after: access.device(target),
    delta: access.delta(base, target),
  })
  if (options.format === 'paths') {
    const { skipDirectories } = options
    await writeList(pathsToCopy(comparison, { skipDirectories }), options)
  } else if (options.format === 'deleted') await writeList(pathsToDelete(comparison), options)
  else {
    const files = [...comparison.changes()].map(shownFile)
    const { cost } = comparison
    printResult(options, { from, to, base: base.kind, counts: countsOf(files), files, cost }, differenceText)
  }
  if (process.stderr.isTTY) process.stderr.write(`${costText(comparison.cost)}\n`)
}

// -- lists

async function writeList(paths: readonly string[], options: DiffFilesOptions): Promise<void> {
  const end = options.null ? '\0' : '\n'
  const broken = options.null ? undefined : paths.find((path) => path.includes('\n'))
  if (broken !== undefined) {
    throw new UmbraError(
      'INVALID_NAME',
      `A name holds a newline, which a list of lines cannot carry; use -0: ${JSON.stringify(broken)}`,
    )
  }
  const lines = options.null ? paths : paths.map(guarded)
  const bytes = Buffer.from(lines.map((path) => path + end).join(''), 'latin1')
  if (options.output === undefined) process.stdout.write(bytes)
  else await writeOutput(options.output, {}, async (file) => file.write(0, bytes.byteLength, bytes, 0))
}

/** In lists of lines tools take a leading "-" for an option, "#" and ";" for a comment. */
function guarded(path: string): string {
  return /^[-#;\s]/.test(path) ? `./${path}` : path
}

// -- text and JSON

function shownFile(change: FileChange): ShownFile {
  const paths = textsOf(change.paths)
  const oldPaths = textsOf(change.oldPaths)
  return {
    ...change,
    paths: paths.texts,
    pathsBase64: paths.base64,
    oldPaths: oldPaths.texts,
    oldPathsBase64: oldPaths.base64,
  }
}

/** Byte strings as text, and in base64 where text cannot hold them. */
function textsOf(paths: readonly string[]): { texts: string[]; base64: string[] | null } {
  const buffers = paths.map((path) => Buffer.from(path, 'latin1'))
  return {
    texts: buffers.map((bytes) => bytes.toString('utf8')),
    base64: buffers.every((bytes) => isUtf8(bytes)) ? null : buffers.map((bytes) => bytes.toString('base64')),
  }
}

function countsOf(files: readonly FileChange[]): Record<ChangeKind, number> {
  const counts: Record<ChangeKind, number> = { created: 0, deleted: 0, renamed: 0, changed: 0, touched: 0 }
  for (const file of files) counts[file.kind]++
  return counts
}

function differenceText({ files, counts, base }: FileDifference): string {
  const rows = files.map((file) => [file.kind, file.type, changeText(file), namesText(file)])
  const total = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => `${count} ${kind}`)
  const lines = [total.length > 0 ? total.join(', ') : 'no file differs']
  if (base === 'bookmark') {
    lines.push(
      'Since a bookmark: "touched" is created or changed; with "?", perhaps neither. What was deleted or renamed is not known.',
    )
  }
  return rows.length > 0
    ? [tableText(['CHANGE', 'TYPE', 'BYTES', 'PATH'], rows), ...lines].join('\n')
    : lines.join('\n')
}

function changeText(file: FileChange): string {
  const parts = file.ranges
    .slice(0, RANGES_SHOWN)
    .map(
      ({ kind, offsetBytes, lengthBytes }) =>
        `${kind === 'zero' ? 'zero ' : ''}${offsetBytes}+${lengthBytes}`,
    )
  if (file.ranges.length > RANGES_SHOWN) parts.push(`and ${file.ranges.length - RANGES_SHOWN} more`)
  if (file.kind === 'created' && file.sizeBytes !== null) return formatSize(file.sizeBytes)
  if (file.oldSizeBytes !== null && file.sizeBytes !== null && file.oldSizeBytes !== file.sizeBytes) {
    parts.push(`size ${file.oldSizeBytes} to ${file.sizeBytes}`)
  }
  if (file.metadata && file.kind !== 'touched') parts.push('attributes')
  if (!file.certain) parts.push('?')
  return parts.join(', ')
}

function namesText(file: FileChange): string {
  const now = file.paths.join(' = ')
  return file.oldPaths.length > 0 ? `${file.oldPaths.join(' = ')} -> ${now}` : now
}

function costText(cost: ComparisonCost): string {
  const names =
    cost.directories > 0
      ? `a pass over ${cost.directoryBlocks} blocks of ${cost.directories} directories in ${millisecondsText(cost.namesMs)}`
      : 'no pass over directories'
  return `${cost.blocksRead} blocks read; names: ${names}`
}
