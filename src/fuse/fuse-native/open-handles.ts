// What is open through this driver: libfuse knows files by the number given to it at open.
//
// Always true: numbers are 1 to 2^31 - 1 (the native code takes 0 for none) and not in use twice; each
// handle holds one lookup of its node until it is closed.

import { posixError } from '../../base/errors.ts'

export interface OpenHandle {
  readonly nodeId: number
  /** As in open(2). */
  readonly flags: number
  readonly isFolder: boolean
}

const NUMBER_MAX = 2 ** 31 - 1

export class OpenHandles {
  readonly #handles = new Map<number, OpenHandle>()
  /** Open files by node. */
  readonly #counts = new Map<number, number>()
  #next = 1

  add(handle: OpenHandle): number {
    while (this.#handles.has(this.#next)) this.#advance()
    const number = this.#next
    this.#advance()
    this.#handles.set(number, handle)
    if (!handle.isFolder) this.#count(handle.nodeId, 1)
    return number
  }

  /** @throws EBADF */
  get(number: number): OpenHandle {
    const handle = this.#handles.get(number)
    if (handle === undefined) throw posixError('EBADF')
    return handle
  }

  /** @throws EBADF */
  remove(number: number): OpenHandle {
    const handle = this.get(number)
    this.#handles.delete(number)
    if (!handle.isFolder) this.#count(handle.nodeId, -1)
    return handle
  }

  isFileOpen(nodeId: number): boolean {
    return this.#counts.has(nodeId)
  }

  #advance(): void {
    this.#next = this.#next === NUMBER_MAX ? 1 : this.#next + 1
  }

  #count(nodeId: number, change: number): void {
    const count = (this.#counts.get(nodeId) ?? 0) + change
    if (count > 0) this.#counts.set(nodeId, count)
    else this.#counts.delete(nodeId)
  }
}
