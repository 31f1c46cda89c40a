// Every writer that the coordinator knows: hooks of the configuration and of the mounts, the configured
// writers, which it starts, and processes that have connected by themselves.
//
// Always true: hooks come first, in the order of their folders and names; a writer that registers while
// a session is under way takes part in the next one.

import type { MessageConnection } from 'vscode-jsonrpc/node.js'
import { WriterConnections } from '../shadow/writers/connected-port.ts'
import { HookFolders } from '../shadow/writers/hook-folder.ts'
import { hooksFolder } from '../shadow/writers/writer-configuration.ts'
import type { WriterPort, WriterSource } from '../shadow/writers/writer-port.ts'
import { ConfiguredWriters } from './configured-writers.ts'
import type { Session } from './control-server.ts'
import { mountHookFolders } from './mount-hooks.ts'

export interface CoordinatorWritersOptions {
  /** What hooks and configured writers say on standard error. */
  readonly onLine: (writer: string, line: string) => void
}

export class CoordinatorWriters implements WriterSource {
  readonly #hooks: HookFolders
  readonly #configured: ConfiguredWriters
  readonly #connections = new WriterConnections()

  constructor({ onLine }: CoordinatorWritersOptions) {
    this.#hooks = new HookFolders(async () => [hooksFolder(), ...(await mountHookFolders())], {
      onLine,
    })
    this.#configured = new ConfiguredWriters(onLine)
  }

  connectedCount(): Promise<number> {
    return this.#connections.ports().then((ports) => ports.length)
  }

  /** Lets the other end of a new connection register as a writer. */
  accept(connection: MessageConnection, session: Session): void {
    this.#connections.accept(connection, new Promise((resolve) => session.onEnd(resolve)))
  }

  async ports(): Promise<readonly WriterPort[]> {
    const sources: readonly WriterSource[] = [this.#hooks, this.#configured, this.#connections]
    return (await Promise.all(sources.map((source) => source.ports()))).flat()
  }

  /** Ends the processes that were started here; each aborts first what it has frozen. */
  close(): void {
    this.#configured.close()
  }
}
