// Inode operations that all fail with one code: the ground on which read-only trees and virtual nodes
// are built, so that what they do not mean to allow is refused, and nothing is forgotten.
//
// Always true: forget and release never throw, as the seam demands; every other operation throws
// until a subclass overrides it. EOPNOTSUPP stands where a kind of node lacks the operation.

import { type ErrorCode, posixError } from '../base/errors.ts'
import type { FileSystemStatistics } from '../ext4/file-system.ts'
import type { Attributes } from './attributes.ts'
import type { InodeOperations } from './operations.ts'

export class RefusingOperations implements InodeOperations {
  readonly #code: ErrorCode

  /** @param code what every operation that would change something fails with */
  constructor(code: ErrorCode) {
    this.#code = code
  }

  #refuse(): never {
    throw posixError(this.#code)
  }

  lookup(..._: Parameters<InodeOperations['lookup']>): void {
    throw posixError('ENOTDIR')
  }
  forget(..._: Parameters<InodeOperations['forget']>): void {}
  getattr(..._: Parameters<InodeOperations['getattr']>): void {
    throw posixError('ESTALE')
  }
  setattr(..._: Parameters<InodeOperations['setattr']>): void {
    this.#refuse()
  }
  readlink(..._: Parameters<InodeOperations['readlink']>): Uint8Array {
    throw posixError('EINVAL')
  }
  accessed(..._: Parameters<InodeOperations['accessed']>): boolean {
    return false
  }
  mknod(..._: Parameters<InodeOperations['mknod']>): void {
    this.#refuse()
  }
  mkdir(..._: Parameters<InodeOperations['mkdir']>): undefined | Promise<Attributes> {
    return this.#refuse()
  }
  symlink(..._: Parameters<InodeOperations['symlink']>): void {
    this.#refuse()
  }
  link(..._: Parameters<InodeOperations['link']>): void {
    this.#refuse()
  }
  unlink(..._: Parameters<InodeOperations['unlink']>): void {
    this.#refuse()
  }
  rmdir(..._: Parameters<InodeOperations['rmdir']>): undefined | Promise<void> {
    return this.#refuse()
  }
  rename(..._: Parameters<InodeOperations['rename']>): void {
    this.#refuse()
  }
  create(..._: Parameters<InodeOperations['create']>): void {
    this.#refuse()
  }
  tmpfile(..._: Parameters<InodeOperations['tmpfile']>): void {
    this.#refuse()
  }
  open(..._: Parameters<InodeOperations['open']>): void {
    this.#refuse()
  }
  read(..._: Parameters<InodeOperations['read']>): number | Promise<number> {
    throw posixError('EISDIR')
  }
  write(..._: Parameters<InodeOperations['write']>): number {
    return this.#refuse()
  }
  flush(..._: Parameters<InodeOperations['flush']>): void {}
  release(..._: Parameters<InodeOperations['release']>): void {}
  fsync(..._: Parameters<InodeOperations['fsync']>): undefined | Promise<void> {
    return undefined
  }
  fsyncdir(..._: Parameters<InodeOperations['fsyncdir']>): undefined | Promise<void> {
    return undefined
  }
  fallocate(..._: Parameters<InodeOperations['fallocate']>): void {
    this.#refuse()
  }
  lseek(..._: Parameters<InodeOperations['lseek']>): number {
    throw posixError('EINVAL')
  }
  isOpenForWriting(..._: Parameters<InodeOperations['isOpenForWriting']>): boolean {
    return false
  }
  copyFileRange(..._: Parameters<InodeOperations['copyFileRange']>): number | Promise<number> {
    return this.#refuse()
  }
  readdir(..._: Parameters<InodeOperations['readdir']>): void {
    throw posixError('ENOTDIR')
  }
  readdirplus(..._: Parameters<InodeOperations['readdirplus']>): void {
    throw posixError('ENOTDIR')
  }
  statfs(..._: Parameters<InodeOperations['statfs']>): FileSystemStatistics {
    throw posixError('EOPNOTSUPP')
  }
  getxattr(..._: Parameters<InodeOperations['getxattr']>): Uint8Array {
    throw posixError('ENODATA')
  }
  setxattr(..._: Parameters<InodeOperations['setxattr']>): void {
    this.#refuse()
  }
  listxattr(..._: Parameters<InodeOperations['listxattr']>): string[] {
    return []
  }
  removexattr(..._: Parameters<InodeOperations['removexattr']>): void {
    this.#refuse()
  }
  inodeFlags(..._: Parameters<InodeOperations['inodeFlags']>): number {
    throw posixError('ENOTTY')
  }
  setInodeFlags(..._: Parameters<InodeOperations['setInodeFlags']>): void {
    this.#refuse()
  }
  label(..._: Parameters<InodeOperations['label']>): string {
    throw posixError('ENOTTY')
  }
  setLabel(..._: Parameters<InodeOperations['setLabel']>): void {
    this.#refuse()
  }
}
