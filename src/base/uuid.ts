// UUIDs as 16 bytes on disk and as lower-case text everywhere else.

import { randomBytes } from 'node:crypto'
import { UmbraError } from './errors.ts'

export function randomUuid(): string {
  const bytes = randomBytes(16)
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  return uuidText(bytes)
}

export function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.buffer, bytes.byteOffset, 16).toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** @throws UmbraError INVALID_ARGUMENT unless `text` is a UUID */
export function uuidBytes(text: string): Uint8Array {
  if (!/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)) {
    throw new UmbraError('INVALID_ARGUMENT', `Not a UUID: ${JSON.stringify(text)}`)
  }
  return new Uint8Array(Buffer.from(text.replaceAll('-', ''), 'hex'))
}
