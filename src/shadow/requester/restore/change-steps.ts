// The steps of a change, each carried out through held folders on the node that was meant.
//
// Always true: a step either does what it says to the node that was there when the change was planned, or
// throws; what somebody else put in its place meanwhile is not given attributes, and no folder that holds
// anything is taken away.

import { mkdirSync, readdirSync } from 'node:fs'
import { UmbraError } from '../../../base/errors.ts'
import { HeldFolders, identityOf } from '../../../base/held-folders.ts'
import { isAtOrBelow } from '../../documents/file-spec.ts'
import { textOf } from '../file-tree.ts'
import type { Step } from './change-journal.ts'
import { setAttributes } from './disk-node.ts'

/** Links are followed in the roots and above, where they are the machine's own business. */
export function isRootOf(roots: readonly string[], path: string): boolean {
  return roots.some((root) => isAtOrBelow(root, path))
}

export function heldFor(roots: readonly string[]): HeldFolders {
  return new HeldFolders((path) => isRootOf(roots, path))
}

/**
 * Keeps a staging folder open: should somebody put another one in its place, it is this one that is used.
 * @returns whether this user made it, and nobody else may look into it
 */
export function holdStaging(path: string, held: HeldFolders): boolean {
  held.pin(path)
  const { stat } = held.folder(path)
  return stat.uid === BigInt(process.geteuid?.() ?? 0) && (Number(stat.mode) & 0o777) === 0o700
}

export class ChangeSteps {
  readonly #held: HeldFolders
  /** Identities of the folders that this change has made. */
  readonly #made = new Map<string, string>()

  constructor(held: HeldFolders) {
    this.#held = held
  }

  /** @throws UmbraError RESTORE_REFUSED: somebody else has changed what the step is about; those of the system */
  carryOut(step: Step): void {
    if (step.kind === 'remove') this.#remove(step)
    else if (step.kind === 'folder') this.#makeFolder(step)
    else if (step.kind === 'put') this.#put(step)
    else this.#setAttributes(step)
  }

  #remove({ path, old }: Step & { kind: 'remove' }): void {
    this.#held.rename(path, old)
    if (!this.#isEmpty(old)) throw changed(path, 'was filled')
  }

  #makeFolder({ path, mode }: Step & { kind: 'folder' }): void {
    this.#held.forget(path)
    mkdirSync(this.#held.at(path), { mode })
    const identity = this.#held.withNode(path, ({ stat }) => (stat.isDirectory() ? identityOf(stat) : ''))
    if (!identity || !this.#isEmpty(path)) throw changed(path, 'was replaced')
    this.#made.set(path, identity)
  }

  #put({ path, staged, old }: Step & { kind: 'put' }): void {
    if (old !== null) {
      this.#held.rename(path, old)
      if (this.#held.withNode(old, ({ stat }) => stat.isDirectory())) throw changed(path, 'became a folder')
    }
    this.#held.rename(staged, path)
  }

  #setAttributes(step: Step & { kind: 'attributes' }): void {
    const { path, after } = step
    const expected = step.identity ?? this.#made.get(path)
    const isThere = this.#held.withNode(path, (node) => {
      if (identityOf(node.stat) !== expected) throw changed(path, 'was replaced')
      setAttributes(node, path, after)
      return true
    })
    if (!isThere) throw changed(path, 'was removed')
  }

  /** What is no folder is. */
  #isEmpty(path: string): boolean {
    return (
      this.#held.withNode(
        path,
        ({ handle, stat }) => !stat.isDirectory() || readdirSync(handle).length === 0,
      ) ?? true
    )
  }
}

function changed(path: string, how: string): UmbraError {
  const name = textOf(path).text
  return new UmbraError('RESTORE_REFUSED', `${name} ${how} by somebody while it was restored`, { path: name })
}
