// The coordinator for commands that may be refused before they need one.
//
// Always true: it is looked for, and started, at the first session; close() lets go of it if it was.

import type { CoordinatorControl, RequesterSession } from '../shadow/coordinator/requester-session.ts'
import type { TraceFunction } from '../shadow/coordinator/trace.ts'
import { type CoordinatorConnection, connectCoordinator } from './coordinator-client.ts'

export class LazyCoordinator implements CoordinatorControl, Disposable {
  readonly #onTrace: TraceFunction | undefined
  #connection: Promise<CoordinatorConnection> | undefined

  /** @param onTrace told of every step of its sessions */
  constructor(onTrace?: TraceFunction) {
    this.#onTrace = onTrace
  }

  /** @throws UmbraError as connectCoordinator() */
  async openSession(operation: 'backup' | 'restore'): Promise<RequesterSession> {
    return (await this.#connect()).openSession(operation)
  }

  async listWriters(): ReturnType<CoordinatorControl['listWriters']> {
    return (await this.#connect()).listWriters()
  }

  [Symbol.dispose](): void {
    void this.#connection?.then(
      (connection) => connection.close(),
      () => {},
    )
  }

  #connect(): Promise<CoordinatorConnection> {
    this.#connection ??= this.#open()
    return this.#connection
  }

  async #open(): Promise<CoordinatorConnection> {
    const connection = await connectCoordinator()
    connection.onTrace = this.#onTrace
    return connection
  }
}
