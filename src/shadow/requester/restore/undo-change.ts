// Taking a change of files back, and tidying up after one that is complete: by the restore itself, or by the
// next run for one that was killed.
//
// Always true: each may be interrupted at any point and begun again; what is found on disk decides what is
// still to be done, so nothing is undone twice.

import { closeSync, fsyncSync, openSync, renameSync, rmdirSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import { setModifyTime } from '../../../base/file-attributes.ts'
import { hostCall } from '../../../image/host-file.ts'
import { bytesOf, textOf } from '../file-tree.ts'
import { ChangeJournal, type ChangePlan, type Phase, type Step } from './change-journal.ts'
import { diskNode, setAttributes } from './disk-node.ts'

/**
 * Everything as it was. Before the phase `committing` no step was done, and what lies in a step's place is
 * the user's own. @throws UmbraError what stands in the way; it can be tried again
 */
export function rollBack(plan: ChangePlan, journal: ChangeJournal, phase: Phase): void {
  if (phase === 'committing') {
    for (const step of [...plan.steps].reverse()) undo(step)
    // Without its staged file a step would look as if it were still to be undone.
    journal.note('undone')
  }
  removeStaging(plan)
  for (const { path, mtimeNs } of plan.folderTimes)
    if (diskNode(path, true)?.kind === 'directory') setModifyTime(bytesOf(`${path}/.`), BigInt(mtimeNs))
}

/** Removes what was kept for going back. */
export function tidyUp(plan: ChangePlan): void {
  removeStaging(plan)
  // Where staging folders were, the folders' times have changed once more.
  const touched = new Set(plan.stagingFolders.map((folder) => dirname(folder)))
  for (const step of plan.steps)
    if (step.kind === 'attributes' && touched.has(step.path))
      setModifyTime(bytesOf(`${step.path}/.`), BigInt(step.after.mtimeNs))
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
    try {
      if (isComplete) tidyUp(plan)
      else rollBack(plan, journal, phase)
      journal.remove()
      mended.push({ title: plan.title, how: isComplete ? 'tidied up' : 'rolled back' })
    } catch (error) {
      const aside = journal.setAside()
      const reason = error instanceof Error ? error.message : String(error)
      mended.push({ title: plan.title, how: `not taken back (${reason}); ${aside} says what it was doing` })
    }
  }
  return mended
}

export function syncPath(path: string): void {
  hostCall(`Cannot flush ${textOf(path).text}`, () => {
    const fd = openSync(bytesOf(path), 'r')
    try {
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  })
}

function undo(step: Step): void {
  hostCall(`Cannot take back ${textOf(step.path).text}`, () => {
    if (step.kind === 'remove') moveIfThere(step.old, step.path)
    else if (step.kind === 'folder') removeFolder(step.path)
    else if (step.kind === 'put') undoPut(step)
    else if (step.before && diskNode(step.path, true)) setAttributes(attributesPath(step.path), step.before)
  })
}

/** The new file goes back into the staging folder: its being there says that it is not in its place. */
function undoPut({ path, staged, old }: Step & { kind: 'put' }): void {
  // With neither there is no telling whose file it is that lies there.
  if (old !== null && !diskNode(old) && !diskNode(staged))
    throw new UmbraError('NOT_FOUND', 'What was kept for going back is gone')
  if (!diskNode(staged)) moveIfThere(path, staged)
  if (old !== null) moveIfThere(old, path)
}

function moveIfThere(from: string, to: string): void {
  if (diskNode(from)) renameSync(bytesOf(from), bytesOf(to))
}

/** What others have put into it meanwhile stays. */
function removeFolder(path: string): void {
  try {
    rmdirSync(bytesOf(path))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'ENOTDIR' && code !== 'ENOTEMPTY') throw error
  }
}

function removeStaging({ stagingFolders }: ChangePlan): void {
  for (const folder of stagingFolders)
    hostCall(`Cannot remove ${textOf(folder).text}`, () =>
      rmSync(bytesOf(folder), { recursive: true, force: true }),
    )
}

function attributesPath(path: string): string {
  return diskNode(path, true)?.kind === 'directory' ? `${path}/.` : path
}
