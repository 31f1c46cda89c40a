// Names between fuse-native, which has strings decoded as UTF-8, and the file system, whose names are
// bytes, one char a byte.
//
// Always true: a name that was no UTF-8 arrives with U+FFFD in it and is refused, so nothing is ever
// made or found under a name other than the one asked for; in a listing such a name is shown with
// U+FFFD, and cannot be entered through this driver.

import { posixError } from '../../base/errors.ts'
import { LIMIT } from '../protocol.ts'

const NOT_ASCII = /[^\0-\x7f]/
const REPLACEMENT = '\ufffd'

/** @throws EINVAL for what was no UTF-8 */
export function toByteString(text: string): string {
  if (!NOT_ASCII.test(text)) return text
  if (text.includes(REPLACEMENT)) throw posixError('EINVAL', 'a name that is no UTF-8')
  return Buffer.from(text, 'utf8').toString('latin1')
}

/** One component of a path. @throws EINVAL, ENAMETOOLONG */
export function toName(text: string): string {
  const name = toByteString(text)
  if (name.length === 0) throw posixError('EINVAL', 'an empty name')
  if (name.length > LIMIT.NAME_BYTES) throw posixError('ENAMETOOLONG')
  return name
}

export function fromByteString(bytes: string): string {
  return NOT_ASCII.test(bytes) ? Buffer.from(bytes, 'latin1').toString('utf8') : bytes
}

/** A symbolic link's target as text. @throws EINVAL when it is no UTF-8 */
export function fromBytes(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  if (text.includes(REPLACEMENT)) throw posixError('EINVAL', 'a symbolic link that is no UTF-8')
  return text
}

/** The folder and the last component of an absolute path other than "/". */
export function splitPath(path: string): { folder: string; name: string } {
  const at = path.lastIndexOf('/')
  return { folder: at <= 0 ? '/' : path.slice(0, at), name: path.slice(at + 1) }
}
