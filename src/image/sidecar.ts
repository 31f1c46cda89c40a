// The small JSON file beside a raw image: its identity, and how the raw file looked when it was written,
// so that an untouched file need not be read to be known again.
//
// Always true: the sidecar is written after the raw file is durable; `applying` is set, and durable, before the
// first byte of an apply in place, and null again only when all of it is durable.

import { readFileSync, statSync } from 'node:fs'
import { hasCode, UmbraError } from '../base/errors.ts'
import { hostCall } from './host-file.ts'
import { decodeIdentity, encodeIdentity, IDENTITY_MAX_BYTES, type ImageIdentity } from './identity.ts'
import { replaceFile } from './output.ts'

const SIDECAR_MAX_BYTES = 4 * IDENTITY_MAX_BYTES

/** How a file looked: changes with every write to it. */
export interface FileStamp {
  readonly sizeBytes: number
  /** Nanoseconds since 1970, decimal. */
  readonly mtimeNs: string
}

export interface Sidecar {
  readonly identity: ImageIdentity
  readonly file: FileStamp
  /** Id of the point that an unfinished apply leads to; null: none is unfinished. */
  readonly applyingTo: string | null
}

export function sidecarPath(path: string): string {
  return `${path}.umbra.json`
}

export function stampOf(path: string): FileStamp {
  const stat = hostCall(`Cannot look at ${path}`, () => statSync(path, { bigint: true }))
  return { sizeBytes: Number(stat.size), mtimeNs: String(stat.mtimeNs) }
}

/** Whether the file still looks as it did when its sidecar was written. */
export function isUntouched(path: string, sidecar: Sidecar): boolean {
  const now = stampOf(path)
  return now.sizeBytes === sidecar.file.sizeBytes && now.mtimeNs === sidecar.file.mtimeNs
}

export async function writeSidecar(path: string, sidecar: Sidecar): Promise<void> {
  const text = JSON.stringify({
    file: sidecar.file,
    applyingTo: sidecar.applyingTo,
    identity: JSON.parse(Buffer.from(encodeIdentity(sidecar.identity)).toString('utf8')) as unknown,
  })
  await replaceFile(sidecarPath(path), Buffer.from(`${text}\n`))
}

/** @returns null if there is none @throws UmbraError BAD_IMAGE if it is malformed or damaged */
export function readSidecar(path: string): Sidecar | null {
  const name = sidecarPath(path)
  let bytes: Buffer
  try {
    const size = hostCall(`Cannot read ${name}`, () => statSync(name)).size
    if (size > SIDECAR_MAX_BYTES) throw bad(name)
    bytes = hostCall(`Cannot read ${name}`, () => readFileSync(name))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null
    throw error
  }
  return decodeSidecar(bytes, name)
}

function decodeSidecar(bytes: Buffer, name: string): Sidecar {
  let parsed: unknown
  try {
    parsed = JSON.parse(bytes.toString('utf8'))
  } catch {
    throw bad(name)
  }
  const { file, applyingTo, identity } = (parsed ?? {}) as Record<string, unknown>
  const { sizeBytes, mtimeNs } = (file ?? {}) as Record<string, unknown>
  const isSound =
    Number.isSafeInteger(sizeBytes) &&
    typeof mtimeNs === 'string' &&
    /^-?\d{1,30}$/.test(mtimeNs) &&
    (applyingTo === null || typeof applyingTo === 'string')
  if (!isSound) throw bad(name)
  return {
    identity: decodeIdentity(Buffer.from(JSON.stringify(identity ?? null)), name),
    file: { sizeBytes: sizeBytes as number, mtimeNs },
    applyingTo,
  }
}

function bad(name: string): UmbraError {
  return new UmbraError('BAD_IMAGE', `${name} is not the sidecar of a raw image`, { image: name })
}
