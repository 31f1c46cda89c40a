// The watchdog over frozen writers: from each one's Freeze to the end of its Thaw (vss.md 1.3, row 9).
//
// Always true: a writer that enters has its own time, the coordinator's limit or less if its metadata
// asks for less; when that is over, or when the writer goes away while it is frozen, the window fails
// once and for all, and everybody who waits for one of its writers stops waiting.

import { UmbraError } from '../../base/errors.ts'
import type { Outcome, SessionWriter } from './session-writer.ts'

interface Entry {
  readonly deadlineMs: number
  readonly timer: NodeJS.Timeout
  readonly ended: AbortController
  readonly forget: () => void
}

export class FreezeWindow {
  readonly #limitMs: number
  readonly #entries = new Map<SessionWriter, Entry>()
  readonly #failed = new AbortController()

  constructor(limitMs: number) {
    this.#limitMs = limitMs
  }

  /** Aborts, with the reason, when the creation cannot go on. */
  get signal(): AbortSignal {
    return this.#failed.signal
  }

  enter(writer: SessionWriter): void {
    const asked = writer.metadata.freezeTimeoutMs
    const limitMs = Math.min(this.#limitMs, asked > 0 ? asked : this.#limitMs)
    const ended = new AbortController()
    const timer = setTimeout(() => this.#expire(writer, limitMs), limitMs)
    const forget = writer.presence.onGone(() => this.#lose(writer))
    this.#entries.set(writer, { deadlineMs: Date.now() + limitMs, timer, ended, forget })
  }

  /** Aborts when this writer's time is over. */
  signalOf(writer: SessionWriter): AbortSignal | undefined {
    return this.#entries.get(writer)?.ended.signal
  }

  /** What is left of the writer's time, at least one millisecond. */
  remainingMs(writer: SessionWriter): number {
    const deadlineMs = this.#entries.get(writer)?.deadlineMs ?? 0
    return Math.max(1, deadlineMs - Date.now())
  }

  leave(writer: SessionWriter): void {
    const entry = this.#entries.get(writer)
    clearTimeout(entry?.timer)
    entry?.forget()
    this.#entries.delete(writer)
  }

  /** Watches nobody any more. */
  close(): void {
    for (const writer of [...this.#entries.keys()]) this.leave(writer)
  }

  #lose(writer: SessionWriter): void {
    const message = `${writer.name} went away while it was frozen`
    const error = new UmbraError('WRITER_FAILED', message, { writer: writer.name })
    this.#fail(writer, { result: 'not-responding', isFatal: true, message }, error)
  }

  #expire(writer: SessionWriter, limitMs: number): void {
    const message = `${writer.name} was frozen for ${limitMs} ms, longer than it may be`
    const error = new UmbraError('FREEZE_TIMED_OUT', message, { writer: writer.name, limitMs })
    this.#fail(writer, { result: 'timeout', isFatal: true, message }, error)
  }

  #fail(writer: SessionWriter, outcome: Outcome, error: UmbraError): void {
    const entry = this.#entries.get(writer)
    if (entry === undefined) return
    this.leave(writer)
    writer.note(writer.status.state === 'waiting-for-thaw' ? 'thaw' : 'freeze', outcome)
    entry.ended.abort(error)
    this.#failed.abort(error)
  }
}
