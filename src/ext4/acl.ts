// POSIX ACLs: the form on disk (version 1, short entries), the form of the xattr interface (version 2),
// and what they have to do with the mode.
//
//   version 1: version u32; {tag u16, permissions u16}, and id u32 for named users and groups only
//   version 2: version u32; {tag u16, permissions u16, id u32}
//
// Always true: an Acl in memory is valid: owner, named users, group, named groups, mask, others, in
// this order; each of owner, group and others once; a mask wherever there is a named entry.
// Source: acl(5); Linux fs/posix_acl.c, fs/ext4/acl.c, include/uapi/linux/posix_acl_xattr.h.

import { posixError, UmbraError } from '../base/errors.ts'
import { read16, read32, write16, write32 } from './bytes.ts'

const TAG = { OWNER: 1, USER: 2, GROUP: 4, NAMED_GROUP: 8, MASK: 16, OTHERS: 32 } as const
const DISK_VERSION = 1
const INTERFACE_VERSION = 2
const NO_ID = 0xffffffff
const HEADER_BYTES = 4
const SHORT_ENTRY_BYTES = 4
const LONG_ENTRY_BYTES = 8
const PERMISSION_BITS = 0o777

export interface AclEntry {
  readonly tag: number
  /** rwx, 0 to 7. */
  readonly permissions: number
  /** User or group of a named entry. */
  readonly id: number
}

export type Acl = readonly AclEntry[]

function isNamed(tag: number): boolean {
  return tag === TAG.USER || tag === TAG.NAMED_GROUP
}

/** @returns undefined for an ACL without entries, which means none @throws EINVAL EOPNOTSUPP */
export function decodeInterfaceAcl(value: Uint8Array): Acl | undefined {
  if (value.length < HEADER_BYTES || (value.length - HEADER_BYTES) % LONG_ENTRY_BYTES !== 0) throw invalid()
  if (read32(value, 0) !== INTERFACE_VERSION) throw posixError('EOPNOTSUPP', 'ACL of an unknown version')
  const entries: AclEntry[] = []
  for (let at = HEADER_BYTES; at < value.length; at += LONG_ENTRY_BYTES) {
    const tag = read16(value, at)
    entries.push({
      tag,
      permissions: read16(value, at + 2),
      id: isNamed(tag) ? read32(value, at + 4) : NO_ID,
    })
  }
  if (entries.length === 0) return undefined
  if (!isValid(entries)) throw invalid()
  return entries
}

export function encodeInterfaceAcl(acl: Acl): Uint8Array {
  const value = new Uint8Array(HEADER_BYTES + acl.length * LONG_ENTRY_BYTES)
  write32(value, 0, INTERFACE_VERSION)
  let at = HEADER_BYTES
  for (const { tag, permissions, id } of acl) {
    write16(value, at, tag)
    write16(value, at + 2, permissions)
    write32(value, at + 4, id)
    at += LONG_ENTRY_BYTES
  }
  return value
}

/** @throws UmbraError CORRUPT */
export function decodeDiskAcl(value: Uint8Array, ino: number): Acl {
  const broken = (): UmbraError => new UmbraError('CORRUPT', `Inode ${ino} has a malformed ACL`, { ino })
  if (value.length < HEADER_BYTES || read32(value, 0) !== DISK_VERSION) throw broken()
  const entries: AclEntry[] = []
  for (let at = HEADER_BYTES; at < value.length; ) {
    if (at + SHORT_ENTRY_BYTES > value.length) throw broken()
    const tag = read16(value, at)
    const sizeBytes = isNamed(tag) ? LONG_ENTRY_BYTES : SHORT_ENTRY_BYTES
    if (at + sizeBytes > value.length) throw broken()
    entries.push({
      tag,
      permissions: read16(value, at + 2),
      id: isNamed(tag) ? read32(value, at + SHORT_ENTRY_BYTES) : NO_ID,
    })
    at += sizeBytes
  }
  if (!isValid(entries)) throw broken()
  return entries
}

export function encodeDiskAcl(acl: Acl): Uint8Array {
  let sizeBytes = HEADER_BYTES
  for (const { tag } of acl) sizeBytes += isNamed(tag) ? LONG_ENTRY_BYTES : SHORT_ENTRY_BYTES
  const value = new Uint8Array(sizeBytes)
  write32(value, 0, DISK_VERSION)
  let at = HEADER_BYTES
  for (const { tag, permissions, id } of acl) {
    write16(value, at, tag)
    write16(value, at + 2, permissions)
    if (isNamed(tag)) write32(value, at + SHORT_ENTRY_BYTES, id)
    at += isNamed(tag) ? LONG_ENTRY_BYTES : SHORT_ENTRY_BYTES
  }
  return value
}

function invalid(): UmbraError {
  return posixError('EINVAL', 'The ACL is malformed')
}

/** The order and counts that posix_acl_valid() asks for; ids need not be unique, as there. */
function isValid(entries: Acl): boolean {
  let state: number = TAG.OWNER
  let needsMask = false
  for (const { tag, permissions, id } of entries) {
    if (permissions > 7 || (isNamed(tag) && id === NO_ID)) return false
    const next = NEXT_STATE[tag]?.(state)
    if (next === undefined) return false
    needsMask ||= isNamed(tag)
    state = next
    if (tag === TAG.MASK) needsMask = false
  }
  return state === 0 && !needsMask
}

/** For each tag: the tag expected after it, or undefined where it must not come. */
const NEXT_STATE: Readonly<Record<number, (state: number) => number | undefined>> = {
  [TAG.OWNER]: (state) => (state === TAG.OWNER ? TAG.USER : undefined),
  [TAG.USER]: (state) => (state === TAG.USER ? TAG.USER : undefined),
  [TAG.GROUP]: (state) => (state === TAG.USER ? TAG.NAMED_GROUP : undefined),
  [TAG.NAMED_GROUP]: (state) => (state === TAG.NAMED_GROUP ? TAG.NAMED_GROUP : undefined),
  [TAG.MASK]: (state) => (state === TAG.NAMED_GROUP ? TAG.OTHERS : undefined),
  [TAG.OTHERS]: (state) => (state === TAG.NAMED_GROUP || state === TAG.OTHERS ? 0 : undefined),
}

/** The mode with the permissions that the ACL stands for. */
export function modeFromAcl(mode: number, acl: Acl): number {
  const group = acl.find(({ tag }) => tag === TAG.MASK) ?? acl.find(({ tag }) => tag === TAG.GROUP)
  const owner = acl.find(({ tag }) => tag === TAG.OWNER)
  const others = acl.find(({ tag }) => tag === TAG.OTHERS)
  const permissions =
    ((owner?.permissions ?? 0) << 6) | ((group?.permissions ?? 0) << 3) | (others?.permissions ?? 0)
  return (mode & ~PERMISSION_BITS) | permissions
}

/** Whether the mode alone says all of it. */
export function isEquivalentToMode(acl: Acl): boolean {
  return acl.every(({ tag }) => tag === TAG.OWNER || tag === TAG.GROUP || tag === TAG.OTHERS)
}

/** The ACL after a chmod: owner, mask (or group where there is none) and others follow the mode. */
export function aclWithMode(acl: Acl, mode: number): Acl {
  const groupTag = acl.some(({ tag }) => tag === TAG.MASK) ? TAG.MASK : TAG.GROUP
  return acl.map((entry) => {
    if (entry.tag === TAG.OWNER) return { ...entry, permissions: (mode >>> 6) & 7 }
    if (entry.tag === groupTag) return { ...entry, permissions: (mode >>> 3) & 7 }
    if (entry.tag === TAG.OTHERS) return { ...entry, permissions: mode & 7 }
    return entry
  })
}

/** What a new inode gets from its directory's default ACL: its permissions limited by the mode asked for. */
export function inheritAcl(defaultAcl: Acl, mode: number): { acl: Acl; mode: number } {
  const limited = modeFromAcl(mode, defaultAcl) & mode
  return {
    acl: aclWithMode(defaultAcl, limited),
    mode: (mode & ~PERMISSION_BITS) | (limited & PERMISSION_BITS),
  }
}
