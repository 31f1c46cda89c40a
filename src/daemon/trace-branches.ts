// Where a coordinator's trace goes: to a file, if one was asked for, and to requesters who want that of
// their own session.
//
// Always true: nothing here waits: the file may lie on a volume that is being held, and the one who
// would wait is the one to release it.

import { createWriteStream, type WriteStream } from 'node:fs'
import type { TraceEntry, TraceFunction } from '../shadow/coordinator/trace.ts'

export class TraceBranches {
  readonly #file: WriteStream | undefined
  readonly #branches = new Map<string, TraceFunction>()

  /** @param path of a file that gets a JSON line for each entry; undefined: none */
  constructor(path: string | undefined) {
    this.#file = path ? createWriteStream(path, { flags: 'a', mode: 0o600 }) : undefined
    // A trace that cannot be written is no reason to stop.
    this.#file?.on('error', () => {})
  }

  branch(sessionId: string, onTrace: TraceFunction): void {
    this.#branches.set(sessionId, onTrace)
  }

  cut(sessionId: string): void {
    this.#branches.delete(sessionId)
  }

  give(entry: TraceEntry): void {
    this.#file?.write(`${JSON.stringify(entry)}\n`)
    this.#branches.get(entry.sessionId)?.(entry)
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#file === undefined || this.#file.destroyed) resolve()
      else this.#file.end(() => resolve())
    })
  }
}
