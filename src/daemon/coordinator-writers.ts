// Every writer that the coordinator knows: hooks of the configuration and of the mounts, and processes
// that are connected.
//
// Always true: hooks come first, in the order of their folders and names; a writer that registers while
// a session is under way takes part in the next one.

import type { MessageConnection } from 'vscode-jsonrpc/node.js'
import { WriterConnections } from '../shadow/writers/connected-port.ts'
import { HookFolders } from '../shadow/writers/hook-folder.ts'
import type { WriterPort, WriterSource } from '../shadow/writers/writer-port.ts'
import { configuredHooksFolder } from './config-folder.ts'
import type { Session } from './control-server.ts'
import { mountHookFolders } from './mount-hooks.ts'

export interface CoordinatorWritersOptions {
  /** What hooks say on standard error. */
  readonly onHookLine: (hook: string, line: string) => void
}

export class CoordinatorWriters implements WriterSource {
  readonly #hooks: HookFolders
  readonly #connections = new WriterConnections()

  constructor({ onHookLine }: CoordinatorWritersOptions) {
    this.#hooks = new HookFolders(async () => [configuredHooksFolder(), ...(await mountHookFolders())], {
      onLine: onHookLine,
    })
  }

  connectedCount(): Promise<number> {
    return this.#connections.ports().then((ports) => ports.length)
  }

  /** Lets the other end of a new connection register as a writer. */
  accept(connection: MessageConnection, session: Session): void {
    this.#connections.accept(connection, new Promise((resolve) => session.onEnd(resolve)))
  }

  async ports(): Promise<readonly WriterPort[]> {
    return [...(await this.#hooks.ports()), ...(await this.#connections.ports())]
  }
}
