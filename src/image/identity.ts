// What travels with an image: which volume and point it shows, what it starts from, and the digest of
// what it holds. In qcow2 it is a private header extension, beside a raw image a file NAME.umbra.json.
//
// The encoding is canonical JSON: one object, keys in the order below, no spaces, and last a checksum
// (SHA-256 of the text before it), so that a flipped bit in a name or an epoch is noticed.
//
// Always true of a decoded identity: ids are UUIDs, numbers are safe integers from 0, the digest is 64 hex digits, and
// the checksum matched. Version history: 1 - the first.

import { createHash } from 'node:crypto'
import { UmbraError } from '../base/errors.ts'
import type { ImageBase, ImagePoint } from './image-source.ts'

export const IDENTITY_VERSION = 1
/** Bytes of an encoded identity: what fits the first cluster of a qcow2 image beside the rest. */
export const IDENTITY_MAX_BYTES = 16 * 1024

export interface ImageIdentity {
  readonly formatVersion: number
  readonly volumeUuid: string
  readonly point: ImagePoint
  /** Null: a full image. */
  readonly base: ImageBase | null
  /** Virtual size at the point. */
  readonly sizeBytes: number
  /** Content digest (see digest.ts), 64 hex digits; null where content was applied without reading it all. */
  readonly digest: string | null
}

/** Canonical JSON as UTF-8. */
export function encodeIdentity(identity: ImageIdentity): Uint8Array {
  const text = JSON.stringify(canonical(identity))
  return new Uint8Array(Buffer.from(`${text.slice(0, -1)},"checksum":"${checksumOf(text)}"}`))
}

/**
 * @param where names the image in messages
 * @throws UmbraError BAD_IMAGE if it is malformed or damaged, UNSUPPORTED_VERSION if it is newer than this code
 */
export function decodeIdentity(bytes: Uint8Array, where: string): ImageIdentity {
  if (bytes.byteLength > IDENTITY_MAX_BYTES)
    throw bad(where, `is ${bytes.byteLength} bytes long; at most ${IDENTITY_MAX_BYTES} are read`)
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
  } catch {
    throw bad(where, 'is not JSON')
  }
  const record = asRecord(parsed, where, 'identity')
  if (record['formatVersion'] !== IDENTITY_VERSION && Number.isSafeInteger(record['formatVersion']))
    throw new UmbraError(
      'UNSUPPORTED_VERSION',
      `The identity of ${where} has version ${String(record['formatVersion'])}; this program reads ${IDENTITY_VERSION}`,
    )
  const identity = checked(record, where)
  if (record['checksum'] !== checksumOf(JSON.stringify(canonical(identity))))
    throw bad(where, 'does not match its checksum')
  return identity
}

/** Whether an image with this identity can lie on one with `below`. */
export function followsFrom(identity: ImageIdentity, below: ImageIdentity): boolean {
  return (
    identity.base !== null &&
    identity.volumeUuid === below.volumeUuid &&
    identity.base.id === below.point.id &&
    identity.base.epoch === below.point.epoch
  )
}

function canonical(identity: ImageIdentity): ImageIdentity {
  const { formatVersion, volumeUuid, point, base, sizeBytes, digest } = identity
  return {
    formatVersion,
    volumeUuid,
    point: { id: point.id, epoch: point.epoch, name: point.name, createdAtMs: point.createdAtMs },
    base: base ? { id: base.id, epoch: base.epoch, name: base.name } : null,
    sizeBytes,
    digest,
  }
}

function checksumOf(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}

function checked(record: Record<string, unknown>, where: string): ImageIdentity {
  const point = asRecord(record['point'], where, 'point')
  const base = record['base'] === null ? null : asRecord(record['base'], where, 'base')
  const digest = record['digest']
  if (digest !== null && !(typeof digest === 'string' && /^[0-9a-f]{64}$/.test(digest)))
    throw bad(where, 'has no valid digest')
  return {
    formatVersion: asCount(record['formatVersion'], where, 'formatVersion'),
    volumeUuid: asUuid(record['volumeUuid'], where, 'volumeUuid'),
    point: {
      id: asUuid(point['id'], where, 'point.id'),
      epoch: asCount(point['epoch'], where, 'point.epoch'),
      name: asText(point['name'], where, 'point.name'),
      createdAtMs: asCount(point['createdAtMs'], where, 'point.createdAtMs'),
    },
    base: base && {
      id: asUuid(base['id'], where, 'base.id'),
      epoch: asCount(base['epoch'], where, 'base.epoch'),
      name: asText(base['name'], where, 'base.name'),
    },
    sizeBytes: asCount(record['sizeBytes'], where, 'sizeBytes'),
    digest,
  }
}

function asRecord(value: unknown, where: string, field: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>
  throw bad(where, `has no valid ${field}`)
}

function asText(value: unknown, where: string, field: string): string {
  if (typeof value === 'string') return value
  throw bad(where, `has no valid ${field}`)
}

function asUuid(value: unknown, where: string, field: string): string {
  const text = asText(value, where, field)
  if (/^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)) return text
  throw bad(where, `has no valid ${field}`)
}

function asCount(value: unknown, where: string, field: string): number {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number
  throw bad(where, `has no valid ${field}`)
}

function bad(where: string, what: string): UmbraError {
  return new UmbraError('BAD_IMAGE', `The identity of ${where} ${what}`, { image: where })
}
