// Which files differ between two points of a volume, and in which bytes: what a requester asks.
//
// Always true: both points are only read; the work is that of the change (the inode-table blocks in the
// delta, the extent trees of what changed, the directory blocks that changed), except for names of
// files that changed without being renamed, which take one pass over the directories. Opening a file
// system reads its group descriptors: 64 bytes for each 128 MiB of the volume.

import { UmbraError } from '../../base/errors.ts'
import { type Inode, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFSOCK } from '../../ext4/inode.ts'
import type { BlockReader } from '../../image/image-source.ts'
import { hasOtherAttributes, hasOtherTimes } from './attribute-changes.ts'
import { type Candidates, findCandidates, findTouched, isSameInode } from './candidates.ts'
import { changedRangesOf, hasChangedBlocks, wholeRangesOf } from './changed-blocks.ts'
import { DeltaIndex } from './delta-index.ts'
import { type EntryChanges, findEntryChanges } from './entry-changes.ts'
import type { ChangedRange, ComparedPoints, ComparisonCost, FileChange, FileType } from './file-change.ts'
import { FileNames } from './file-names.ts'
import { PointView } from './point-view.ts'

/** The clock of inodes moves in ticks: a change just after a bookmark may bear a time just before it. */
const CLOCK_TICK_MS = 20
const NO_ENTRIES: EntryChanges = { added: new Map(), removed: new Map() }

export class FileComparison {
  readonly before: PointView | null
  readonly after: PointView
  readonly #points: ComparedPoints
  readonly #bookmarkedAtMs: number
  #delta: DeltaIndex | undefined
  #candidates: Candidates | undefined
  #entries: EntryChanges | undefined
  #names: FileNames | undefined

  /** @throws UmbraError UNSUPPORTED_FEATURE, CORRUPT, CHECKSUM_MISMATCH, IO_FAILED, as everything here */
  constructor(points: ComparedPoints) {
    this.#points = points
    this.after = new PointView(points.after)
    this.before = isReader(points.before) ? new PointView(points.before) : null
    this.#bookmarkedAtMs = isReader(points.before) ? 0 : points.before.createdAtMs
    if (this.before && this.before.uuid !== this.after.uuid) {
      throw new UmbraError('UNAVAILABLE', 'The two points do not hold the same file system')
    }
  }

  get cost(): ComparisonCost {
    const { directories, directoryBlocks, namesMs } = this.#names?.cost ?? {
      directories: 0,
      directoryBlocks: 0,
      namesMs: 0,
    }
    return {
      deltaExtents: this.#delta?.count ?? 0,
      blocksRead: this.after.blocksRead + (this.before?.blocksRead ?? 0),
      directories,
      directoryBlocks,
      namesMs,
    }
  }

  /**
   * Every file that differs, by rising inode number, a deletion before the creation that took its number.
   * @param options.names false: without paths, and so without the pass over the directories
   */
  *changes(options: { readonly names?: boolean } = {}): Generator<FileChange> {
    const hasNames = options.names !== false
    if (!this.before) yield* this.#touched(hasNames)
    else yield* this.#different(hasNames)
  }

  /**
   * The change of one file, without any pass over directories, so with at most the name it was asked
   * by; null: it does not differ. Whether it has other names than before is not looked for.
   * @param file path at the newer point (text in UTF-8, or bytes), or inode number
   * @throws UmbraError NOT_FOUND when there is no such file at the newer point
   */
  changedFile(file: string | Uint8Array | number): FileChange | null {
    const names = typeof file === 'number' ? [] : pathNames(file)
    const inode = typeof file === 'number' ? this.after.inode(file) : this.after.find(names)
    if (!inode) throw new UmbraError('NOT_FOUND', `No such file at the newer point: ${shown(file)}`)
    const paths = typeof file === 'number' ? [] : [names.join('/') || '.']
    if (!this.before) return this.#touch(inode, paths)
    const old = this.before.inode(inode.ino)
    if (!old || !isSameInode(old, inode)) return this.#creation(inode, paths)
    return this.#isDifferent(old, inode, false) ? this.#change(old, inode, 'changed', paths, []) : null
  }

  /** What came and went in directories; empty since a bookmark. */
  get entries(): EntryChanges {
    if (!this.before) return NO_ENTRIES
    this.#entries ??= findEntryChanges(this.before, this.after, this.#found(this.before), this.#runs)
    return this.#entries
  }

  get #runs(): DeltaIndex {
    this.#delta ??= new DeltaIndex(this.#points.delta)
    return this.#delta
  }

  #found(before: PointView): Candidates {
    this.#candidates ??= findCandidates(before, this.after, this.#runs)
    return this.#candidates
  }

  *#different(hasNames: boolean): Generator<FileChange> {
    const before = this.before as PointView
    const { created, deleted, kept } = this.#found(before)
    const names = new FileNames(
      before,
      this.after,
      this.entries,
      hasMovedDirectory(this.after, kept, this.entries),
    )
    this.#names = names
    const changed = kept.filter((ino) =>
      this.#isDifferent(before.inode(ino) as Inode, this.after.inode(ino) as Inode, names.isRenamed(ino)),
    )
    if (hasNames) names.prepare(this.#inodes(created, changed))
    for (const [ino, kind] of merged(deleted, created, changed)) {
      const change = hasNames ? this.#namedChange(ino, kind, names) : this.#namelessChange(ino, kind, names)
      if (change) yield change
    }
  }

  #namelessChange(ino: number, kind: MergedKind, names: FileNames): FileChange {
    const before = this.before as PointView
    if (kind === 'deleted') return this.#deletion(before.inode(ino) as Inode, [])
    const inode = this.after.inode(ino) as Inode
    if (kind === 'created') return this.#creation(inode, [])
    const told = names.isRenamed(ino) ? 'renamed' : 'changed'
    return this.#change(before.inode(ino) as Inode, inode, told, [], [])
  }

  #namedChange(ino: number, kind: MergedKind, names: FileNames): FileChange | null {
    const before = this.before as PointView
    if (kind === 'deleted') {
      const inode = before.inode(ino) as Inode
      return this.#deletion(inode, names.pathsOfDeleted(inode))
    }
    const inode = this.after.inode(ino) as Inode
    const paths = names.pathsAfter(inode)
    if (kind === 'created') return this.#creation(inode, paths)
    const old = before.inode(ino) as Inode
    const oldPaths = names.pathsBefore(inode, paths)
    if (!isEqual(paths, oldPaths)) return this.#change(old, inode, 'renamed', paths, oldPaths)
    // Moved away and back into a directory of the same path: nobody sees another name.
    return this.#isDifferent(old, inode, false) ? this.#change(old, inode, 'changed', paths, []) : null
  }

  *#inodes(...lists: readonly (readonly number[])[]): Generator<Inode> {
    for (const list of lists) for (const ino of list) yield this.after.inode(ino) as Inode
  }

  #isDifferent(old: Inode, now: Inode, isRenamed: boolean): boolean {
    const before = { view: this.before as PointView, inode: old }
    const after = { view: this.after, inode: now }
    if (isRenamed || hasOtherTimes(old, now)) return true
    if (hasOtherAttributes(before, after, this.#runs)) return true
    if (!now.isRegular) return false
    return old.sizeBytes !== now.sizeBytes || hasChangedBlocks(before, after, this.#runs)
  }

  #change(
    old: Inode,
    now: Inode,
    kind: 'renamed' | 'changed',
    paths: readonly string[],
    oldPaths: readonly string[],
  ): FileChange {
    const before = { view: this.before as PointView, inode: old }
    const after = { view: this.after, inode: now }
    const ranges = now.isRegular ? changedRangesOf(before, after, this.#runs) : []
    const isDataChanged = ranges.length > 0 || (now.isRegular && old.sizeBytes !== now.sizeBytes)
    return {
      ...identity(now),
      kind,
      paths,
      oldPaths,
      sizeBytes: sizeOf(now),
      oldSizeBytes: sizeOf(old),
      metadata: hasOtherAttributes(before, after, this.#runs) || (!isDataChanged && hasOtherTimes(old, now)),
      ranges,
      certain: true,
    }
  }

  #creation(inode: Inode, paths: readonly string[]): FileChange {
    return {
      ...identity(inode),
      kind: 'created',
      paths,
      oldPaths: [],
      sizeBytes: sizeOf(inode),
      oldSizeBytes: null,
      metadata: false,
      ranges: inode.isRegular ? wholeRangesOf({ view: this.after, inode }) : [],
      certain: true,
    }
  }

  #deletion(inode: Inode, paths: readonly string[]): FileChange {
    return {
      ...identity(inode),
      kind: 'deleted',
      paths,
      oldPaths: [],
      sizeBytes: null,
      oldSizeBytes: sizeOf(inode),
      metadata: false,
      ranges: [],
      certain: true,
    }
  }

  // -- since a bookmark

  *#touched(hasNames: boolean): Generator<FileChange> {
    const touched = findTouched(this.after, this.#runs)
    const names = new FileNames(null, this.after, NO_ENTRIES, false)
    this.#names = names
    if (hasNames) names.prepare(this.#inodes(touched))
    for (const ino of touched) {
      const inode = this.after.inode(ino) as Inode
      yield this.#touch(inode, hasNames ? names.pathsAfter(inode) : [])
    }
  }

  #touch(inode: Inode, paths: readonly string[]): FileChange {
    const after = { view: this.after, inode }
    const ranges: ChangedRange[] = inode.isRegular ? changedRangesOf(null, after, this.#runs) : []
    // The change time cannot be set by a program; a clock that was set back makes it say too little.
    const changedAtMs = inode.ctime.sec * 1000 + inode.ctime.nsec / 1e6
    const isLater = changedAtMs >= this.#bookmarkedAtMs - CLOCK_TICK_MS
    return {
      ...identity(inode),
      kind: 'touched',
      paths,
      oldPaths: [],
      sizeBytes: sizeOf(inode),
      oldSizeBytes: null,
      metadata: true,
      ranges,
      certain: isLater || ranges.some((range) => range.kind === 'data'),
    }
  }
}

/** As FileComparison.changes(), for one question. */
export function changedFiles(
  before: ComparedPoints['before'],
  after: ComparedPoints['after'],
  delta: ComparedPoints['delta'],
): Generator<FileChange> {
  return new FileComparison({ before, after, delta }).changes()
}

/** The ranges in which one file differs, as FileComparison.changedFile(). */
export function changedRanges(
  points: ComparedPoints,
  file: string | Uint8Array | number,
): readonly ChangedRange[] {
  return new FileComparison(points).changedFile(file)?.ranges ?? []
}

function isReader(point: ComparedPoints['before']): point is BlockReader {
  return 'readSync' in point
}

function identity(inode: Inode): { ino: number; generation: number; type: FileType } {
  return { ino: inode.ino, generation: inode.generation, type: typeOf(inode) }
}

function sizeOf(inode: Inode): number | null {
  return inode.isRegular ? inode.sizeBytes : null
}

const TYPES: Readonly<Record<number, FileType>> = {
  [S_IFDIR]: 'directory',
  [S_IFLNK]: 'symlink',
  [S_IFIFO]: 'fifo',
  [S_IFSOCK]: 'socket',
  [S_IFBLK]: 'block',
  [S_IFCHR]: 'character',
}

function typeOf(inode: Inode): FileType {
  return TYPES[inode.type] ?? 'file'
}

function pathNames(path: string | Uint8Array): string[] {
  const bytes = typeof path === 'string' ? Buffer.from(path) : Buffer.from(path)
  return bytes
    .toString('latin1')
    .split('/')
    .filter((name) => name !== '' && name !== '.')
}

function shown(file: string | Uint8Array | number): string {
  return typeof file === 'number' ? `inode ${file}` : Buffer.from(file).toString()
}

/** Whether the path of anything may differ though its own name does not. */
function hasMovedDirectory(after: PointView, kept: readonly number[], entries: EntryChanges): boolean {
  return kept.some((ino) => entries.removed.has(ino) && after.inode(ino)?.isDirectory === true)
}

function isEqual(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((path, i) => path === b[i])
}

type MergedKind = 'deleted' | 'created' | 'changed'

/** Three rising lists as one, deletions first where numbers are equal. */
function* merged(
  deleted: readonly number[],
  created: readonly number[],
  changed: readonly number[],
): Generator<readonly [number, MergedKind]> {
  const lists: readonly (readonly [readonly number[], MergedKind])[] = [
    [deleted, 'deleted'],
    [created, 'created'],
    [changed, 'changed'],
  ]
  const at = [0, 0, 0]
  for (;;) {
    let best = -1
    let bestIno = Number.POSITIVE_INFINITY
    for (let i = 0; i < 3; i++) {
      const ino = lists[i]?.[0][at[i] as number] ?? Number.POSITIVE_INFINITY
      if (ino < bestIno) {
        best = i
        bestIno = ino
      }
    }
    const list = lists[best]
    if (!list) return
    at[best] = (at[best] as number) + 1
    yield [bestIno, list[1]]
  }
}
