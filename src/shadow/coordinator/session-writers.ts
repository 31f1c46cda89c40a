// The writers of one session: who is asked, who identified itself, who takes part.
//
// Always true: ports are asked for once a session; a writer that is disabled, that does not identify
// itself or whose instance is there twice takes no part; the order is that of the source.

import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterPort, WriterSource } from '../writers/writer-port.ts'
import { identify } from './identify.ts'
import { type CoordinatorLimits, eventLimitMs } from './limits.ts'
import type { AbsentWriter, WriterStatus } from './requester-session.ts'
import { SessionWriter } from './session-writer.ts'
import type { Tracer } from './trace.ts'

export interface SessionWritersOptions {
  readonly source: WriterSource
  readonly sessionId: string
  readonly limits: CoordinatorLimits
  readonly tracer: Tracer
  readonly onStatus: (status: WriterStatus) => void
}

export class SessionWriters {
  readonly #options: SessionWritersOptions
  #enabled: Set<string> | undefined
  readonly #disabled = new Set<string>()
  #writers: readonly SessionWriter[] = []
  readonly #absent: AbsentWriter[] = []

  constructor(options: SessionWritersOptions) {
    this.#options = options
  }

  get all(): readonly SessionWriter[] {
    return this.#writers
  }

  /** Those that did not identify themselves. */
  get absent(): readonly AbsentWriter[] {
    return this.#absent
  }

  /** Class ids, instance ids or names. */
  enable(writers: readonly string[]): void {
    this.#enabled ??= new Set()
    for (const writer of writers) this.#enabled.add(writer)
  }

  disable(writers: readonly string[]): void {
    for (const writer of writers) this.#disabled.add(writer)
  }

  /** Identify to all of them at once. */
  async gather(): Promise<WriterMetadata[]> {
    const { source, sessionId, limits, tracer, onStatus } = this.#options
    const ports = await source.ports()
    const timeoutMs = eventLimitMs(limits, 'identify')
    const answers = await Promise.all(
      ports.map(async (port) => ({ port, metadata: await this.#identify(port, sessionId, timeoutMs) })),
    )
    const writers: SessionWriter[] = []
    for (const { port, metadata } of answers) {
      if (metadata === undefined || !this.#takesPart(metadata)) continue
      if (writers.some((other) => other.instanceId === metadata.identity.instanceId)) continue
      const { portGraceMs } = limits
      writers.push(new SessionWriter(port, metadata, { tracer, portGraceMs, onChange: onStatus }))
    }
    this.#writers = writers
    return writers.map((writer) => structuredClone(writer.metadata))
  }

  statuses(): WriterStatus[] {
    return this.#writers.map((writer) => writer.status)
  }

  /** @throws UmbraError NOT_FOUND */
  find(instanceId: string): SessionWriter {
    const writer = this.#writers.find((other) => other.instanceId === instanceId)
    if (writer !== undefined) return writer
    throw new UmbraError('NOT_FOUND', `No writer with the instance id ${instanceId} takes part`)
  }

  async #identify(
    port: WriterPort,
    sessionId: string,
    timeoutMs: number,
  ): Promise<WriterMetadata | undefined> {
    const { limits, tracer } = this.#options
    const traced = { kind: 'event', event: 'identify', writer: port.origin } as const
    try {
      return await tracer.around(traced, () => identify(port, sessionId, timeoutMs, limits.portGraceMs))
    } catch (error) {
      // A writer cannot refuse Identify; one that fails in it is not there (vss.md 1.2, step 5).
      const message = error instanceof Error ? error.message : String(error)
      if (!this.#disabled.has(port.origin)) this.#absent.push({ origin: port.origin, message })
      return undefined
    }
  }

  #takesPart({ identity }: WriterMetadata): boolean {
    const names = [identity.classId, identity.instanceId, identity.name]
    if (names.some((name) => this.#disabled.has(name))) return false
    return this.#enabled === undefined || names.some((name) => this.#enabled?.has(name))
  }
}
