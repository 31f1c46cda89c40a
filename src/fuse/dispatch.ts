// The dispatcher: takes requests from the device, has them handled, and sees that each is answered once.
//
// Always true: handle() never throws; a request that throws NotReady is copied and asked again when
// what it waits for has settled; FORGET and BATCH_FORGET are never answered. A RELEASE is held back
// behind requests that were delayed before it, so that the flush marker's RELEASE means what it says:
// every WRITE that the kernel queued earlier is done.

import { hasCode } from '../base/errors.ts'
import { Attributes } from './attributes.ts'
import { DirectoryFiller } from './directory-filler.ts'
import * as attributes from './handle-attributes.ts'
import * as directories from './handle-directories.ts'
import * as files from './handle-files.ts'
import { ioctl } from './handle-ioctl.ts'
import * as names from './handle-names.ts'
import * as session from './handle-session.ts'
import type { Handler, HandlerContext } from './handler.ts'
import type { Negotiated } from './init-negotiation.ts'
import { LostWrites } from './lost-writes.ts'
import { type InodeOperations, NotReady } from './operations.ts'
import { KERNEL_MINOR_VERSION, OPCODE, OPCODE_COUNT } from './protocol.ts'
import { type ErrorReport, ReplyPort } from './reply-port.ts'
import { Request, type Ticket } from './request.ts'
import type { FuseReplies, RequestHandler } from './request-handler.ts'

export interface FuseDispatcherOptions {
  readonly operations: InodeOperations
  /** The kernel's write-back cache; false for `--write-through`. Default true. */
  readonly writeBack?: boolean
  /** Let the kernel cache and enforce ACLs. Default true. */
  readonly posixAcl?: boolean
  /** Told of bugs, damage and refused replies; answers are sent all the same. */
  readonly onError?: ErrorReport
  /** DESTROY arrived (the kernel sends it for some types of mount only). */
  readonly onDestroy?: () => void
  /** The mount is gone. */
  readonly onEnded?: (reason: 'unmounted' | 'aborted') => void
  /**
   * Makes the kernel write back at least its dirty pages of this file, and settles when they are here:
   * syncfs and the flush marker, by a helper process. Without it, SEEK_DATA and SEEK_HOLE on a file
   * open for writing turn the kernel to its own, coarser answer for good.
   */
  readonly flushInode?: (nodeId: number) => Promise<void>
  /**
   * Asked when space has run out, with how often it was asked for this request before: a promise of space
   * that is being made available, after which the request is handled once more, or undefined.
   */
  readonly makeRoom?: (attempt: number) => Promise<void> | undefined
  /** For tests: asked before each request; one whose promise is returned is handled when it settles. */
  readonly onRequest?: (opcode: number, nodeId: number) => undefined | Promise<void>
}

const UNANSWERED = new Set<number>([OPCODE.FORGET, OPCODE.BATCH_FORGET])
const NOT_YET_NEGOTIATED: Negotiated = {
  minor: KERNEL_MINOR_VERSION,
  maxReadaheadBytes: 131072,
  flags: 0,
  flags2: 0,
}

export class FuseDispatcher implements RequestHandler, HandlerContext {
  readonly operations: InodeOperations
  readonly port: ReplyPort
  readonly attributes = new Attributes()
  readonly filler = new DirectoryFiller()
  readonly lostWrites = new LostWrites()
  readonly writeBack: boolean
  readonly posixAcl: boolean
  readonly flushInode: ((nodeId: number) => Promise<void>) | undefined
  negotiated = NOT_YET_NEGOTIATED
  readonly #options: FuseDispatcherOptions
  readonly #onRequest: FuseDispatcherOptions['onRequest']
  readonly #request = new Request()
  /** Requests that onRequest or NotReady keeps waiting. */
  readonly #delayed = new Set<Promise<void>>()
  #isEnded = false

  constructor(replies: FuseReplies, options: FuseDispatcherOptions) {
    this.#options = options
    this.#onRequest = options.onRequest
    this.operations = options.operations
    this.writeBack = options.writeBack ?? true
    this.posixAcl = options.posixAcl ?? true
    this.flushInode = options.flushInode
    this.port = new ReplyPort(replies, options.onError ?? (() => {}))
  }

  /** Settles when every request that waits now has been answered. */
  async settled(): Promise<void> {
    await Promise.all(this.#delayed)
  }

  handle(arena: Uint8Array, offsetBytes: number, lengthBytes: number): void {
    const request = this.#request
    this.port.begin()
    try {
      if (!request.open(arena, offsetBytes, lengthBytes)) {
        this.port.report(new Error(`A request of ${lengthBytes} bytes has no header`), request.ticket())
        return
      }
      if (this.#onRequest !== undefined || this.#delayed.size > 0) {
        const wait = this.#waitFor(request)
        if (wait !== undefined) {
          this.#delay(request, wait)
          return
        }
      }
    } catch (error) {
      this.#fail(request, error)
      return
    }
    this.#run(request)
  }

  ended(reason: 'unmounted' | 'aborted'): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.port.end()
    this.#options.onEnded?.(reason)
  }

  onDestroy(): void {
    this.#options.onDestroy?.()
  }

  later<T>(
    request: Request,
    promise: Promise<T>,
    answer: (to: Ticket, value: T) => void,
    finish?: () => void,
  ): void {
    const ticket = request.ticket()
    const answerLater = (send: () => void) => {
      this.port.begin()
      try {
        send()
      } catch (error) {
        this.#fail(ticket, error)
      } finally {
        finish?.()
      }
    }
    promise.then(
      (value) => answerLater(() => answer(ticket, value)),
      (error) => answerLater(() => this.#fail(ticket, error)),
    )
  }

  /** What a request has to wait for, if anything. */
  #waitFor(request: Request): Promise<unknown> | undefined {
    if (request.opcode === OPCODE.RELEASE && this.#delayed.size > 0) {
      return Promise.allSettled([...this.#delayed])
    }
    return this.#onRequest?.(request.opcode, request.nodeId)
  }

  /** Handles the request when `ready` has settled; if that fails, so does the request. */
  #delay(current: Request, ready: Promise<unknown>, attempt = 0): void {
    const copy = current.copy()
    const ticket = current.ticket()
    const again = () => {
      this.#delayed.delete(waiting)
      const request = new Request()
      this.port.begin()
      if (request.open(copy, 0, copy.length)) this.#run(request, attempt)
    }
    const waiting = ready.then(again, (error) => {
      this.#delayed.delete(waiting)
      this.port.begin()
      this.#fail(ticket, error)
    })
    this.#delayed.add(waiting)
  }

  /** @param attempt how often the request has waited for room */
  #run(request: Request, attempt = 0): void {
    try {
      const handler = HANDLERS[request.opcode] ?? session.unserved
      handler(this, request)
    } catch (error) {
      if (error instanceof NotReady) {
        this.#delay(request, error.ready)
        return
      }
      const room = hasCode(error, 'OUT_OF_SPACE') ? this.#options.makeRoom?.(attempt) : undefined
      if (room !== undefined) this.#delay(request, room, attempt + 1)
      else this.#fail(request, error)
    }
  }

  #fail(to: Ticket, error: unknown): void {
    if (this.port.isAnswered || UNANSWERED.has(to.opcode)) this.port.report(error, to)
    else this.port.failure(to, error)
  }
}

const HANDLERS: readonly (Handler | undefined)[] = table()

function table(): (Handler | undefined)[] {
  const handlers = new Array<Handler | undefined>(OPCODE_COUNT).fill(undefined)
  handlers[OPCODE.LOOKUP] = names.lookup
  handlers[OPCODE.FORGET] = names.forget
  handlers[OPCODE.GETATTR] = attributes.getattr
  handlers[OPCODE.SETATTR] = attributes.setattr
  handlers[OPCODE.READLINK] = attributes.readlink
  handlers[OPCODE.SYMLINK] = names.symlink
  handlers[OPCODE.MKNOD] = names.mknod
  handlers[OPCODE.MKDIR] = names.mkdir
  handlers[OPCODE.UNLINK] = names.unlink
  handlers[OPCODE.RMDIR] = names.rmdir
  handlers[OPCODE.RENAME] = names.rename
  handlers[OPCODE.LINK] = names.link
  handlers[OPCODE.OPEN] = files.open
  handlers[OPCODE.READ] = files.read
  handlers[OPCODE.WRITE] = files.write
  handlers[OPCODE.STATFS] = attributes.statfs
  handlers[OPCODE.RELEASE] = files.release
  handlers[OPCODE.FSYNC] = files.fsync
  handlers[OPCODE.SETXATTR] = attributes.setxattr
  handlers[OPCODE.GETXATTR] = attributes.getxattr
  handlers[OPCODE.LISTXATTR] = attributes.listxattr
  handlers[OPCODE.REMOVEXATTR] = attributes.removexattr
  handlers[OPCODE.FLUSH] = files.flush
  handlers[OPCODE.INIT] = session.init
  handlers[OPCODE.OPENDIR] = directories.opendir
  handlers[OPCODE.READDIR] = directories.readdir
  handlers[OPCODE.RELEASEDIR] = directories.releasedir
  handlers[OPCODE.FSYNCDIR] = files.fsync
  handlers[OPCODE.CREATE] = names.create
  handlers[OPCODE.INTERRUPT] = session.interrupt
  handlers[OPCODE.DESTROY] = session.destroy
  handlers[OPCODE.IOCTL] = ioctl
  handlers[OPCODE.BATCH_FORGET] = names.batchForget
  handlers[OPCODE.FALLOCATE] = files.fallocate
  handlers[OPCODE.READDIRPLUS] = directories.readdirplus
  handlers[OPCODE.RENAME2] = names.rename2
  handlers[OPCODE.LSEEK] = files.lseek
  handlers[OPCODE.COPY_FILE_RANGE] = files.copyFileRange
  handlers[OPCODE.SYNCFS] = files.syncfs
  handlers[OPCODE.TMPFILE] = names.tmpfile
  handlers[OPCODE.STATX] = attributes.statx
  handlers[OPCODE.COPY_FILE_RANGE_64] = files.copyFileRange
  return handlers
}
