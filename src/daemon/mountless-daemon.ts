// The process that serves a volume which is not mounted, for those who need it longer than one command:
// shadow sequences, whose snapshots must go when their requester dies.
//
// Always true: it holds the volume's lock and its control socket as a mount's daemon does, so every
// command finds it; it ends by itself when the last connection has closed, or when nobody came. The end
// comes in one order: what sequences left, the socket, the last commit, the volume's lock.

import { UmbraError } from '../base/errors.ts'
import { HoldGate } from '../fuse/hold-gate.ts'
import { FileMarks } from '../storage/file-marks.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { Volume } from '../volume/volume.ts'
import { ControlServer } from './control-server.ts'
import { dropLeftovers, HostedVolume } from './hosted-volume.ts'
import { type Log, openLog } from './log.ts'
import { openRuntimeFolder, removeStaleSocket, socketPath, volumeFileKey } from './runtime-folder.ts'
import { serveControl } from './serve-control.ts'
import { SEQUENCE_LIMITS, ShadowService, serveShadow } from './serve-shadow.ts'
import type { RunningDaemon } from './volume-daemon.ts'

/** How long it waits for its first connection. */
const FIRST_CONNECTION_MS = 30_000
/** After the last connection, for one who is about to come back. */
const LINGER_MS = 100

/** @throws UmbraError NOT_FOUND, BUSY, and what opening the volume throws */
export async function runMountlessDaemon(volumePath: string): Promise<RunningDaemon> {
  openRuntimeFolder()
  const key = volumeFileKey(volumePath)
  const socket = socketPath(key)
  const storage = await FileStorage.open(volumePath, { readOnly: false })
  try {
    const volume = await Volume.open(storage)
    await dropLeftovers(volume)
    const place = { volumePath, mountPoint: null, socket, mountedSnapshot: null }
    const hosted = new HostedVolume(volume, place, new FileMarks(storage))
    const daemon = new MountlessDaemon(storage, hosted, socket, openLog(key))
    await daemon.start(volumePath)
    return daemon
  } catch (error) {
    await storage.close()
    throw error
  }
}

class MountlessDaemon implements RunningDaemon {
  readonly socket: string
  readonly whenEnded: Promise<void>
  readonly #storage: FileStorage
  readonly #hosted: HostedVolume
  readonly #log: Log
  readonly #server: ControlServer
  #shadows: ShadowService | undefined
  #resolveEnded: () => void = () => {}
  #timer: NodeJS.Timeout | undefined
  #isEnding = false

  constructor(storage: FileStorage, hosted: HostedVolume, socket: string, log: Log) {
    this.#storage = storage
    this.#hosted = hosted
    this.socket = socket
    this.#log = log
    removeStaleSocket(socket)
    this.#server = new ControlServer(socket)
    this.whenEnded = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
  }

  async start(volumePath: string): Promise<void> {
    const hosted = this.#hosted
    const shadows = new ShadowService({
      hosted,
      info: { volumeUuid: hosted.volume.uuid, volumePath, mountPoint: null, hooksFolder: null },
      gate: new HoldGate(),
      windows: null,
      limits: SEQUENCE_LIMITS,
      // What was committed is all there is.
      flush: async () => {},
      report: (error) => this.#log.error({ error: String(error) }, 'a shadow copy was not undone'),
    })
    this.#shadows = shadows
    serveControl(this.#server, { hosted, status: () => hosted.status() }, async () => {
      throw new UmbraError('NOT_FOUND', `${volumePath} is not mounted`)
    })
    serveShadow(this.#server, () => shadows)
    this.#server.onConnections = (count) => this.#endWhenIdle(count)
    await this.#server.listen()
    this.#timer = setTimeout(() => void this.#end(), FIRST_CONNECTION_MS)
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void this.#end())
    process.on('uncaughtException', (error) => {
      // What is in memory cannot be trusted any more; the last commit can.
      this.#log.error({ error: error.stack ?? String(error) }, 'a bug ends the daemon')
      process.exit(1)
    })
    this.#log.info({ volume: volumePath }, 'serving without a mount')
  }

  #endWhenIdle(connectionCount: number): void {
    clearTimeout(this.#timer)
    if (connectionCount === 0) this.#timer = setTimeout(() => void this.#end(), LINGER_MS)
  }

  async #end(): Promise<void> {
    if (this.#isEnding) return
    this.#isEnding = true
    clearTimeout(this.#timer)
    this.#server.onConnections = undefined
    try {
      await this.#shadows?.close()
      await this.#hosted.settled()
      await this.#server.close()
      await this.#hosted.volume.close()
    } catch (error) {
      this.#log.error({ error: String(error) }, 'the last commit failed')
    } finally {
      await this.#storage.close()
    }
    this.#log.info('ended')
    this.#resolveEnded()
  }
}
