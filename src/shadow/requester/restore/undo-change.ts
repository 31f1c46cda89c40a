// Taking a change of files back, and tidying up after one that is complete: by the restore itself, or by the
// next run for one that was killed.
//
// Always true: each may be interrupted at any point and begun again; what is found on disk decides what is
// still to be done, so nothing is undone twice.

import { readdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import { setModifyTime } from '../../../base/file-attributes.ts'
import { type HeldFolders, identityOf } from '../../../base/held-folders.ts'
import { hostCall } from '../../../image/host-file.ts'
import { joinPath, textOf } from '../file-tree.ts'
import { ChangeJournal, type ChangePlan, type Phase, type Step } from './change-journal.ts'
import { heldFor, holdStaging } from './change-steps.ts'
import { setAttributes } from './disk-node.ts'

/**
 * Everything as it was. Before the phase `committing` no step was done, and what lies in a step's place is
 * the user's own.
 * @returns what others have made of it meanwhile, which is kept, in words
 * @throws UmbraError what stands in the way; it can be tried again
 */
export function rollBack(
  plan: ChangePlan,
  held: HeldFolders,
  journal: ChangeJournal,
  phase: Phase,
): readonly string[] {
  const undoing = new Undoing(held, plan.id)
  if (phase === 'committing') {
    for (const step of [...plan.steps].reverse()) undoing.undo(step)
    // Without its staged file a step would look as if it were still to be undone.
    journal.note('undone')
  }
  for (const folder of plan.stagingFolders) removeStaging(folder, held)
  for (const { path, mtimeNs } of plan.folderTimes) setFolderTime(path, mtimeNs, held)
  return undoing.kept
}

/** Removes what was kept for going back. */
export function tidyUp(plan: ChangePlan, held: HeldFolders): void {
  for (const folder of plan.stagingFolders) removeStaging(folder, held)
  // Where staging folders were, the folders' times have changed once more.
  const touched = new Set(plan.stagingFolders.map((folder) => dirname(folder)))
  for (const step of plan.steps)
    if (step.kind === 'attributes' && touched.has(step.path))
      setFolderTime(step.path, step.after.mtimeNs, held)
}

export interface Mended {
  readonly title: string
  readonly how: string
}

/**
 * What restores that were killed have left. What cannot be mended is told once and set aside: later, when
 * somebody has seen to it, going back would do harm.
 */
export function mendAbandoned(journalFolder: string): Mended[] {
  const mended: Mended[] = []
  for (const { journal, plan, phase } of ChangeJournal.abandoned(journalFolder)) {
    if (!plan) {
      journal.remove()
      continue
    }
    const isComplete = phase === 'committed'
    using held = heldFor(plan.roots)
    try {
      let kept: readonly string[] = []
      if (isComplete) tidyUp(plan, held)
      else kept = rollBack(plan, held, journal, phase)
      journal.remove()
      mended.push({ title: plan.title, how: [isComplete ? 'tidied up' : 'rolled back', ...kept].join('; ') })
    } catch (error) {
      const aside = journal.setAside()
      const reason = error instanceof Error ? error.message : String(error)
      mended.push({ title: plan.title, how: `not taken back (${reason}); ${aside} says what it was doing` })
    }
  }
  return mended
}

class Undoing {
  /** What somebody else has made since, in words. */
  readonly kept: string[] = []
  readonly #held: HeldFolders
  readonly #suffix: string

  constructor(held: HeldFolders, planId: string) {
    this.#held = held
    this.#suffix = `.umbra-${planId.slice(0, 8)}`
  }

  undo(step: Step): void {
    hostCall(`Cannot take back ${textOf(step.path).text}`, () => {
      if (step.kind === 'remove') this.#moveBack(step.old, step.path)
      else if (step.kind === 'folder') removeFolder(step.path, this.#held)
      else if (step.kind === 'put') this.#undoPut(step)
      else this.#undoAttributes(step)
    })
  }

  /**
   * The new file goes back into the staging folder: its being there says that it is not in its place. A folder
   * is not what was put.
   */
  #undoPut({ path, staged, old }: Step & { kind: 'put' }): void {
    const held = this.#held
    // With neither there is no telling whose file it is that lies there.
    if (old !== null && !isThere(old, held) && !isThere(staged, held))
      throw new UmbraError('NOT_FOUND', 'What was kept for going back is gone')
    const isFolder = held.withNode(path, ({ stat }) => stat.isDirectory()) ?? false
    if (!isThere(staged, held) && !isFolder && isThere(path, held)) this.#held.rename(path, staged)
    if (old !== null) this.#moveBack(old, path)
  }

  /** What somebody has put in its place since keeps its attributes. */
  #undoAttributes({ path, identity, before }: Step & { kind: 'attributes' }): void {
    if (!before) return
    this.#held.withNode(path, (node) => {
      if (identityOf(node.stat) === identity) setAttributes(node, path, before)
      else this.kept.push(`${textOf(path).text} was replaced by somebody and is left as it is`)
    })
  }

  /** What somebody has made there since is kept beside it. */
  #moveBack(old: string, path: string): void {
    if (!isThere(old, this.#held)) return
    if (isThere(path, this.#held)) {
      const aside = `${path}${this.#suffix}`
      this.#held.rename(path, aside)
      this.kept.push(`what somebody has made at ${textOf(path).text} since is now ${textOf(aside).text}`)
    }
    this.#held.rename(old, path)
  }
}

function isThere(path: string, held: HeldFolders): boolean {
  return held.withNode(path, () => true) ?? false
}

/** What others have put into it meanwhile stays. */
function removeFolder(path: string, held: HeldFolders): void {
  held.forget(path)
  removeIfEmpty(path, held)
}

function removeIfEmpty(path: string, held: HeldFolders): void {
  try {
    rmdirSync(held.at(path))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ENOTEMPTY') throw error
  }
}

/** @throws UmbraError RESTORE_REFUSED: somebody has put another one in its place, or something into what is in it */
function removeStaging(folder: string, held: HeldFolders): void {
  const name = textOf(folder).text
  if (!isThere(folder, held)) return
  if (!holdStaging(folder, held))
    throw new UmbraError('RESTORE_REFUSED', `${name} is not the folder that the restore made`, { path: name })
  hostCall(`Cannot remove ${name}`, () => {
    for (const entry of readdirSync(held.folder(folder).handle, 'latin1' as BufferEncoding))
      removeEntry(joinPath(folder, entry), held)
    removeIfEmpty(folder, held)
  })
}

/** Folders that were taken away were empty. */
function removeEntry(path: string, held: HeldFolders): void {
  const isFolder = held.withNode(path, ({ stat }) => stat.isDirectory())
  if (isFolder) rmdirSync(held.at(path))
  else unlinkSync(held.at(path))
}

/** Of a folder that has gone meanwhile, none. */
function setFolderTime(path: string, mtimeNs: string, held: HeldFolders): void {
  held.withNode(path, ({ handle, stat }) => {
    if (stat.isDirectory()) setModifyTime(handle, BigInt(mtimeNs))
  })
}
