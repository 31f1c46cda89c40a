// Writes a table of a qcow2 file of which most may be zeros: filled in ascending order, one page in
// memory, pages that nothing was put in stay holes. Memory does not grow with the table.

import { assert } from '../base/assert.ts'
import type { OutputFile } from './output.ts'

const PAGE_BYTES = 64 * 1024

export class TableWriter {
  readonly #output: OutputFile
  readonly #offsetBytes: number
  readonly #lengthBytes: number
  readonly #page = Buffer.alloc(PAGE_BYTES)
  #pageIndex = -1

  constructor(output: OutputFile, offsetBytes: number, lengthBytes: number) {
    this.#output = output
    this.#offsetBytes = offsetBytes
    this.#lengthBytes = lengthBytes
  }

  /** Sets the 64-bit word at `index`; indexes may not go back across a page. */
  setWord(index: number, high: number, low: number): void {
    const at = this.#turnTo(index * 8)
    this.#page.writeUInt32BE(high >>> 0, at)
    this.#page.writeUInt32BE(low >>> 0, at + 4)
  }

  /** Sets the 16-bit words [index, index + count). */
  fillWords16(index: number, count: number, value: number): void {
    for (let i = index; i < index + count; i++) this.#page.writeUInt16BE(value, this.#turnTo(i * 2))
  }

  /** Sets the bits [index, index + count), least significant first. */
  fillBits(index: number, count: number): void {
    const end = index + count
    for (let i = index; i < end; ) {
      const at = this.#turnTo(Math.floor(i / 8))
      if (i % 8 === 0 && end - i >= 8) {
        const wholeBytes = Math.min(Math.floor((end - i) / 8), PAGE_BYTES - at)
        this.#page.fill(0xff, at, at + wholeBytes)
        i += wholeBytes * 8
      } else {
        this.#page[at] = (this.#page[at] as number) | (1 << (i % 8))
        i++
      }
    }
  }

  finish(): void {
    if (this.#pageIndex < 0) return
    const start = this.#pageIndex * PAGE_BYTES
    const lengthBytes = Math.min(PAGE_BYTES, this.#lengthBytes - start)
    this.#output.write(this.#offsetBytes + start, lengthBytes, this.#page, 0)
    this.#pageIndex = -1
  }

  /** @returns where in the page the table's byte `at` is */
  #turnTo(at: number): number {
    assert(at < this.#lengthBytes, `byte ${at} is inside a table of ${this.#lengthBytes}`)
    const pageIndex = Math.floor(at / PAGE_BYTES)
    if (pageIndex !== this.#pageIndex) {
      assert(pageIndex > this.#pageIndex, 'a table is filled in ascending order')
      this.finish()
      this.#page.fill(0)
      this.#pageIndex = pageIndex
    }
    return at - pageIndex * PAGE_BYTES
  }
}
