// Marks on a file: numbers that a process holds and others see, which is how a reader of the file knows
// that what it was promised still holds, without asking anybody who might be slow to answer.
//
// Always true: a mark is seen from set() until clear(), or until its holder's file is closed or its
// process ends, whatever ends it; never again after that. Setting, clearing and asking are each one
// call to the kernel and take effect at once, so what was read before isSet() said yes was read
// while the mark was held.

import { randomBytes } from 'node:crypto'
import { UmbraError } from '../base/errors.ts'
import { chooseDescriptorIo, type DescriptorIo } from './descriptor-io.ts'
import type { FileStorage } from './file-storage.ts'

/** A mark that was dropped must never be seen again, so it is drawn from many. */
const MARK_BYTES = 6

export class FileMarks {
  readonly #storage: FileStorage
  readonly #io: DescriptorIo

  constructor(storage: FileStorage, io: DescriptorIo = chooseDescriptorIo()) {
    this.#storage = storage
    this.#io = io
  }

  /** Holds a new mark. @throws UmbraError UNAVAILABLE where the host's file system has no locks, CLOSED */
  set(): number {
    const mark = randomBytes(MARK_BYTES).readUIntBE(0, MARK_BYTES)
    const result = this.#io.setMark(this.#storage.descriptor, mark)
    if (result < 0) throw this.#unavailable(result)
    return mark
  }

  /** Lets go of it; after the file's end it is gone already. */
  clear(mark: number): void {
    if (this.#storage.isClosed) return
    const result = this.#io.clearMark(this.#storage.descriptor, mark)
    if (result < 0) throw this.#unavailable(result)
  }

  /** Whether another holds it. @throws UmbraError UNAVAILABLE, CLOSED */
  isSet(mark: number): boolean {
    const result = this.#io.hasMark(this.#storage.descriptor, mark)
    if (result < 0) throw this.#unavailable(result)
    return result === 1
  }

  #unavailable(result: number): UmbraError {
    const { name } = this.#storage
    return new UmbraError('UNAVAILABLE', `Cannot lock parts of ${name}: errno ${-result}`, { path: name })
  }
}
