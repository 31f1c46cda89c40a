// The command line's end of a control socket.
//
// Always true: every call ends, in a result, in the daemon's own error, or in UNAVAILABLE when the
// connection closes or the deadline passes.

import { connect, type Socket } from 'node:net'
import {
  ConnectionError,
  type MessageConnection,
  type NotificationType,
  type RequestType,
  type RequestType0,
} from 'vscode-jsonrpc/node.js'
import { UmbraError } from '../base/errors.ts'
import { fromWire, type WireError } from './control-protocol.ts'
import { checkSocketFolder } from './runtime-folder.ts'
import { connectionOver } from './socket-connection.ts'

const CONNECT_TIMEOUT_MS = 10_000
/** A flush writes what the kernel holds back, on a slow disk; nothing legitimate takes longer. */
const CALL_TIMEOUT_MS = 15 * 60_000

export class ControlClient {
  readonly path: string
  readonly #socket: Socket
  readonly #connection: MessageConnection
  readonly #closed: Promise<never>
  readonly whenClosed: Promise<void>

  /** Who is at the other end, for messages. */
  readonly #peer: string
  /** What it sent or could not be sent, after which the connection was closed here. */
  #failure: Error | undefined

  private constructor(path: string, socket: Socket, peer: string) {
    this.path = path
    this.#peer = peer
    this.#socket = socket
    this.#connection = connectionOver(socket)
    this.#connection.onError(([error]) => {
      this.#failure ??= error
    })
    this.whenClosed = new Promise((resolve) => socket.once('close', () => resolve()))
    this.#closed = this.whenClosed.then(() => {
      throw this.#gone()
    })
    // Whoever waits for a call sees it; nobody has to.
    this.#closed.catch(() => {})
    this.#connection.listen()
  }

  /**
   * @param peer who listens there, for messages
   * @returns undefined when nobody does
   * @throws UmbraError NOT_PERMITTED when somebody else may have made the socket
   */
  static async open(path: string, peer = 'daemon'): Promise<ControlClient | undefined> {
    checkSocketFolder(path)
    return new Promise((resolve, reject) => {
      const socket = connect(path)
      const timer = setTimeout(() => {
        socket.destroy()
        reject(new UmbraError('TIMED_OUT', `The ${peer} behind ${path} does not answer`))
      }, CONNECT_TIMEOUT_MS)
      socket.once('error', () => {
        clearTimeout(timer)
        resolve(undefined)
      })
      socket.once('connect', () => {
        clearTimeout(timer)
        socket.removeAllListeners('error')
        resolve(new ControlClient(path, socket, peer))
      })
    })
  }

  /** @throws UmbraError as the daemon threw it; UNAVAILABLE or TIMED_OUT for the way there */
  call<R>(type: RequestType0<R, WireError>, timeoutMs?: number): Promise<R> {
    return this.#within(type.method, () => this.#connection.sendRequest(type), timeoutMs)
  }

  /** Like call() for a method with parameters. */
  callWith<P, R>(type: RequestType<P, R, WireError>, params: P, timeoutMs?: number): Promise<R> {
    return this.#within(type.method, () => this.#connection.sendRequest(type, params), timeoutMs)
  }

  /** Calls `told` for each notification of this type. */
  onNotification<P>(type: NotificationType<P>, told: (params: P) => void): void {
    this.#connection.onNotification(type, told)
  }

  close(): void {
    this.#connection.dispose()
    this.#socket.destroy()
  }

  /** @param send throws where the connection has closed already */
  async #within<R>(method: string, send: () => Promise<R>, timeoutMs = CALL_TIMEOUT_MS): Promise<R> {
    if (this.#socket.destroyed) throw this.#gone()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new UmbraError('TIMED_OUT', `The ${this.#peer} did not answer ${method}`)),
        timeoutMs,
      )
    })
    try {
      const answer = send()
      // Closing the connection rejects it too, when nobody waits any more.
      answer.catch(() => {})
      return await Promise.race([answer, late, this.#closed])
    } catch (error) {
      throw error instanceof ConnectionError ? this.#gone(error) : fromWire(error)
    } finally {
      clearTimeout(timer)
    }
  }

  #gone(cause: unknown = this.#failure): UmbraError {
    const why = this.#failure?.message ?? 'it closed the connection'
    return new UmbraError('UNAVAILABLE', `The ${this.#peer} has gone: ${why}`, {}, cause)
  }
}
