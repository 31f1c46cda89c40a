// Keeps a repository from two commands that change it at once.
//
// Always true: the lock is the kernel's, on an open file, and ends with the process however that ends;
// reading a repository takes no lock, as complete backups do not change.

import { closeSync, openSync } from 'node:fs'
import { requireAddon } from '../../base/addon.ts'
import { systemError, UmbraError } from '../../base/errors.ts'
import { hostCall } from '../../image/host-file.ts'

const EAGAIN = 11

export class RepositoryLock implements Disposable {
  #fd: number | null

  /** @throws UmbraError BUSY when another command holds it, UNAVAILABLE where the host has no locks */
  constructor(path: string, repository: string) {
    const fd = hostCall(`Cannot open ${path}`, () => openSync(path, 'a+', 0o600))
    const result = lockDescriptor(fd)
    if (result < 0) {
      closeSync(fd)
      if (result === -EAGAIN)
        throw new UmbraError('BUSY', `Another command is changing the repository ${repository}`)
      throw systemError(-result, `Cannot lock ${path}`)
    }
    this.#fd = fd
  }

  [Symbol.dispose](): void {
    if (this.#fd !== null) closeSync(this.#fd)
    this.#fd = null
  }
}

function lockDescriptor(fd: number): number {
  try {
    return requireAddon().lock(fd, true)
  } catch (error) {
    closeSync(fd)
    throw error
  }
}
