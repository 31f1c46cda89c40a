// The coordinator for commands that may be refused before they need one.
//
// Always true: it is looked for, and started, at the first session; close() lets go of it if it was.

import type { CoordinatorControl, RequesterSession } from '../shadow/coordinator/requester-session.ts'
import { type CoordinatorConnection, connectCoordinator } from './coordinator-client.ts'

export class LazyCoordinator implements CoordinatorControl, Disposable {
  #connection: Promise<CoordinatorConnection> | undefined

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
    this.#connection ??= connectCoordinator()
    return this.#connection
  }
}
