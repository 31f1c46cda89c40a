// Times that the kernel gives, compared between two file systems that did the same: each must be of the
// same operation in both.
//
// A workload does every operation in one root, then in the other, and writes down when it began and ended
// in each. A time that a file has therefore names an operation: the one in whose span it lies, or one of
// few, as the kernel's clock for files goes in ticks. Alike are two times that can be of one operation; a
// time that did not move where the other did cannot. Times that a program set are the same to the
// nanosecond.
//
// Always true: spans of one workload do not overlap in one root; what was before the first is one more.

import { readFileSync } from 'node:fs'
import type { Tree, Workload } from './lab.ts'

/** A tick of the slowest clock that Linux is built with (HZ=100), and what doubles cannot hold of nanoseconds. */
const TICK_NS = 10_000_000 + 1000
/** As long as a test may take to prepare. */
const BEFORE_NS = 3_600_000 * 1e6
export type TimeField = 'atime' | 'mtime' | 'ctime'

/** When one workload's operations began and ended in one root. */
interface Spans {
  readonly starts: readonly number[]
  readonly ends: readonly number[]
}

export class OperationTimes {
  /** By workload, then by root. */
  #spans: readonly (readonly Spans[])[] = []
  readonly #workloads: readonly Workload[]
  readonly #path: string
  readonly #fields: readonly TimeField[]

  /**
   * @param path where the workloads may write
   * @param fields with atime where reading moves none, in either root
   */
  constructor(
    workloads: readonly Workload[],
    path: string,
    fields: readonly TimeField[] = ['mtime', 'ctime'],
  ) {
    this.#workloads = workloads
    this.#path = path
    this.#fields = fields
  }

  /** Takes in what was done until now; while no workload runs. */
  async update(): Promise<void> {
    this.#spans = await Promise.all(
      this.#workloads.map(async (workload, number) => {
        const path = `${this.#path}-${number}`
        await workload.tellSpans(path)
        const lines = readFileSync(path, 'ascii').split('\n').slice(0, -1)
        const rows = lines.map((line) => line.split(' ').map(Number))
        const column = (at: number) => rows.map((row) => row[at] as number)
        return Array.from({ length: (rows[0]?.length ?? 0) / 2 }, (_, root) => ({
          starts: column(root * 2),
          ends: column(root * 2 + 1),
        }))
      }),
    )
  }

  /** Paths whose times cannot be of the same operation in the first and in the second root. */
  differences(one: Tree, other: Tree): string[] {
    return [...one.keys()].flatMap((path) => {
      const [here, there] = [one.get(path), other.get(path)]
      if (here === undefined || there === undefined) return []
      return this.#fields
        .filter((field) => !this.#areAlike(String(here[field]), String(there[field])))
        .map(
          (field) =>
            `${JSON.stringify(path)}: ${field} ${this.#told(here[field], 0)}, ${this.#told(there[field], 1)}`,
        )
    })
  }

  #areAlike(one: string, other: string): boolean {
    if (one === other) return true
    return this.#spans.some(([first, second]) => {
      if (first === undefined || second === undefined) return false
      const [a, b] = [operationsAt(first, Number(one)), operationsAt(second, Number(other))]
      return Math.max(a.first, b.first) <= Math.min(a.last, b.last)
    })
  }

  #told(time: unknown, root: number): string {
    const operations = this.#spans.map((roots) => {
      const { first, last } = operationsAt(roots[root] as Spans, Number(time))
      return first <= last ? `${first} to ${last}` : 'none'
    })
    return `${time} (operation ${operations.join(', or ')})`
  }
}

/** Numbers of the operations that can have given this time; -1: what was before the first of them. */
function operationsAt({ starts, ends }: Spans, timeNs: number): { first: number; last: number } {
  const began = countBelow(starts, timeNs + TICK_NS + 1)
  const ended = countBelow(ends, timeNs)
  const isBefore = timeNs <= (starts[0] as number) && timeNs > (starts[0] as number) - BEFORE_NS
  return { first: isBefore ? -1 : ended, last: began - 1 }
}

/** How many of the rising numbers are below a limit. */
function countBelow(numbers: readonly number[], limit: number): number {
  let [low, high] = [0, numbers.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((numbers[middle] as number) < limit) low = middle + 1
    else high = middle
  }
  return low
}
