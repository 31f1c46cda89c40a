// The services that a restore stops and starts: `stop-restore-start` before its files are looked at,
// `restore-stop-start` after PostRestore.
//
// Always true: a service is stopped once, whatever the number of its components and backups; it is started
// again, before PostRestore of the last backup, when all its components are whole or nothing of them was
// changed; otherwise it stays stopped, since it would start on half a restore, and a note says so. However
// a restore ends, none is left stopped without a word.

import type { WriterMetadata } from '../../documents/writer-metadata.ts'
import type { ServiceControl } from './component-restore-types.ts'
import type { ComponentRun } from './component-run.ts'

export class StoppedServices {
  readonly #control: ServiceControl
  readonly #onNote: (note: string) => void
  readonly #stopped = new Map<string, Set<ComponentRun>>()
  /** Whether one is not as it should be after the restore. */
  hasTrouble = false

  constructor(control: ServiceControl, onNote: (note: string) => void) {
    this.#control = control
    this.#onNote = onNote
  }

  /** @throws UmbraError when it does not stop */
  async stop(service: string, user: ComponentRun): Promise<void> {
    const users = this.#stopped.get(service)
    if (users) {
      users.add(user)
      return
    }
    await this.#control.stop(service)
    this.#stopped.set(service, new Set([user]))
  }

  /** Starts what nobody needs stopped any more. */
  async settle(runs: readonly ComponentRun[]): Promise<void> {
    for (const [service, users] of [...this.#stopped]) {
      const own = runs.filter((run) => users.has(run))
      if (own.some((run) => !run.hasFailed && run.status !== 'all')) continue
      await this.#release(service, !own.some((run) => run.status === 'failed'))
    }
  }

  /** At the restore's end, when it did not come to the last backup. */
  async leave(runs: readonly ComponentRun[]): Promise<void> {
    for (const [service, users] of [...this.#stopped]) {
      const own = runs.filter((run) => users.has(run))
      const isWhole = own.every((run) => run.status === 'all' || (run.hasFailed && run.status === 'none'))
      await this.#release(service, isWhole)
    }
  }

  async #release(service: string, isWhole: boolean): Promise<void> {
    this.#stopped.delete(service)
    if (isWhole) return this.#start(service)
    const command = this.#control.startCommand?.(service)
    const how = command === undefined ? '' : ` (to start it all the same: ${command})`
    this.#trouble(`The service ${service} stays stopped: its files were restored in part only${how}`)
  }

  #trouble(note: string): void {
    this.hasTrouble = true
    this.#onNote(note)
  }

  /** For `restore-stop-start`, when its components are whole. */
  async restart(done: readonly { readonly metadata: WriterMetadata }[]): Promise<void> {
    const services = new Set(
      done.flatMap(({ metadata: { restoreMethod } }) =>
        restoreMethod.method === 'restore-stop-start' && restoreMethod.serviceName !== undefined
          ? [restoreMethod.serviceName]
          : [],
      ),
    )
    for (const service of services) {
      try {
        await this.#control.stop(service)
      } catch (error) {
        this.#trouble(`The service ${service} did not stop: ${text(error)}`)
        continue
      }
      await this.#start(service)
    }
  }

  async #start(service: string): Promise<void> {
    try {
      await this.#control.start(service)
    } catch (error) {
      this.#trouble(`The service ${service} did not start: ${text(error)}`)
    }
  }
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
