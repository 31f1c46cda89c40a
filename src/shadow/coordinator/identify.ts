// Identify: asks a writer who it is and what it has.
//
// Always true: it changes nothing at the writer, so it may come at any time and from anybody, beside
// sessions that are under way (row 42); what comes back is frozen, because it does not change afterwards.

import { UmbraError } from '../../base/errors.ts'
import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterRequest } from '../writers/writer-messages.ts'
import type { WriterPort } from '../writers/writer-port.ts'
import { withLimit } from './time-limit.ts'

/** @throws UmbraError TIMED_OUT, UNAVAILABLE, INVALID_DOCUMENT, WRITER_FAILED */
export async function identify(
  port: WriterPort,
  sessionId: string,
  timeoutMs: number,
  portGraceMs: number,
): Promise<WriterMetadata> {
  const request: WriterRequest = {
    event: 'identify',
    sessionId,
    operation: 'identify',
    snapshotSetId: null,
    contextAttributes: 0,
    backupState: null,
    restoreType: null,
    volumes: [],
    components: [],
    timeoutMs,
  }
  const late = (): Error => new UmbraError('TIMED_OUT', `${port.origin} does not identify itself`)
  const reply = await withLimit(port.deliver(request, timeoutMs), timeoutMs + portGraceMs, late)
  if (reply.result !== 'ok') {
    throw new UmbraError('WRITER_FAILED', `${port.origin}: ${reply.message ?? reply.result}`)
  }
  if (reply.metadata === undefined) {
    throw new UmbraError('INVALID_DOCUMENT', `${port.origin} answered Identify without metadata`)
  }
  return deepFreeze(structuredClone(reply.metadata))
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const part of Object.values(value)) deepFreeze(part)
  return Object.freeze(value)
}
