// A restore of component files from beginning to end: for each backup of the chains, in order, one restore
// operation with that backup's own documents (vss.md sections 2.1 and 2.3).
//
// Always true: nothing is written before all chains are verified; additional-restores is true for every
// backup of a component but its last, so that its writer recovers once; a service that was stopped is
// started again when all its components are whole, or untouched.

import { hasCode, UmbraError } from '../../../base/errors.ts'
import { Pace, throwIfAborted } from '../../../image/pace.ts'
import type { RequesterSession, WriterStatus } from '../../coordinator/requester-session.ts'
import type { BackupComponent, BackupComponents } from '../../documents/backup-components.ts'
import { fullPathOf, isSameComponent } from '../../documents/component-rules.ts'
import { isAtOrBelow } from '../../documents/file-spec.ts'
import type { WriterMetadata } from '../../documents/writer-metadata.ts'
import type { ComponentLink } from '../../repository/chains.ts'
import type { Repository } from '../../repository/repository.ts'
import { failureText } from '../writer-judgement.ts'
import type {
  ComponentRestoreOptions,
  ComponentRestoreResult,
  RestoreSurroundings,
} from './component-restore-types.ts'
import { ComponentRun } from './component-run.ts'
import { newTargetsFor } from './new-targets.ts'
import { occupiedFolder } from './occupied-folder.ts'
import { planRestore, type RestoreChainPlan, verifyChains } from './restore-chain.ts'
import { refusedMethod } from './restore-decision.ts'
import { setsOf } from './restore-set.ts'
import { StoppedServices } from './stopped-services.ts'
import { mendAbandoned } from './undo-change.ts'

/**
 * @throws UmbraError NOT_FOUND (a writer is not there, too), INVALID_ARGUMENT; BROKEN_CHAIN, BAD_IMAGE,
 *   INVALID_DOCUMENT before anything is written; ABORTED; and where nothing at all was restored its first
 *   reason: RESTORE_REFUSED, WRITER_FAILED, OUT_OF_SPACE, EACCES and others
 */
export async function restoreComponents(
  surroundings: RestoreSurroundings,
  repository: Repository,
  options: ComponentRestoreOptions,
): Promise<ComponentRestoreResult> {
  const run = new ComponentRestore(surroundings, repository, options)
  try {
    const result = await run.run()
    if (!result.isDryRun)
      record(repository, result.backup, result.isPartial ? 'partial' : 'ok', titles(result))
    return result
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    if (!options.dryRun) record(repository, run.backupId, 'failed', message)
    throw error
  }
}

interface Active {
  readonly run: ComponentRun
  readonly link: ComponentLink
  readonly metadata: WriterMetadata
}

class ComponentRestore {
  readonly #surroundings: RestoreSurroundings
  readonly #repository: Repository
  readonly #options: ComponentRestoreOptions
  readonly #notes: string[] = []
  readonly #services: StoppedServices
  #plan: RestoreChainPlan | null = null
  #runs: readonly ComponentRun[] = []

  constructor(surroundings: RestoreSurroundings, repository: Repository, options: ComponentRestoreOptions) {
    this.#surroundings = surroundings
    this.#repository = repository
    this.#options = options
    this.#services = new StoppedServices(surroundings.services, (note) => this.#note(note))
  }

  get backupId(): string | null {
    return this.#plan?.backup.id ?? null
  }

  async run(): Promise<ComponentRestoreResult> {
    const { backup, components, dryRun = false } = this.#options
    if (!dryRun) this.#mend()
    const plan = planRestore(this.#repository.list(), backup, components)
    this.#plan = plan
    this.#runs = plan.chosen.map((chosen) => new ComponentRun(chosen))
    this.#checkWishes()
    const totalBytes = await verifyChains(plan, this.#options)
    this.#refuseMethods()
    if (dryRun) await this.#preview(plan)
    else await this.#replay(plan, totalBytes)
    return this.#result(plan, dryRun)
  }

  #mend(): void {
    for (const { title, how } of mendAbandoned(this.#surroundings.journalFolder))
      this.#note(`An interrupted restore of ${title} was ${how}`)
  }

  // -- before anything is written

  #checkWishes(): void {
    const { newFolders = [] } = this.#options
    const moved: string[] = []
    for (const run of this.#runs)
      for (const link of run.chosen.chain) moved.push(...this.#checkWish(this.#activeAt(run, link)))
    const unused = newFolders.find(({ from }) => !moved.some((path) => isAtOrBelow(path, from)))
    if (unused)
      throw new UmbraError('INVALID_ARGUMENT', `No file set of these components lies in ${unused.from}`)
  }

  /** @returns the folders that are moved */
  #checkWish({ run, metadata }: Active): string[] {
    const { rollForward, withoutWriters, newFolders = [] } = this.#options
    const { backupSchema, identity } = metadata
    if (rollForward !== undefined && (withoutWriters || !backupSchema.includes('rollforward-restore')))
      throw new UmbraError('INVALID_ARGUMENT', `${identity.name} cannot be rolled forward`)
    const targets = newTargetsFor(setsOf(metadata, run.chosen.key, run.chosen.subcomponents), newFolders)
    if (targets.length > 0 && !withoutWriters && !backupSchema.includes('new-target'))
      throw new UmbraError(
        'INVALID_ARGUMENT',
        `${identity.name} does not take new targets; without telling the writers (--without-writers) its files can go anywhere`,
      )
    return targets.map(({ path }) => path)
  }

  /** By name, and before a writer hears of it. */
  #refuseMethods(): void {
    for (const run of this.#runs) {
      for (const link of run.chosen.chain) {
        const { method } = this.#activeAt(run, link).metadata.restoreMethod
        const reason = refusedMethod(method)
        if (reason === undefined || run.hasFailed) continue
        run.refuse(undefined, new UmbraError('RESTORE_REFUSED', `${run.title} cannot be restored: ${reason}`))
      }
    }
  }

  async #preview(plan: RestoreChainPlan): Promise<void> {
    for (const id of plan.order) {
      const session = await this.#openSession(id)
      try {
        const active = this.#active(id)
        const document = session ? await this.#select(session, active) : this.#selectAlone(id, active)
        for (const one of active) {
          const component = componentIn(document, one)
          const refusal = this.#occupied(one, component)
          if (refusal !== null) one.run.failure ??= refusal.message
          one.run.preview({ link: one.link, metadata: one.metadata, component })
        }
      } finally {
        await session?.close()
      }
    }
  }

  // -- operations

  async #replay(plan: RestoreChainPlan, totalBytes: number): Promise<void> {
    const { signal, onProgress } = this.#options
    const pace = new Pace(totalBytes, {
      signal,
      onProgress: ({ doneBytes }) =>
        onProgress?.({ doneBytes: totalBytes + doneBytes, totalBytes: 2 * totalBytes }),
    })
    try {
      for (const [index, id] of plan.order.entries()) {
        throwIfAborted(signal)
        await this.#operate(id, pace, index === 0)
      }
    } finally {
      await this.#services.leave(this.#runs)
    }
    throwIfAborted(signal)
    pace.finish()
  }

  async #operate(id: string, pace: Pace, isFirst: boolean): Promise<void> {
    const active = this.#active(id)
    if (active.length === 0) return
    const session = await this.#openSession(id)
    try {
      let document: BackupComponents
      let statuses: readonly WriterStatus[] = []
      try {
        if (session) {
          await this.#select(session, active)
          await session.preRestore()
          statuses = await session.gatherWriterStatus()
          // Only now: writers may have changed it.
          document = await session.components()
        } else document = this.#selectAlone(id, active)
      } catch (error) {
        // Nothing is written yet, and nobody has been told more than PreRestore.
        if (isFirst) throw error
        for (const { run, link } of active) run.refuse(link, error)
        return
      }
      for (const one of active) await this.#restoreOne(one, document, statuses, session, pace)
      await this.#services.settle(this.#runs)
      if (session) await this.#postRestore(session, active)
      await this.#services.restart(active.filter(({ run, link }) => run.isLast(link) && run.status === 'all'))
    } finally {
      await session?.close().catch((error: unknown) => this.#note(`A session's end failed: ${String(error)}`))
    }
  }

  async #restoreOne(
    { run, link, metadata }: Active,
    document: BackupComponents,
    statuses: readonly WriterStatus[],
    session: RequesterSession | null,
    pace: Pace,
  ): Promise<void> {
    const component = componentIn(document, { run, metadata })
    const refusal =
      refusalOf(metadata, component.preRestoreFailureMessage, statuses) ??
      this.#occupied({ run, link, metadata }, component)
    let status: 'all' | 'none' | 'failed' = 'none'
    if (refusal !== null) run.refuse(link, refusal)
    else if (await this.#stopService(run, link, metadata))
      status = await run.replay({
        link,
        metadata,
        component,
        session,
        journalFolder: this.#surroundings.journalFolder,
        pace,
        options: this.#options,
      })
    await session?.setFileRestoreStatus(run.ref({ metadata }), status)
  }

  /** Before anything is looked at: what the service holds open is free then. @returns false: it does not stop */
  async #stopService(run: ComponentRun, link: ComponentLink, metadata: WriterMetadata): Promise<boolean> {
    const { method, serviceName } = metadata.restoreMethod
    if (method !== 'stop-restore-start' || serviceName === undefined) return true
    try {
      await this.#services.stop(serviceName, run)
      return true
    } catch (error) {
      run.refuse(link, error)
      return false
    }
  }

  async #postRestore(session: RequesterSession, active: readonly Active[]): Promise<void> {
    await session.postRestore()
    const statuses = await session.gatherWriterStatus()
    const document = await session.components()
    for (const { run, metadata } of active) {
      if (run.hasFailed) continue
      const { postRestoreFailureMessage } = componentIn(document, { run, metadata })
      const refusal = refusalOf(metadata, postRestoreFailureMessage, statuses)
      // The files are there; whether the application can use them is another matter.
      if (refusal !== null) {
        run.failure = refusal.message
        run.error ??= refusal
      }
    }
  }

  /** Before the first of a chain, for all of it: what came into being later has file sets of its own. */
  #occupied({ run, link }: Active, { restoreTarget }: BackupComponent): UmbraError | null {
    if (!run.isFirst(link) || restoreTarget !== 'original') return null
    const { key, subcomponents, chain } = run.chosen
    const sets = chain.flatMap((each) => setsOf(this.#activeAt(run, each).metadata, key, subcomponents))
    return occupiedFolder(run.title, sets, this.#options.newFolders ?? [])
  }

  // -- sessions

  async #openSession(id: string): Promise<RequesterSession | null> {
    if (this.#options.withoutWriters) return null
    const documents = this.#plan?.documents.get(id)
    const session = await this.#surroundings.coordinator.openSession('restore')
    try {
      if (documents) await session.loadDocuments(documents.components, documents.metadata)
      await session.gatherWriterMetadata()
      return session
    } catch (error) {
      await session.close().catch(() => undefined)
      throw error
    }
  }

  async #select(session: RequesterSession, active: readonly Active[]): Promise<BackupComponents> {
    const options = this.#optionsText()
    for (const { run, link, metadata } of active) {
      const ref = run.ref({ metadata })
      const { subcomponents, key } = run.chosen
      if (subcomponents.length === 0) await session.setSelectedForRestore(ref, true)
      for (const subcomponent of subcomponents) await session.addRestoreSubcomponent(ref, subcomponent)
      await session.setAdditionalRestores(ref, !run.isLast(link))
      if (options !== undefined) await session.setRestoreOptions(ref, options)
      for (const target of newTargetsFor(
        setsOf(metadata, key, subcomponents),
        this.#options.newFolders ?? [],
      ))
        await session.addNewTarget(ref, target)
    }
    return session.components()
  }

  /** The document as a session without writers would have it. */
  #selectAlone(id: string, active: readonly Active[]): BackupComponents {
    const document = structuredClone(this.#plan?.documents.get(id)?.components)
    if (!document) throw new UmbraError('NOT_FOUND', `No documents of backup ${id}`)
    for (const one of active) {
      const { key, subcomponents } = one.run.chosen
      const component = componentIn(document, one)
      component.restoreSubcomponents = [...subcomponents]
      const sets = setsOf(one.metadata, key, subcomponents)
      component.newTargets = newTargetsFor(sets, this.#options.newFolders ?? [])
    }
    return document
  }

  #optionsText(): string | undefined {
    const { restoreOptions, rollForward } = this.#options
    if (rollForward === undefined) return restoreOptions
    const value = rollForward === 'all' ? 'All' : `Partial:${rollForward}`
    const own = `"":"Roll Forward"="${value}"`
    return restoreOptions === undefined ? own : `${restoreOptions},${own}`
  }

  // -- what there is

  #active(id: string): Active[] {
    return this.#runs.flatMap((run) => {
      const link = run.linkAt(id)
      return link && !run.hasFailed ? [this.#activeAt(run, link)] : []
    })
  }

  #activeAt(run: ComponentRun, link: ComponentLink): Active {
    const metadata = this.#plan?.documents
      .get(link.entry.id)
      ?.metadata.find(({ identity }) => identity.instanceId === link.writer.instanceId)
    if (metadata) return { run, link, metadata }
    throw new UmbraError('INVALID_DOCUMENT', `Backup ${link.entry.id} has no metadata of ${link.writer.name}`)
  }

  #result(plan: RestoreChainPlan, isDryRun: boolean): ComponentRestoreResult {
    const failed = this.#runs.filter((run) => run.hasFailed)
    const isUntouched = this.#runs.every((run) => run.status === 'none')
    const [first] = failed
    if (!isDryRun && isUntouched && first) throw first.error
    return {
      backup: plan.backup.id,
      operations: plan.order,
      components: this.#runs.map((run) => run.told(isDryRun)),
      notes: this.#notes,
      isDryRun,
      isPartial: failed.length > 0 || this.#services.hasTrouble,
    }
  }

  #note(note: string): void {
    this.#notes.push(note)
    this.#options.onNote?.(note)
  }
}

/** Null: the writer has nothing against it. */
function refusalOf(
  { identity }: WriterMetadata,
  message: string | undefined,
  statuses: readonly WriterStatus[],
): UmbraError | null {
  const status = statuses.find(
    ({ classId, instanceName }) => classId === identity.classId && instanceName === identity.instanceName,
  )
  if (status && status.result !== 'ok') return new UmbraError('WRITER_FAILED', failureText(status))
  if (message === undefined) return null
  return new UmbraError('WRITER_FAILED', `${identity.name}: ${message}`)
}

function componentIn(document: BackupComponents, { run, metadata }: Pick<Active, 'run' | 'metadata'>) {
  const component = document.writers
    .find(({ instanceId }) => instanceId === metadata.identity.instanceId)
    ?.components.find((one) => isSameComponent(one, run.chosen.key))
  if (component) return component
  throw new UmbraError(
    'INVALID_DOCUMENT',
    `The backup's document does not have ${fullPathOf(run.chosen.key)}`,
  )
}

function titles({ components }: ComponentRestoreResult): string {
  return components
    .map(
      ({ writer, logicalPath, name, status }) => `${writer}:${fullPathOf({ logicalPath, name })} ${status}`,
    )
    .join(', ')
}

function record(
  repository: Repository,
  backupId: string | null,
  outcome: 'ok' | 'partial' | 'failed',
  message: string,
): void {
  try {
    repository.record({ atMs: Date.now(), operation: 'restore', backupId, outcome, message })
  } catch (error) {
    // A repository may be read-only where a machine is rebuilt.
    if (!hasCode(error, 'EROFS') && !hasCode(error, 'EACCES')) throw error
  }
}
