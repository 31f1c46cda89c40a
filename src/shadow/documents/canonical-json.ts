// Documents as text: one way to write a value, and a bounded way to read one.
//
// Always true: two values that are equal as JSON give the same bytes, whatever the order of their keys
// (row 57 of vss.md section 8); text is UTF-8, indented by two blanks, with a newline at its end.

import { UmbraError } from '../../base/errors.ts'

/** No document, request or reply is larger. */
export const DOCUMENT_MAX_BYTES = 16 * 1024 * 1024
/** Deeper than any schema of ours goes. */
const DEPTH_MAX = 64

/** @throws UmbraError INVALID_DOCUMENT for what JSON cannot hold, or beyond DOCUMENT_MAX_BYTES */
export function canonicalText(value: unknown): string {
  const text = `${JSON.stringify(sorted(value, 0), null, 2)}\n`
  if (Buffer.byteLength(text) <= DOCUMENT_MAX_BYTES) return text
  throw new UmbraError('INVALID_DOCUMENT', `The document is larger than ${DOCUMENT_MAX_BYTES} bytes`)
}

/**
 * Parses a document's text. What it holds is not checked here.
 * @param what names the document in errors
 * @throws UmbraError INVALID_DOCUMENT: too large, not UTF-8, not JSON, too deep
 */
export function parseDocument(bytes: string | Uint8Array, what: string): unknown {
  const size = typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.byteLength
  if (size > DOCUMENT_MAX_BYTES) {
    throw new UmbraError('INVALID_DOCUMENT', `${what} is larger than ${DOCUMENT_MAX_BYTES} bytes`)
  }
  try {
    const text = typeof bytes === 'string' ? bytes : new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    const value: unknown = JSON.parse(text)
    checkDepth(value, 0)
    return value
  } catch (error) {
    throw new UmbraError('INVALID_DOCUMENT', `${what} is not JSON: ${(error as Error).message}`, {}, error)
  }
}

/** Whether both are the same document. */
export function isSameDocument(a: unknown, b: unknown): boolean {
  return canonicalText(a) === canonicalText(b)
}

function sorted(value: unknown, depth: number): unknown {
  if (depth > DEPTH_MAX) throw new UmbraError('INVALID_DOCUMENT', 'The document is nested too deeply')
  if (Array.isArray(value)) return value.map((item) => sorted(item, depth + 1))
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new UmbraError('INVALID_DOCUMENT', 'The document holds a number that JSON has no word for')
  }
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([, item]) => item !== undefined)
  // Node compares by UTF-16 units, the same on every machine.
  entries.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
  // Not Object.fromEntries(): a key `__proto__` stays a key, and numbers as keys keep their own order.
  const result: Record<string, unknown> = Object.create(null)
  for (const [key, item] of entries) result[key] = sorted(item, depth + 1)
  return result
}

function checkDepth(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return
  if (depth > DEPTH_MAX) throw new RangeError('it is nested too deeply')
  for (const item of Object.values(value)) checkDepth(item, depth + 1)
}
