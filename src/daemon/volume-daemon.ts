// The process that serves a volume and its mount: opens the volume under its lock, mounts, answers the
// kernel and the control socket, commits every few seconds, and ends cleanly however it is asked to.
//
// Always true: this process starts no program once the mount exists and touches no path on it; the
// helper process does. The end comes in one order: the mount goes, the last commit, the volume's lock,
// the control socket. A volume that failed stays mounted read-only and says why in its status.

import { requireAddon } from '../base/addon.ts'
import { hasCode, UmbraError } from '../base/errors.ts'
import { ControlServer } from './control-server.ts'
import { FlushHelper } from './flush.ts'
import type { MountHooks } from './hosted-volume.ts'
import type { MountedOptions } from './launch.ts'
import { type Log, openLog } from './log.ts'
import { type MountService, serveMount } from './mount-drivers.ts'
import { growBoth } from './resize-volume.ts'
import { openRuntimeFolder, removeStaleSocket } from './runtime-folder.ts'
import { serveControl } from './serve-control.ts'
import { SEQUENCE_LIMITS, ShadowService, serveShadow } from './serve-shadow.ts'
import type { SequenceLimits } from './served-sequence.ts'
import { openServed, type Served } from './served-volume.ts'

/** As ext4's own commit interval: sync(2) does not reach a FUSE file system. */
const COMMIT_INTERVAL_MS = 5000

export interface RunningDaemon {
  readonly socket: string
  /** Settles when the mount is gone and the volume is closed. */
  readonly whenEnded: Promise<void>
}

export interface DaemonSurroundings {
  /** Say on standard error what else goes to the log. */
  readonly toTerminal: boolean
  /** For tests: delays requests, see FuseDispatcherOptions. */
  readonly onRequest?: (opcode: number, nodeId: number) => undefined | Promise<void>
  /** For tests: shorter than the product's. */
  readonly shadowLimits?: SequenceLimits
}

/** @throws UmbraError for whatever keeps the mount from being served; then nothing is left behind */
export async function runVolumeDaemon(
  options: MountedOptions,
  how: DaemonSurroundings,
): Promise<RunningDaemon> {
  requireAddon().setIoFlusher()
  openRuntimeFolder()
  const undo: (() => unknown)[] = []
  try {
    const served = await openServed(options)
    undo.push(() => served.close())
    const log = openLog(how.toTerminal ? null : served.key)
    // Before the mount exists, so that it inherits nothing of it.
    const helper = FlushHelper.start()
    undo.push(() => helper.stop())
    removeStaleSocket(served.socket)
    const server = new ControlServer(served.socket)
    undo.push(() => server.close())
    const daemon = new VolumeDaemon(options, how, served, helper, server, log)
    await daemon.start()
    return daemon
  } catch (error) {
    for (const step of undo.reverse()) await step()
    throw error
  }
}

class VolumeDaemon implements RunningDaemon {
  readonly socket: string
  readonly whenEnded: Promise<void>
  readonly #options: MountedOptions
  readonly #how: DaemonSurroundings
  readonly #served: Served
  readonly #helper: FlushHelper
  readonly #server: ControlServer
  readonly #log: Log
  #resolveEnded: () => void = () => {}
  #timer: NodeJS.Timeout | undefined
  #service: MountService | undefined
  #shadows: ShadowService | undefined
  #mountPoint = ''
  /** What a flush for #flushToSeek() heard and nobody has been told yet. */
  #lostWrites: unknown
  #isEnding = false

  constructor(
    options: MountedOptions,
    how: DaemonSurroundings,
    served: Served,
    helper: FlushHelper,
    server: ControlServer,
    log: Log,
  ) {
    this.#options = options
    this.#how = how
    this.#served = served
    this.#helper = helper
    this.#server = server
    this.#log = log
    this.socket = served.socket
    this.whenEnded = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
  }

  async start(): Promise<void> {
    serveControl(this.#server, this.#served, (lazy) => this.#unmount(lazy))
    serveShadow(this.#server, () => this.#shadowService())
    await this.#server.listen()
    this.#mountPoint = this.#options.mountPoint
    const service = await serveMount(this.#options, {
      operations: this.#served.tree.operations,
      log: this.#log,
      onRequest: this.#how.onRequest,
      flushInode: () => this.#flushToSeek(),
      makeRoom: (attempt) => this.#served.hosted?.volume.spaceKeeper.makeRoom(attempt),
      onEnded: (reason) => void this.#end(reason),
      unmount: (mountPoint) => this.#helper.unmount(mountPoint, true),
    })
    this.#service = service
    this.#mountPoint = service.mountPoint
    this.#served.hosted?.volume.spaceKeeper.log.onEvent(({ kind, message, usedBytes, limitBytes }) => {
      this.#log.warn({ event: kind, usedBytes, limitBytes }, message)
    })
    this.#served.hosted?.attach({
      evicted: (epoch) => void this.#served.tree.view?.snapshotRemoved(epoch).catch(() => {}),
      flush: () => this.#flush(),
      grow: (sizeBytes) => this.#grow(sizeBytes),
      isInUse: (snapshot) => this.#served.tree.view?.isSnapshotInUse(snapshot.epoch) ?? false,
      beforeDelete: async (snapshot) =>
        (await this.#served.tree.view?.snapshotRemoved(snapshot.epoch)) ?? (() => {}),
    })
    this.#shadows = this.#makeShadows()
    this.#timer = setInterval(() => void this.#commitNow(), COMMIT_INTERVAL_MS)
    this.#takeSignals()
    await service.tune()
    const { mountPoint, by } = service
    this.#log.info({ volume: this.#options.volumePath, mountPoint, by }, 'mounted')
  }

  /** Not while a shadow set is cut: what is held begins afterwards. */
  async #grow(sizeBytes: number): ReturnType<MountHooks['grow']> {
    const { hosted, tree } = this.#served
    for (let { released } = tree.gate; released; released = tree.gate.released) await released
    if (hosted && tree.fileSystem) return growBoth(hosted.volume, tree.fileSystem, sizeBytes)
    throw new UmbraError('READ_ONLY', 'A snapshot keeps its size')
  }

  #makeShadows(): ShadowService | undefined {
    const { hosted, tree } = this.#served
    if (!hosted) return undefined
    const { volumePath, hooks } = this.#options
    return new ShadowService({
      hosted,
      info: {
        volumeUuid: hosted.volume.uuid,
        volumePath,
        mountPoint: this.#mountPoint,
        hooksFolder: hooks,
      },
      gate: tree.gate,
      windows: tree.view?.windows ?? null,
      limits: this.#how.shadowLimits ?? SEQUENCE_LIMITS,
      flush: () => this.#flush(),
      report: (error) => this.#log.error({ error: String(error) }, 'a shadow copy was not undone'),
    })
  }

  #shadowService(): ShadowService {
    if (this.#shadows) return this.#shadows
    throw new UmbraError(
      'VOLUME_NOT_SUPPORTED',
      this.#served.hosted ? 'The volume is not mounted yet' : 'A single snapshot has no shadow copies',
    )
  }

  /** Brings every write that has returned so far to the file system. */
  async #flush(): Promise<void> {
    const lost = this.#lostWrites
    this.#lostWrites = undefined
    if (lost !== undefined) throw lost
    await this.#helper.flush(this.#mountPoint, this.#served.tree.marker)
  }

  /**
   * As #flush(), for one who asks where a file's data are: that something of another file was lost is
   * not for him to hear but for the next who flushes, and the kernel tells it once.
   */
  async #flushToSeek(): Promise<void> {
    const { marker } = this.#served.tree
    try {
      await this.#helper.flush(this.#mountPoint, marker)
    } catch (error) {
      this.#lostWrites = error
      await this.#helper.flush(this.#mountPoint, marker)
    }
  }

  async #commitNow(): Promise<void> {
    const volume = this.#served.hosted?.volume
    if (!volume || volume.readOnly) return
    try {
      await volume.commit()
    } catch (error) {
      this.#log.error({ error: String(error) }, 'the commit failed; the volume is read-only now')
    }
  }

  #takeSignals(): void {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => void this.#endBySignal(signal))
    }
    process.on('uncaughtException', (error) => {
      // What is in memory cannot be trusted any more; the last commit can.
      this.#log.error({ error: error.stack ?? String(error) }, 'a bug ends the daemon')
      process.exit(1)
    })
  }

  /** Unmounts; the kernel then ends the device, which ends the daemon. @throws UmbraError BUSY */
  async #unmount(lazy: boolean): Promise<void> {
    await this.#helper.unmount(this.#mountPoint, lazy)
    this.#log.info({ lazy }, 'unmounted on request')
  }

  /** A busy mount is cut off, after what was written to it was brought in. */
  async #endBySignal(signal: string): Promise<void> {
    this.#log.info({ signal }, 'ending')
    try {
      await this.#helper.unmount(this.#mountPoint, false)
    } catch (error) {
      if (!hasCode(error, 'BUSY')) this.#log.warn({ error: String(error) }, 'unmounting failed')
      await this.#flush().catch(() => {})
      await this.#helper.unmount(this.#mountPoint, true).catch(() => {})
      await this.#end('aborted')
    }
  }

  async #end(reason: 'unmounted' | 'aborted'): Promise<void> {
    if (this.#isEnding) return
    this.#isEnding = true
    clearInterval(this.#timer)
    this.#service?.close()
    try {
      await this.#shadows?.close()
      await this.#served.close()
    } catch (error) {
      this.#log.error({ error: String(error) }, 'the last commit failed')
    }
    // Answers the request to unmount, if that was the reason; the helper may still be telling of it.
    await this.#server.close()
    this.#helper.stop()
    this.#log.info({ reason }, 'ended')
    this.#resolveEnded()
  }
}
