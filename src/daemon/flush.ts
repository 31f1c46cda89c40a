// The flush: brings what the kernel holds back of a mount's writes to the daemon, exactly.
//
// Always true: the serving process only sends messages to a helper process that was started before
// the mount; the helper calls syncfs and then opens and closes a marker file, whose RELEASE reaches
// the daemon after every WRITE that was queued before it. When flush() settles, each write(2) that had
// returned before the call has reached the file system. Everything here has a deadline.

import { type ChildProcess, fork } from 'node:child_process'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { systemError, UmbraError } from '../base/errors.ts'

export type HelperRequest =
  | { readonly id: number; readonly task: 'flush'; readonly folder: string; readonly marker: string }
  | { readonly id: number; readonly task: 'unmount'; readonly folder: string; readonly lazy: boolean }

export interface HelperAnswer {
  readonly id: number
  /** 0, a negated errno, or MOUNT_GONE. */
  readonly result: number
}

/** The flush found another file system in the place of the mount. */
export const MOUNT_GONE = 1

/** The file system's side: makes a hidden file whose RELEASE follows every WRITE queued before it. */
export interface FlushMarkers {
  arm(onRelease: () => void): { readonly name: string; disarm(): void }
}

type Task =
  | Omit<Extract<HelperRequest, { task: 'flush' }>, 'id'>
  | Omit<Extract<HelperRequest, { task: 'unmount' }>, 'id'>

const DEADLINE_MS = 5 * 60_000

export class FlushHelper {
  readonly #child: ChildProcess
  readonly #waiting = new Map<number, { resolve: (result: number) => void; reject: (error: Error) => void }>()
  #nextId = 1
  #gone = false

  private constructor(child: ChildProcess) {
    this.#child = child
    child.on('message', (answer: HelperAnswer) => {
      this.#waiting.get(answer.id)?.resolve(answer.result)
      this.#waiting.delete(answer.id)
    })
    child.once('exit', () => {
      this.#gone = true
      for (const { reject } of this.#waiting.values()) reject(goneError())
      this.#waiting.clear()
    })
  }

  /** Starts the helper process; call it before the mount exists. */
  static start(): FlushHelper {
    const isCompiled = import.meta.url.endsWith('.js')
    const entry = new URL(`./flush-helper.${isCompiled ? 'js' : 'ts'}`, import.meta.url)
    const child = fork(fileURLToPath(entry), [], {
      // From source, the loader of TypeScript is found from the working folder.
      ...(isCompiled ? { cwd: '/' } : {}),
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    return new FlushHelper(child)
  }

  /**
   * @throws UmbraError TIMED_OUT when the kernel or the file system did not finish in time,
   *   UNAVAILABLE when the helper has died or the folder is no longer the mount
   */
  async flush(folder: string, markers: FlushMarkers): Promise<void> {
    let released: (() => void) | undefined
    const whenReleased = new Promise<void>((resolve) => {
      released = resolve
    })
    const marker = markers.arm(() => released?.())
    try {
      const result = await this.#ask({ task: 'flush', folder, marker: marker.name })
      if (result === MOUNT_GONE) {
        throw new UmbraError(
          'UNAVAILABLE',
          `${folder} was unmounted; its daemon ends once the files that are open there are closed, try again then`,
        )
      }
      // The kernel tells once of every write that failed since the last time, after its program was told.
      if (result < 0) {
        throw systemError(-result, `Something written to ${folder} was lost and is not in the volume`)
      }
      await within(DEADLINE_MS, whenReleased, `the flush of ${folder} did not end`)
    } finally {
      marker.disarm()
    }
  }

  /** @throws UmbraError BUSY when files are open below it and `lazy` is off */
  async unmount(folder: string, lazy: boolean): Promise<void> {
    const result = await this.#ask({ task: 'unmount', folder, lazy })
    if (result === -constants.errno.EBUSY) {
      throw new UmbraError('BUSY', `${folder} is in use: a program has a file open there or works in it`)
    }
    // EINVAL: somebody else unmounted it meanwhile.
    if (result < 0 && result !== -constants.errno.EINVAL)
      throw systemError(-result, `Cannot unmount ${folder}`)
  }

  /** Lets the helper end. */
  stop(): void {
    this.#gone = true
    if (this.#child.connected) this.#child.disconnect()
  }

  #ask(task: Task): Promise<number> {
    if (this.#gone) return Promise.reject(goneError())
    const id = this.#nextId++
    const answer = new Promise<number>((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    this.#child.send({ ...task, id } as HelperRequest, (error) => {
      if (!error) return
      this.#waiting.get(id)?.reject(goneError())
      this.#waiting.delete(id)
    })
    return within(DEADLINE_MS, answer, `${task.task} of ${task.folder} did not end`)
  }
}

function goneError(): UmbraError {
  return new UmbraError(
    'UNAVAILABLE',
    'The helper process that flushes the mount has died; unmount and mount again',
  )
}

async function within<T>(timeoutMs: number, work: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new UmbraError('TIMED_OUT', `After ${timeoutMs / 1000} s ${what}`)),
      timeoutMs,
    )
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
