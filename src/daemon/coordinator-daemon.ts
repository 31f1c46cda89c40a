// What runs in the coordinator's process: the lock, the socket, the coordinator behind it, the idle end.
//
// Always true: whoever holds the lock file is the one coordinator of this runtime folder, and only it
// removes a socket; it touches no mount and waits for no file on one; with no
// connection and no session it ends after a while, and as cleanly on a signal: requesters' sessions are
// ended as if they had died.

import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { loadAddon } from '../base/addon.ts'
import { UmbraError } from '../base/errors.ts'
import { type Coordinator, createCoordinator } from '../shadow/coordinator/coordinator.ts'
import { ControlServer } from './control-server.ts'
import { ControlShadowProvider } from './control-shadow-provider.ts'
import { serveCoordinator } from './coordinator-server.ts'
import { CoordinatorWriters } from './coordinator-writers.ts'
import { type Log, openLog } from './log.ts'
import {
  COORDINATOR_KEY,
  isSocketAlive,
  openRuntimeFolder,
  removeStaleSocket,
  socketPath,
} from './runtime-folder.ts'
import { TraceBranches } from './trace-branches.ts'
import type { RunningDaemon } from './volume-daemon.ts'

const IDLE_MS = 180_000
/** For sessions to be ended after a signal. */
const END_PATIENCE_MS = 90_000

/** @throws UmbraError BUSY: another one runs; NOT_PERMITTED, LIMIT_EXCEEDED as the runtime folder */
export async function runCoordinatorDaemon(): Promise<RunningDaemon> {
  const folder = openRuntimeFolder()
  const lock = await takeLock(join(folder, `${COORDINATOR_KEY}.lock`))
  try {
    const daemon = new CoordinatorDaemon(lock)
    await daemon.start()
    return daemon
  } catch (error) {
    closeSync(lock)
    throw error
  }
}

/** The file stays when its holder goes: the lock is what counts, and it goes with the process. */
async function takeLock(path: string): Promise<number> {
  const fd = openSync(path, 'w', 0o600)
  const addon = loadAddon()
  // Without the addon a socket that answers has to do.
  const isTaken = addon ? addon.lock(fd, true) < 0 : await isSocketAlive(socketPath(COORDINATOR_KEY))
  if (!isTaken) return fd
  closeSync(fd)
  throw new UmbraError('BUSY', 'Another coordinator runs')
}

class CoordinatorDaemon implements RunningDaemon {
  readonly socket = socketPath(COORDINATOR_KEY)
  readonly whenEnded: Promise<void>
  readonly #lock: number
  readonly #log: Log = openLog(COORDINATOR_KEY)
  readonly #server = new ControlServer(this.socket)
  readonly #traces = new TraceBranches(process.env['UMBRA_COORDINATOR_TRACE'])
  readonly #writers: CoordinatorWriters
  readonly #coordinator: Coordinator
  readonly #idleMs = Number(process.env['UMBRA_COORDINATOR_IDLE_MS']) || IDLE_MS
  #resolveEnded: () => void = () => {}
  #connectionCount = 0
  #timer: NodeJS.Timeout | undefined
  #isEnding = false

  constructor(lock: number) {
    this.#lock = lock
    this.#writers = new CoordinatorWriters({
      onLine: (writer, line) => this.#log.info({ writer }, line),
    })
    this.#coordinator = createCoordinator({
      writers: this.#writers,
      provider: new ControlShadowProvider(),
      limits: limitsFromEnvironment(),
      onTrace: (entry) => this.#traces.give(entry),
    })
    this.whenEnded = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
  }

  async start(): Promise<void> {
    removeStaleSocket(this.socket)
    serveCoordinator(this.#server, {
      coordinator: this.#coordinator,
      traces: this.#traces,
      connectedWriters: () => this.#writers.connectedCount(),
      onChange: () => this.#considerIdle(),
      report: (error) => this.#report(error),
    })
    this.#server.onConnect = (connection, session) => {
      this.#writers.accept(connection, session)
      session.onEnd(() => this.#considerIdle())
    }
    this.#server.onConnections = (count) => {
      this.#connectionCount = count
      this.#considerIdle()
    }
    await this.#server.listen()
    this.#considerIdle()
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void this.#end())
    process.on('uncaughtException', (error) => {
      this.#log.error({ error: error.stack ?? String(error) }, 'a bug ends the coordinator')
      process.exit(1)
    })
    this.#log.info('coordinating')
  }

  #considerIdle(): void {
    clearTimeout(this.#timer)
    if (this.#connectionCount > 0 || this.#coordinator.sessionCount > 0 || this.#isEnding) return
    this.#timer = setTimeout(() => void this.#end(), this.#idleMs)
  }

  async #end(): Promise<void> {
    if (this.#isEnding) return
    this.#isEnding = true
    clearTimeout(this.#timer)
    try {
      // A writer that hangs may take its ten minutes; volumes are let go before writers are told.
      await Promise.race([this.#coordinator.shutdown(), sleep(END_PATIENCE_MS, undefined, { ref: false })])
      this.#writers.close()
      await this.#server.close()
      await this.#traces.close()
    } catch (error) {
      this.#report(error)
    } finally {
      this.#log.info('ended')
      closeSync(this.#lock)
      this.#resolveEnded()
    }
  }

  #report(error: unknown): void {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
    this.#log.error({ error: text }, 'something went wrong')
  }
}

/** For tests: `UMBRA_COORDINATOR_LIMITS` holds some of CoordinatorLimits as JSON. */
function limitsFromEnvironment(): Record<string, number> {
  const text = process.env['UMBRA_COORDINATOR_LIMITS']
  if (!text) return {}
  const given = JSON.parse(text) as Record<string, unknown>
  return Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, number] => Number.isFinite(entry[1])),
  )
}
