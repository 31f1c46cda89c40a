// What the restore of one component changes on disk: its files, folders, links and special files at their
// places, with all attributes, and without what the chain says was deleted.
//
// Always true: every name of an inode is restored as a name of one inode; parts of a file go over the file
// that is there, which must be there where the backup holds only what changed; deletions touch nothing
// that no file set of the component names.

import { symlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import { makeNode } from '../../../base/file-attributes.ts'
import { hostCall } from '../../../image/host-file.ts'
import type { Pace } from '../../../image/pace.ts'
import type { DirectedTarget } from '../../documents/backup-components.ts'
import type { FileEntry } from '../../repository/manifest.ts'
import { byteString, joinPath, textOf } from '../file-tree.ts'
import { diskNode, existingFolder, type NodeAttributes } from './disk-node.ts'
import { type BaseFile, makeFile, type RangeCopy, rangedContent, wholeContent } from './file-content.ts'
import { directedCopies, directedOf, linkedPath, type Placement, type RestoreItem } from './restore-set.ts'
import type { TreeChange } from './tree-change.ts'

export interface ComponentChange {
  readonly items: readonly RestoreItem[]
  readonly place: Placement
  /** Empty unless the target is `directed`. */
  readonly directed: readonly DirectedTarget[]
  readonly pace: Pace
}

/** A file of the component with the place that it goes to. */
interface Placed extends RestoreItem {
  readonly to: string
}

/** Plans everything. @throws UmbraError BROKEN_CHAIN when the file that a part belongs to is not there, RESTORE_REFUSED */
export function planComponent(change: TreeChange, component: ComponentChange): void {
  const { items, place, directed, pace } = component
  const files: Placed[] = []
  for (const item of items) {
    const to = place(item)
    const { entry } = item
    if (entry.kind === 'deleted') change.remove(to)
    else if (entry.kind === 'directory') change.folder(to, attributesOf(entry))
    else if (entry.kind === 'file' || entry.kind === 'ranges-file') {
      if (!directedOf(item, directed)) files.push({ ...item, to })
    } else planSpecial(change, entry, to)
  }
  // A ranges file in a file set was saved for both reasons.
  const named = new Set(items.filter(({ entry }) => entry.kind === 'file').map(({ path }) => path))
  const once = files.filter(({ entry, path }) => entry.kind !== 'ranges-file' || !named.has(path))
  for (const group of inodeGroups(once)) planFile(change, group, pace)
  planDirected(change, items, directed, pace)
}

/** Places of everything that is written, ranges files first as VSS has it. */
export function writtenPaths(component: Omit<ComponentChange, 'pace'>): string[] {
  const { items, place, directed } = component
  const paths = new Set<string>()
  for (const item of items) {
    if (item.entry.kind === 'directory' || item.entry.kind === 'deleted') continue
    const targets = directedOf(item, directed)
    if (targets) for (const target of targets) paths.add(destinationOf(target))
    else paths.add(place(item))
  }
  return [...paths]
}

export function attributesOf({ mode, uid, gid, mtimeNs, xattrs }: FileEntry): NodeAttributes {
  return { mode, uid, gid, mtimeNs, xattrs }
}

function planSpecial(change: TreeChange, entry: FileEntry, to: string): void {
  const { kind, mode, rdev = 0 } = entry
  const make = async (staged: Uint8Array): Promise<void> => {
    if (kind !== 'symlink') return makeNode(staged, mode, rdev)
    const { linkTarget = '', linkTargetBytes } = entry
    const target = linkTargetBytes === undefined ? linkTarget : Buffer.from(linkTargetBytes, 'base64')
    hostCall(`Cannot make the link ${textOf(to).text}`, () => symlinkSync(target, Buffer.from(staged)))
  }
  change.put(to, make, attributesOf(entry), false)
}

/** @param group every name of one inode */
function planFile(change: TreeChange, group: readonly Placed[], pace: Pace): void {
  const source =
    group.find(({ entry }) => entry.stored && !entry.ranges) ?? group.find(({ entry }) => entry.stored)
  const [first] = group
  if (!first) return
  if (!source?.stored)
    throw new UmbraError('BROKEN_CHAIN', `The backup holds no content of ${textOf(first.path).text}`)
  if (isUnchanged(group)) {
    for (const { to, entry } of group) change.attributes(to, attributesOf(entry))
    return
  }
  const { entry, stored } = source
  const content = entry.ranges
    ? rangedContent(baseOf(change, source), stored, entry.ranges, entry.sizeBytes)
    : wholeContent(stored, entry.sizeBytes)
  change.put(
    source.to,
    (staged) => makeFile(staged, textOf(source.to).text, content, pace),
    attributesOf(entry),
    true,
  )
  for (const { to } of group) if (to !== source.to) change.link(to, source.to)
}

/** The older file that ranges go over. */
function baseOf(change: TreeChange, { to, entry, path }: Placed): BaseFile | null {
  if (diskNode(to)?.kind === 'file') return change.baseFile(to)
  // A writer vouches for its ranges alone; of what changed since the base the rest has to be there.
  if (entry.how === 'partial') return null
  throw new UmbraError(
    'BROKEN_CHAIN',
    `${textOf(to).text} is not there, and the backup holds only what changed of ${textOf(path).text}`,
  )
}

/** No byte changed since what is on disk: its attributes will do. */
function isUnchanged(group: readonly Placed[]): boolean {
  const nodes = group.map(({ to }) => diskNode(to))
  const [first] = nodes
  if (first?.kind !== 'file' || first.linkCount !== group.length) return false
  return group.every(
    ({ entry }, index) =>
      entry.how === 'mask' &&
      entry.ranges?.length === 0 &&
      entry.sizeBytes === first.sizeBytes &&
      nodes[index]?.ino === first.ino &&
      nodes[index]?.device === first.device,
  )
}

/**
 * Names of one inode together. Those saved whole refer to each other; those saved in parts, name by name,
 * had one inode at the backup's instant and look alike in everything that was recorded.
 */
function inodeGroups(files: readonly Placed[]): Placed[][] {
  const groups: Placed[][] = []
  const byPath = new Map<string, Placed[]>()
  const byInode = new Map<string, Placed[]>()
  for (const file of files) {
    const { entry } = file
    const first = linkedPath(entry)
    const key = inodeKey(file)
    const known =
      (first === undefined ? undefined : byPath.get(first)) ?? (key === null ? undefined : byInode.get(key))
    const group = known ?? []
    if (!known) groups.push(group)
    group.push(file)
    byPath.set(file.path, group)
    if (key !== null) byInode.set(key, group)
  }
  return groups
}

function inodeKey({ entry, to }: Placed): string | null {
  const { ino, generation, mode, uid, gid, mtimeNs, sizeBytes, kind } = entry
  if (ino === undefined || generation === undefined || kind !== 'file') return null
  // Volumes number their inodes each for itself.
  const device = diskNode(existingFolder(to), true)?.device ?? 0
  return [device, ino, generation, mode, uid, gid, mtimeNs, sizeBytes].join(':')
}

export function destinationOf({ destinationPath, destinationName }: DirectedTarget): string {
  return joinPath(byteString(destinationPath), byteString(destinationName))
}

/** Several sources may go into one destination, which keeps the rest of what it holds. */
function planDirected(
  change: TreeChange,
  items: readonly RestoreItem[],
  directed: readonly DirectedTarget[],
  pace: Pace,
): void {
  const copiesOf = new Map<string, { copies: RangeCopy[]; like: FileEntry }>()
  for (const item of items) {
    for (const target of directedOf(item, directed) ?? []) {
      const to = destinationOf(target)
      const known = copiesOf.get(to) ?? { copies: [], like: item.entry }
      known.copies.push(...directedCopies(item, target))
      copiesOf.set(to, known)
    }
  }
  for (const [to, { copies, like }] of copiesOf) {
    const node = diskNode(to)
    const base = node?.kind === 'file' ? change.baseFile(to) : null
    const content = { base, copies, sizeBytes: undefined }
    change.put(to, (staged) => makeFile(staged, textOf(to).text, content, pace), attributesOf(like), true)
  }
}

/** Folders that a change is about: those of its file sets at their places, else of the files themselves. */
export function rootsOf({ items, place, directed }: Omit<ComponentChange, 'pace'>): string[] {
  const roots = new Set<string>()
  for (const item of items)
    roots.add(item.set ? place({ path: byteString(item.set.path), set: item.set }) : dirname(place(item)))
  for (const target of directed) roots.add(byteString(target.destinationPath))
  return [...roots]
}
