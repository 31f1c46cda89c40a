// An executable in a hook folder as a writer: called once for each event.
//
// Always true: nothing of a hook is believed before it has passed validation; at its deadline it is
// killed with its children. What does not answer Identify with metadata is a hook in the style of
// qemu-ga's fsfreeze-hook.d: it is called with `freeze` and `thaw` alone (thaw for Abort too), and has a
// generated document with one empty, mandatory component.

import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { basename } from 'node:path'
import { uuidText } from '../../base/uuid.ts'
import { parseDocument } from '../documents/canonical-json.ts'
import { validateWriterReply } from '../documents/validate-writer-message.ts'
import { WRITER_METADATA_FORMAT, type WriterMetadata } from '../documents/writer-metadata.ts'
import { FreezeGuard } from './freeze-guard.ts'
import { failureOfExit } from './hook-exit.ts'
import type { HookOrder } from './hook-order.ts'
import { MetadataBuilder } from './metadata-builder.ts'
import { type CommandEnd, runCommand } from './run-command.ts'
import { trustedPath } from './trusted-path.ts'
import type { WriterEvent, WriterReply, WriterRequest } from './writer-messages.ts'
import type { WriterPort } from './writer-port.ts'

/** Class of every hook in the style of qemu-ga. */
export const PLAIN_HOOK_CLASS_ID = 'b3c9a5d0-7f0e-4c55-9f26-3a0f6f1f3c01'

export interface HookOptions {
  /** What hooks say on standard error. */
  readonly onLine?: (hook: string, line: string) => void
  /** Its place among hooks that are frozen and thawed together. */
  readonly place?: { readonly order: HookOrder; readonly index: () => number }
}

export class HookPort implements WriterPort {
  readonly kind = 'hook'
  /** Path in its folder. */
  readonly origin: string
  readonly whenGone: Promise<void> = new Promise(() => {})
  readonly #options: HookOptions
  /** What the file was when its style was found out: it is asked once, never in the middle of a freeze. */
  #style: { readonly version: string; readonly isPlain: boolean } | undefined
  readonly #guards = new Map<string, FreezeGuard>()

  constructor(path: string, options: HookOptions = {}) {
    this.origin = path
    this.#options = options
  }

  /** @throws UmbraError TIMED_OUT, UNAVAILABLE, INVALID_DOCUMENT, BAD_STATE, NOT_PERMITTED */
  deliver(request: WriterRequest, timeoutMs: number): Promise<WriterReply> {
    const { place } = this.#options
    const { event, sessionId } = request
    if (place === undefined || (event !== 'freeze' && event !== 'thaw'))
      return this.#deliver(request, timeoutMs)
    const index = event === 'freeze' ? place.index() : -place.index()
    return place.order.run(`${event} ${sessionId}`, index, (waitedMs) =>
      this.#deliver(request, Math.max(1, timeoutMs - Math.ceil(waitedMs))),
    )
  }

  /** Sessions that are frozen stay guarded: the guards run when this process ends. */
  close(): void {}

  async #deliver(request: WriterRequest, timeoutMs: number): Promise<WriterReply> {
    const program = trustedPath(this.origin)
    const told = { ...request, timeoutMs }
    if (told.event === 'identify') return this.#identify(program, told)
    if (this.#style === undefined) await this.#identify(program, { ...told, event: 'identify' })
    return this.#style?.isPlain ? this.#deliverPlain(program, told) : this.#deliverEvent(program, told)
  }

  async #identify(program: string, request: WriterRequest): Promise<WriterReply> {
    const version = versionOf(program)
    if (this.#style?.isPlain && this.#style.version === version) return plainReply(this.origin)
    const end = await this.#run(program, 'identify', request)
    const isPlain = !looksLikeJson(end)
    if (isPlain) {
      this.#style = { version, isPlain }
      return plainReply(this.origin)
    }
    const reply = validateWriterReply('identify', replyIn(end, program, 'identify'))
    this.#style = { version, isPlain }
    return reply
  }

  async #deliverEvent(program: string, request: WriterRequest): Promise<WriterReply> {
    const { event, sessionId } = request
    if (event === 'freeze') this.#guard(program, 'abort', request)
    const end = await this.#run(program, event, request)
    if (event === 'thaw' || event === 'abort' || event === 'backup-shutdown') this.#release(sessionId)
    const failure = failureOfExit(end.code)
    if (failure) return { ...failure, message: messageOf(end, program) }
    return validateWriterReply(event, replyIn(end, program, event))
  }

  async #deliverPlain(program: string, request: WriterRequest): Promise<WriterReply> {
    const { event, sessionId } = request
    if (event === 'freeze') {
      this.#guard(program, 'thaw', request)
      const end = await this.#run(program, 'freeze', request)
      const failure = failureOfExit(end.code)
      return failure ? { ...failure, fatal: true, message: messageOf(end, program) } : { result: 'ok' }
    }
    const isToThaw = event === 'thaw' || (event === 'abort' && this.#guards.has(sessionId))
    if (event === 'backup-shutdown') this.#release(sessionId)
    if (!isToThaw) return { result: 'ok' }
    const end = await this.#run(program, 'thaw', request)
    this.#release(sessionId)
    // qemu-ga's wrapper looks at no exit code; a thaw that complains has still let go of the application.
    return failureOfExit(end.code)
      ? { result: 'non-retryable', fatal: false, message: messageOf(end, program) }
      : { result: 'ok' }
  }

  async #run(program: string, event: WriterEvent, request: WriterRequest): Promise<CommandEnd> {
    const guard = event === 'freeze' ? this.#guards.get(request.sessionId) : undefined
    try {
      return await runCommand({
        program,
        args: [event],
        input: `${JSON.stringify(request)}\n`,
        timeoutMs: request.timeoutMs,
        environment: environmentOf(request),
        onLine: (line) => this.#options.onLine?.(this.origin, line),
        onStart: (pid) => guard?.freezeRuns(pid),
      })
    } finally {
      guard?.freezeEnded()
    }
  }

  #guard(program: string, event: 'abort' | 'thaw', request: WriterRequest): void {
    this.#release(request.sessionId)
    // Which session it was is all that matters by then; the lists could be too long for an environment.
    const left = { ...request, event, volumes: [], components: [] }
    this.#guards.set(request.sessionId, new FreezeGuard(program, event, JSON.stringify(left)))
  }

  #release(sessionId: string): void {
    this.#guards.get(sessionId)?.release()
    this.#guards.delete(sessionId)
  }
}

/** For hooks that do not care to read JSON. */
function environmentOf(request: WriterRequest): Record<string, string> {
  return {
    UMBRA_EVENT: request.event,
    UMBRA_SESSION: request.sessionId,
    UMBRA_SNAPSHOT_SET: request.snapshotSetId ?? '',
    UMBRA_BACKUP_TYPE: request.backupState?.backupType ?? '',
  }
}

function versionOf(program: string): string {
  const { dev, ino, size, mtimeMs, ctimeMs } = statSync(program)
  return [dev, ino, size, mtimeMs, ctimeMs].join(' ')
}

/** A hook that means to answer begins with an object; a plain one says nothing, or whatever comes to its mind. */
function looksLikeJson({ code, output }: CommandEnd): boolean {
  return code === 0 && /^\s*\{/.test(output.subarray(0, 256).toString('latin1'))
}

/** Nothing said is ok; a metadata document by itself is a reply to Identify. */
function replyIn(end: CommandEnd, program: string, event: WriterEvent): unknown {
  if (end.output.toString('latin1').trim() === '') return { result: 'ok' }
  const value = parseDocument(end.output, `The answer of ${program} to ${event}`)
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
  const isMetadata = 'format' in value && value.format === WRITER_METADATA_FORMAT
  return isMetadata ? { result: 'ok', metadata: value } : { result: 'ok', ...value }
}

function messageOf(end: CommandEnd, program: string): string {
  const how = end.signal ? `was ended by ${end.signal}` : `ended with ${end.code}`
  return `${program} ${how}${end.lastLine === '' ? '' : `: ${end.lastLine}`}`.slice(0, 4096)
}

function plainReply(path: string): WriterReply {
  return { result: 'ok', metadata: plainMetadata(path) }
}

/** The document of a hook that has none: the same whenever it is asked. */
function plainMetadata(path: string): WriterMetadata {
  const digest = createHash('sha256').update(`umbra plain hook ${path}`).digest()
  digest[6] = ((digest[6] as number) & 0x0f) | 0x80
  digest[8] = ((digest[8] as number) & 0x3f) | 0x80
  const name = basename(path)
  const document = new MetadataBuilder({
    classId: PLAIN_HOOK_CLASS_ID,
    instanceId: uuidText(digest),
    name,
    instanceName: path.slice(-255),
    usage: 'other',
  }).setRestoreMethod('restore-if-can-replace', { writerRestore: 'never' })
  document.addFileGroup({ name, caption: `Freeze and thaw by ${path}`.slice(0, 4096), selectable: false })
  return document.build()
}
