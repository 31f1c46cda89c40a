// Attributes of the host's files that node:fs cannot read or set: times to the nanosecond, extended
// attributes (ACLs and capabilities among them), special files.
//
// Always true: paths are bytes without a NUL; links are followed, so what must be one certain node, a link
// too, is named by its handle (held-folders.ts); a failure is an UmbraError with the system's code.

import { type Addon, requireAddon } from './addon.ts'
import { systemError, UmbraError } from './errors.ts'

/** Leaves a time as it is: UTIME_OMIT. */
const OMIT = (1n << 30n) - 2n
const BILLION = 1_000_000_000n
/** The kernel's XATTR_LIST_MAX and XATTR_SIZE_MAX. */
const XATTR_MAX_BYTES = 65536
const ENODATA = 61
const EOPNOTSUPP = 95

/** @param mtimeNs nanoseconds since 1970. @throws UmbraError NOT_FOUND, EPERM, EROFS, UNAVAILABLE */
export function setModifyTime(path: Uint8Array, mtimeNs: bigint): void {
  const named = withNul(path)
  // Rounded down, as the nanoseconds of a time before 1970 still count up.
  const nanoseconds = ((mtimeNs % BILLION) + BILLION) % BILLION
  const times = new BigInt64Array([0n, OMIT, (mtimeNs - nanoseconds) / BILLION, nanoseconds])
  const bytes = new Uint8Array(times.buffer)
  check(requireAddon().setTimes(named, 0, named.length, bytes, 0, bytes.length), 'Cannot set the time', path)
}

/** Values in base64; undefined: none, or a file system that has no such thing. */
export function readXattrs(path: Uint8Array): Record<string, string> | undefined {
  const addon = requireAddon()
  const values: Record<string, string> = {}
  for (const name of xattrNames(addon, path)) {
    const value = readXattr(addon, path, name)
    // What has gone since it was listed is not there.
    if (value) values[name] = value.toString('base64')
  }
  return Object.keys(values).length === 0 ? undefined : values
}

/** Makes the extended attributes these and no others. @param wanted values in base64 */
export function replaceXattrs(path: Uint8Array, wanted: Readonly<Record<string, string>> | undefined): void {
  const addon = requireAddon()
  const named = withNul(path)
  const names = Object.keys(wanted ?? {})
  for (const name of xattrNames(addon, path)) {
    // What the system's policy gives every file is not ours to take away.
    if (names.includes(name) || name === 'security.selinux') continue
    const key = withNul(Buffer.from(name))
    const result = addon.removeXattr(named, 0, named.length, key, 0, key.length)
    if (result !== -ENODATA) check(result, `Cannot remove the attribute ${name}`, path)
  }
  for (const name of names) {
    const value = Buffer.from(wanted?.[name] ?? '', 'base64')
    if (readXattr(addon, path, name)?.equals(value)) continue
    const key = withNul(Buffer.from(name))
    check(
      addon.setXattr(named, 0, named.length, key, 0, key.length, value, 0, value.length),
      `Cannot set the attribute ${name}`,
      path,
    )
  }
}

/** @param mode with the type's bits. @param rdev the kernel's encoding (new_encode_dev) */
export function makeNode(path: Uint8Array, mode: number, rdev: number): void {
  const named = withNul(path)
  const major = (rdev >>> 8) & 0xfff
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)
  check(requireAddon().makeNode(named, 0, named.length, mode, major, minor), 'Cannot make', path)
}

function xattrNames(addon: Addon, path: Uint8Array): string[] {
  const named = withNul(path)
  const target = Buffer.alloc(XATTR_MAX_BYTES)
  const size = addon.listXattrs(named, 0, named.length, target, 0, target.length)
  if (size === -EOPNOTSUPP) return []
  check(size, 'Cannot list the attributes of', path)
  return target
    .toString('utf8', 0, size)
    .split('\0')
    .filter((name) => name !== '')
}

function readXattr(addon: Addon, path: Uint8Array, name: string): Buffer | undefined {
  const named = withNul(path)
  const key = withNul(Buffer.from(name))
  const target = Buffer.alloc(XATTR_MAX_BYTES)
  const size = addon.getXattr(named, 0, named.length, key, 0, key.length, target, 0, target.length)
  if (size === -ENODATA || size === -EOPNOTSUPP) return undefined
  check(size, `Cannot read the attribute ${name}`, path)
  return target.subarray(0, size)
}

function withNul(bytes: Uint8Array): Uint8Array {
  if (bytes.includes(0)) throw new UmbraError('INVALID_ARGUMENT', 'A path with a NUL')
  const named = new Uint8Array(bytes.length + 1)
  named.set(bytes)
  return named
}

function check(result: number, what: string, path: Uint8Array): void {
  if (result >= 0) return
  const text = Buffer.from(path).toString('utf8')
  throw systemError(-result, `${what}: ${text}`, { path: text })
}
