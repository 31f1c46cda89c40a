// The making of a shadow set, in exactly the order of vss.md section 1.2, step 13.
//
// Always true: writers are frozen before any volume is held and thawed after every volume is released;
// the release follows the last commit at once; all or nothing: when any step fails, every hold is
// released first, every snapshot of the set is dropped, and then every writer that has had
// PrepareForSnapshot and not yet PostSnapshot is told to abort.

import { setMaxListeners } from 'node:events'
import { UmbraError } from '../../base/errors.ts'
import { FREEZE_LEVELS, type FreezeLevel } from '../documents/vocabulary.ts'
import type { WriterEvent } from '../writers/writer-messages.ts'
import { FreezeWindow } from './freeze-window.ts'
import { type CoordinatorLimits, eventLimitMs } from './limits.ts'
import type { SetTimings } from './requester-session.ts'
import type { Outcome, SessionWriter } from './session-writer.ts'
import type { ShadowMember } from './shadow-member.ts'
import { unlessAborted } from './time-limit.ts'

export type SendEvent = (
  writer: SessionWriter,
  event: WriterEvent,
  timeoutMs: number,
  signal?: AbortSignal,
) => Promise<Outcome>

export interface SetCreationOptions {
  readonly members: readonly ShadowMember[]
  readonly writers: readonly SessionWriter[]
  readonly limits: CoordinatorLimits
  /** Files excluded from the snapshot are deleted from it. */
  readonly deletesExcluded: boolean
  readonly send: SendEvent
  /** Nothing of the set is left; writers may still have to be told. */
  readonly onUndone: () => void
  /** Aborts when the requester gives up or is gone. */
  readonly signal: AbortSignal
}

export class SetCreation {
  readonly #options: SetCreationOptions
  readonly #window: FreezeWindow
  /** Anything that ends the creation early. */
  readonly #signal: AbortSignal
  #mayNeedAbort = false
  #flushMs = 0
  #heldMs = 0

  constructor(options: SetCreationOptions) {
    this.#options = options
    this.#window = new FreezeWindow(options.limits.freezeMs)
    this.#signal = AbortSignal.any([options.signal, this.#window.signal])
    setMaxListeners(0, this.#signal)
  }

  /** @throws UmbraError WRITER_FAILED, FREEZE_TIMED_OUT, HOLD_TIMED_OUT, ABORTED, or as a volume failed; nothing is left then */
  async run(): Promise<SetTimings> {
    const startMs = performance.now()
    const { members, limits } = this.#options
    const limitMs = limits.providerStepMs
    try {
      const setCount = members.length
      await this.#onAll((member) =>
        member.step('end-prepare', limitMs, this.#signal, (sequence) => sequence.endPrepare({ setCount })),
      )
      this.#mayNeedAbort = true
      await this.#tellAll('prepare-for-snapshot')
      const freezeStartMs = performance.now()
      await this.#freeze()
      await this.#cut()
      await this.#thaw()
      const freezeMs = performance.now() - freezeStartMs
      await this.#onAll((member) => member.preFinalCommit(limitMs, this.#signal))
      await this.#postSnapshot()
      await this.#deleteExcluded()
      await this.#onAll((member) => member.seal(limitMs, this.#signal))
      const totalMs = performance.now() - startMs
      return { freezeMs, flushMs: this.#flushMs, heldMs: this.#heldMs, totalMs }
    } catch (error) {
      await this.#giveUp()
      throw error
    } finally {
      this.#window.close()
    }
  }

  async #freeze(): Promise<void> {
    for (const level of FREEZE_LEVELS) {
      const frozen = this.#at(level).map(async (writer) => {
        this.#window.enter(writer)
        return { writer, outcome: await this.#sendInWindow(writer, 'freeze') }
      })
      // One that is late or gone ends it, whatever the others are doing.
      this.#check('freeze', await unlessAborted(Promise.all(frozen), this.#signal))
    }
  }

  /** From PreCommit to PostCommit: applications are frozen. */
  async #cut(): Promise<void> {
    const limitMs = this.#options.limits.providerStepMs
    const signal = this.#signal
    await this.#onAll((member) => member.step('pre-commit', limitMs, signal, (s) => s.preCommit()))
    await this.#onAll(async (member) => {
      const { flushMs } = await member.step('flush-and-hold', limitMs, signal, (s) => s.flushAndHold())
      this.#flushMs = Math.max(this.#flushMs, flushMs)
    })
    await this.#onAll((member) => member.commit(limitMs, signal))
    await this.#onAll(async (member) => {
      const { heldMs } = await member.step('release', limitMs, signal, (s) => s.release())
      this.#heldMs = Math.max(this.#heldMs, heldMs)
    })
    await this.#onAll((member) => member.step('post-commit', limitMs, signal, (s) => s.postCommit()))
  }

  /** In the reverse order of Freeze; one that fails does not leave the others frozen. */
  async #thaw(): Promise<void> {
    const outcomes: { writer: SessionWriter; outcome: Outcome }[] = []
    for (const level of [...FREEZE_LEVELS].reverse()) {
      const thawed = await Promise.all(
        this.#at(level).map(async (writer) => {
          const outcome = await this.#sendInWindow(writer, 'thaw')
          this.#window.leave(writer)
          return { writer, outcome }
        }),
      )
      outcomes.push(...thawed)
    }
    this.#check('thaw', outcomes)
  }

  async #postSnapshot(): Promise<void> {
    const { limits, send } = this.#options
    const timeoutMs = eventLimitMs(limits, 'post-snapshot')
    await Promise.all(
      this.#taking().map(async (writer) => {
        const { isFatal } = await send(writer, 'post-snapshot', timeoutMs, this.#signal)
        if (!isFatal) writer.hasHandledPostSnapshot = true
      }),
    )
    this.#checkSignal()
  }

  /** Best effort, as in VSS: a file that cannot be deleted is no reason to have no shadow copy. */
  async #deleteExcluded(): Promise<void> {
    const files = this.#taking().flatMap(({ metadata }) => metadata.excludeFromSnapshotFiles)
    if (files.length === 0 || !this.#options.deletesExcluded) return
    const limitMs = this.#options.limits.providerStepMs
    await Promise.all(
      this.#options.members.map((member) =>
        member
          .step('delete-excluded', limitMs, this.#signal, (sequence) => sequence.deleteFromSnapshot(files))
          .catch(() => {}),
      ),
    )
    this.#checkSignal()
  }

  async #giveUp(): Promise<void> {
    this.#window.close()
    const { members, limits, send } = this.#options
    await Promise.all(members.map((member) => member.undo(limits.providerAbortMs)))
    this.#options.onUndone()
    if (!this.#mayNeedAbort) return
    await abortWriters(this.#options.writers, (writer) =>
      send(writer, 'abort', eventLimitMs(limits, 'abort')),
    )
  }

  async #tellAll(event: WriterEvent): Promise<void> {
    const { limits, send } = this.#options
    const timeoutMs = eventLimitMs(limits, event)
    await Promise.all(this.#taking().map((writer) => send(writer, event, timeoutMs, this.#signal)))
    this.#checkSignal()
  }

  #sendInWindow(writer: SessionWriter, event: 'freeze' | 'thaw'): Promise<Outcome> {
    const signals = [this.#options.signal, this.#window.signalOf(writer)].filter(
      (signal) => signal !== undefined,
    )
    // Thaw goes to the others also when the window has failed for one.
    return this.#options.send(writer, event, this.#window.remainingMs(writer), AbortSignal.any(signals))
  }

  /** Stops at the first failure; the rest sees the signal or is undone. */
  async #onAll(work: (member: ShadowMember) => Promise<void>): Promise<void> {
    this.#checkSignal()
    await unlessAborted(Promise.all(this.#options.members.map(work)), this.#signal)
    this.#checkSignal()
  }

  #taking(): readonly SessionWriter[] {
    return this.#options.writers.filter((writer) => !writer.isOut)
  }

  #at(level: FreezeLevel): readonly SessionWriter[] {
    return this.#taking().filter((writer) => writer.metadata.freezeLevel === level)
  }

  #check(event: 'freeze' | 'thaw', outcomes: readonly { writer: SessionWriter; outcome: Outcome }[]): void {
    this.#checkSignal()
    const failed = outcomes.find(({ outcome }) => outcome.isFatal)
    if (failed === undefined) return
    const { writer, outcome } = failed
    const code = outcome.result === 'timeout' ? 'FREEZE_TIMED_OUT' : 'WRITER_FAILED'
    const why = outcome.message ?? outcome.result
    throw new UmbraError(code, `${writer.name} failed in ${event}: ${why}`, {
      writer: writer.name,
      event,
      result: outcome.result,
    })
  }

  #checkSignal(): void {
    if (this.#signal.aborted) throw this.#signal.reason
  }
}

/** Abort, once, to every one that has not finished with PostSnapshot. */
export async function abortWriters(
  writers: readonly SessionWriter[],
  abort: (writer: SessionWriter) => Promise<unknown>,
): Promise<void> {
  const due = writers.filter(
    (writer) => writer.isPrepared && !writer.hasHandledPostSnapshot && !writer.isAborted,
  )
  await Promise.all(
    due.map((writer) => {
      writer.isAborted = true
      return abort(writer)
    }),
  )
}
