// Requests and replies between the coordinator and its writers, checked where they come in.
//
// Always true of a reply that has passed: it has the shape of its schema and its event; metadata comes
// with a successful Identify and nowhere else; each component is there once and says only what the
// event lets a writer say (CHANGES_ALLOWED_IN). Whether the values fit the backup is checked by
// writers/change-rules.ts.

import { UmbraError } from '../../base/errors.ts'
import {
  CHANGES_ALLOWED_IN,
  type ComponentChanges,
  type WriterEvent,
  type WriterReply,
  type WriterRequest,
} from '../writers/writer-messages.ts'
import { fullPathOf } from './component-rules.ts'
import { checkDifferencedFile, checkDirectedTarget, checkPartialFile } from './component-values.ts'
import { checkShape } from './document-schemas.ts'
import { validateWriterMetadata } from './validate-writer-metadata.ts'

/** @throws UmbraError INVALID_DOCUMENT: it is no reply to this event; BAD_STATE: a change that the event does not allow */
export function validateWriterReply(event: WriterEvent, value: unknown): WriterReply {
  const what = `The reply to ${event}`
  checkShape('writer-reply', value, what)
  const reply = value as WriterReply
  if (reply.result === 'not-responding' || reply.result === 'status-not-available') {
    throw new UmbraError('INVALID_DOCUMENT', `${what}: ${reply.result} is for the coordinator to say`)
  }
  if (event === 'identify') {
    if (reply.metadata === undefined && reply.result === 'ok') {
      throw new UmbraError('INVALID_DOCUMENT', `${what} holds no metadata`)
    }
    if (reply.metadata !== undefined) validateWriterMetadata(reply.metadata)
  } else if (reply.metadata !== undefined) {
    throw new UmbraError('BAD_STATE', `${what}: metadata does not change after identify`)
  }
  const seen = new Set<string>()
  for (const changes of reply.components ?? []) {
    const name = fullPathOf(changes)
    if (seen.has(name)) throw new UmbraError('INVALID_DOCUMENT', `${what}: ${name} is there twice`)
    seen.add(name)
    checkAllowed(event, changes)
    checkValues(changes, `${what}: ${name}`)
  }
  return reply
}

/** @throws UmbraError INVALID_DOCUMENT */
export function validateWriterRequest(value: unknown): WriterRequest {
  checkShape('writer-request', value, 'The request')
  return value as WriterRequest
}

/** @throws UmbraError BAD_STATE */
function checkAllowed(event: WriterEvent, changes: ComponentChanges): void {
  const allowed: readonly string[] = CHANGES_ALLOWED_IN[event]
  for (const [key, value] of Object.entries(changes)) {
    if (key === 'logicalPath' || key === 'name' || value === undefined || allowed.includes(key)) continue
    throw new UmbraError('BAD_STATE', `${fullPathOf(changes)}: ${key} cannot be set in ${event}`)
  }
}

function checkValues(changes: ComponentChanges, where: string): void {
  for (const file of changes.differencedFiles ?? []) checkDifferencedFile(file, where)
  for (const file of changes.partialFiles ?? []) checkPartialFile(file, where)
  for (const target of changes.directedTargets ?? []) checkDirectedTarget(target, where)
}
