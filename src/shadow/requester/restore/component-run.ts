// One component on its way through the backups of its chain.
//
// Always true: where its files go is decided at its first backup and holds for the others, which find there
// what the first has put; after a failure no later backup of it is replayed.

import { dirname } from 'node:path'
import { UmbraError } from '../../../base/errors.ts'
import type { Pace } from '../../../image/pace.ts'
import type { RequesterSession } from '../../coordinator/requester-session.ts'
import type { BackupComponent } from '../../documents/backup-components.ts'
import { rangesFilePathIn } from '../../documents/byte-ranges.ts'
import { fullPathOf } from '../../documents/component-rules.ts'
import { isAtOrBelow } from '../../documents/file-spec.ts'
import type { FileSet, WriterMetadata } from '../../documents/writer-metadata.ts'
import type { ComponentLink } from '../../repository/chains.ts'
import { writerText } from '../component-plan.ts'
import { byteString, textOf } from '../file-tree.ts'
import { type ComponentChange, planComponent, rootsOf, writtenPaths } from './component-change.ts'
import type { ComponentRestoreOptions, RestoredComponent } from './component-restore-types.ts'
import { diskNode, whyNotWritable } from './disk-node.ts'
import type { ChosenComponent } from './restore-chain.ts'
import { decideRestore, type RestoreDecision, type RestorePlace } from './restore-decision.ts'
import { alternatePlaces, originalPlaces, type RestoreItem, restoreItems, setsOf } from './restore-set.ts'
import { ChangeFailure, TreeChange } from './tree-change.ts'

export interface Replay {
  readonly link: ComponentLink
  readonly metadata: WriterMetadata
  /** After PreRestore. */
  readonly component: BackupComponent
  /** Null: no writer is told. */
  readonly session: RequesterSession | null
  readonly journalFolder: string
  readonly pace: Pace
  readonly options: ComponentRestoreOptions
}

export class ComponentRun {
  readonly chosen: ChosenComponent
  status: 'all' | 'none' | 'failed' = 'none'
  failure: string | null = null
  /** The first error, where all that was asked for failed. */
  error: unknown = null
  #place: RestorePlace | null = null
  /** Some of its file sets go to folders that the user gave. */
  #isMoved = false
  #fileCount = 0
  #bytes = 0

  constructor(chosen: ChosenComponent) {
    this.chosen = chosen
  }

  get title(): string {
    return `${writerText(this.chosen.writer)}:${fullPathOf(this.chosen.key)}`
  }

  get hasFailed(): boolean {
    return this.failure !== null
  }

  linkAt(backupId: string): ComponentLink | undefined {
    return this.chosen.chain.find((link) => link.entry.id === backupId)
  }

  isLast(link: ComponentLink): boolean {
    return this.chosen.chain.at(-1) === link
  }

  isFirst(link: ComponentLink): boolean {
    return this.chosen.chain[0] === link
  }

  /** Nothing of this backup was written. What earlier ones wrote stays, and says so. */
  refuse(link: ComponentLink | undefined, error: unknown): void {
    this.#fail(link, error, true)
  }

  /** @returns the status of this backup's operation */
  async replay(replay: Replay): Promise<'all' | 'none' | 'failed'> {
    const { link } = replay
    try {
      const items = restoreItems(link, replay.metadata, replay.component)
      const change = this.#decide(replay, items)
      await this.#write(replay, change)
      for (const used of change.used) await replay.session?.addAlternateLocationUsed(this.ref(replay), used)
      await this.#tellRangesFiles(replay, change)
      if (this.isLast(link)) this.status = 'all'
      return 'all'
    } catch (error) {
      const isClean = !(error instanceof ChangeFailure) || error.isClean
      this.#fail(link, error instanceof ChangeFailure ? error.reason : error, isClean)
      return isClean ? 'none' : 'failed'
    }
  }

  /** As things are now, without a word to the writer. */
  preview(replay: Pick<Replay, 'link' | 'metadata' | 'component'>): void {
    const items = restoreItems(replay.link, replay.metadata, replay.component)
    this.#count(items)
    if (this.hasFailed || !this.isFirst(replay.link)) return
    try {
      this.#decide(replay, items)
    } catch (error) {
      this.failure = error instanceof Error ? error.message : String(error)
    }
  }

  ref({ metadata }: Pick<Replay, 'metadata'>) {
    return { instanceId: metadata.identity.instanceId, ...this.chosen.key }
  }

  told(isDryRun: boolean): RestoredComponent {
    const { writer, key, subcomponents, chain } = this.chosen
    return {
      writer: writer.name,
      instanceName: writer.instanceName,
      logicalPath: key.logicalPath,
      name: key.name,
      subcomponents: subcomponents.map(fullPathOf),
      chain: chain.map((link) => link.entry.id),
      status: isDryRun ? null : this.status,
      place: this.#isMoved && this.#place === 'original' ? 'new-target' : this.#place,
      fileCount: this.#fileCount,
      bytes: this.#bytes,
      failure: this.failure,
    }
  }

  #fail(link: ComponentLink | undefined, error: unknown, isClean: boolean): void {
    const message = error instanceof Error ? error.message : String(error)
    const before =
      link && !this.isFirst(link) ? this.chosen.chain[this.chosen.chain.indexOf(link) - 1] : undefined
    this.error ??= error
    this.failure = before ? `${message}; it is at backup ${before.entry.id}, not recovered` : message
    this.status = isClean && !before ? 'none' : 'failed'
  }

  // -- where

  #decide(
    { link, metadata, component }: Pick<Replay, 'link' | 'metadata' | 'component'>,
    items: readonly RestoreItem[],
  ): Omit<ComponentChange, 'pace'> & { used: AlternateUsed[] } {
    const sets = setsOf(metadata, component, component.restoreSubcomponents)
    const original = originalPlaces(component)
    const alternate = items.every(({ set, entry }) => set || entry.kind === 'ranges-file')
      ? alternatePlaces(metadata, sets)
      : undefined
    const directed = component.restoreTarget === 'directed' ? component.directedTargets : []
    const own = { items, place: withRangesFiles(original, sets), directed }
    const elsewhere = alternate && {
      items,
      place: withRangesFiles(alternate, sets),
      directed: [],
    }
    const decision = this.#decision(link, metadata, component, own, elsewhere)
    if (decision.place === null) {
      const code = decision.why === 'refused' ? 'RESTORE_REFUSED' : 'WRITER_FAILED'
      throw new UmbraError(code, `${this.title} cannot be restored: ${decision.reason}`)
    }
    this.#place = decision.place
    this.#isMoved = component.newTargets.length > 0
    const isElsewhere = decision.place === 'alternate' && elsewhere
    return { ...(isElsewhere || own), used: isElsewhere ? alternatesUsed(metadata, sets) : [] }
  }

  #decision(
    link: ComponentLink,
    metadata: WriterMetadata,
    component: BackupComponent,
    own: Omit<ComponentChange, 'pace'>,
    elsewhere: Omit<ComponentChange, 'pace'> | undefined,
  ): RestoreDecision {
    const paths = writtenPaths(own)
    const problem = firstProblem(own)
    const alternateProblem = elsewhere ? firstProblem(elsewhere) : null
    const { method, serviceName } = metadata.restoreMethod
    const facts = {
      presentCount: paths.filter((path) => diskNode(path)).length,
      fileCount: paths.length,
      canReplace: problem === null,
      isMapped: elsewhere !== undefined,
      canReplaceAlternate: elsewhere !== undefined && alternateProblem === null,
      hasService: serviceName !== undefined,
    }
    // What is there now is what this restore has put there.
    const kept = this.isFirst(link) || component.restoreTarget === 'directed' ? null : this.#place
    if (kept !== null) {
      const isPossible = kept === 'alternate' ? facts.canReplaceAlternate : facts.canReplace
      if (isPossible) return { place: kept === 'directed' ? 'original' : kept, service: 'none' }
      const reason = (kept === 'alternate' ? alternateProblem : problem) ?? 'its place has gone'
      return { place: null, why: 'refused', reason }
    }
    const decision = decideRestore(method, component.restoreTarget, facts)
    if (decision.place !== null || decision.why !== 'refused' || problem === null) return decision
    return { ...decision, reason: `${decision.reason} (${problem})` }
  }

  // -- writing

  async #write(replay: Replay, plan: Omit<ComponentChange, 'pace'>): Promise<void> {
    const { journalFolder, pace, options, link } = replay
    const change = new TreeChange({
      title: `${this.title} from backup ${link.entry.id}`,
      journalFolder,
      roots: rootsOf(plan),
      signal: options.signal,
      onStep: options.onStep,
    })
    planComponent(change, { ...plan, pace })
    await change.apply()
    this.#count(plan.items)
  }

  #count(items: readonly RestoreItem[]): void {
    for (const { entry, stored } of items) {
      if (entry.kind === 'deleted' || entry.kind === 'directory') continue
      this.#fileCount++
      if (stored !== undefined) this.#bytes += entry.stored?.sizeBytes ?? 0
    }
  }

  async #tellRangesFiles(replay: Replay, { items, place }: Omit<ComponentChange, 'pace'>): Promise<void> {
    const { session, component } = replay
    const rangesFiles = items.filter(({ entry }) => entry.kind === 'ranges-file')
    for (const [index, partial] of component.partialFiles.entries()) {
      const reference = rangesFilePathIn(partial.ranges)
      const item =
        reference === undefined ? undefined : rangesFiles.find(({ path }) => path === byteString(reference))
      if (!item || place(item) === item.path) continue
      await session?.setRangesFilePath(this.ref(replay), index, textOf(place(item)).text)
    }
  }
}

type AlternateUsed = FileSet & { destination: string }

function alternatesUsed(metadata: WriterMetadata, sets: readonly FileSet[]): AlternateUsed[] {
  return sets.flatMap((set) => {
    const mapping = metadata.alternateLocationMappings.find(
      ({ path, filespec, recursive }) =>
        path === set.path && filespec === set.filespec && recursive === set.recursive,
    )
    return mapping ? [{ ...set, destination: mapping.alternateLocation }] : []
  })
}

function firstProblem(change: Omit<ComponentChange, 'pace'>): string | null {
  const folders = new Set(
    change.items.filter(({ entry }) => entry.kind === 'directory').map((item) => change.place(item)),
  )
  for (const path of writtenPaths(change)) {
    const problem = whyNotWritable(path, (folder) => folders.has(folder))
    if (problem !== null) return problem
  }
  return null
}

/** A ranges file that lies among a set's folders goes with the set, another one to where it was. */
function withRangesFiles(
  place: ComponentChange['place'],
  sets: readonly FileSet[],
): ComponentChange['place'] {
  return (item) => {
    if (item.set) return place(item)
    const folder = dirname(item.path)
    const set = sets.find((candidate) => isAtOrBelow(folder, byteString(candidate.path)))
    return set ? place({ path: item.path, set }) : place(item)
  }
}
