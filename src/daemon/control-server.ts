// The daemon's end of its control socket: accepts connections and hands requests to their handlers.
//
// Always true: the socket is readable and writable by its user alone; each connection has a Session,
// and what is registered with it (leases) ends when the connection closes, however it closes; a
// handler's failure answers that request and nothing else.

import { chmodSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { MessageConnection, NotificationType, RequestType, RequestType0 } from 'vscode-jsonrpc/node.js'
import { toWire, type WireError } from './control-protocol.ts'
import { connectionOver } from './socket-connection.ts'

/** One client's connection, as handlers see it. */
export class Session {
  readonly #connection: MessageConnection
  readonly #endings = new Set<() => void>()
  #isEnded = false

  constructor(connection: MessageConnection) {
    this.#connection = connection
  }

  /** Tells the client something that it did not ask for; one that has gone is not told. */
  notify<P>(type: NotificationType<P>, params: P): void {
    if (!this.#isEnded) this.#connection.sendNotification(type, params).catch(() => {})
  }

  /** Runs at once where the connection has closed already. @returns what takes the registration back */
  onEnd(ending: () => void): () => void {
    if (this.#isEnded) ending()
    else this.#endings.add(ending)
    return () => this.#endings.delete(ending)
  }

  end(): void {
    this.#isEnded = true
    for (const ending of this.#endings) ending()
    this.#endings.clear()
  }
}

/** How long an end waits for requests that are under way. */
const CLOSE_PATIENCE_MS = 5000

type Register = (connection: MessageConnection, session: Session) => void

export class ControlServer {
  readonly path: string
  /** Told of each change of how many connections there are. */
  onConnections: ((count: number) => void) | undefined
  /** Given each new connection before anything is read from it: for servers that ask their clients. */
  onConnect: ((connection: MessageConnection, session: Session) => void) | undefined
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #handlers: Register[] = []
  readonly #underWay = new Set<Promise<unknown>>()

  constructor(path: string) {
    this.path = path
    this.#server = createServer((socket) => this.#accept(socket))
  }

  handle<R>(type: RequestType0<R, WireError>, handler: (session: Session) => R | Promise<R>): void {
    this.#handlers.push((connection, session) => {
      connection.onRequest(type, () => this.#answer(() => handler(session)))
    })
  }

  handleWith<P, R>(
    type: RequestType<P, R, WireError>,
    handler: (params: P, session: Session) => R | Promise<R>,
  ): void {
    this.#handlers.push((connection, session) => {
      connection.onRequest(type, (params) => this.#answer(() => handler(params, session)))
    })
  }

  listen(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.path, () => {
        chmodSync(this.path, 0o600)
        resolve()
      })
    })
  }

  /** Stops listening, lets what is under way be answered, ends every connection and removes the socket. */
  async close(): Promise<void> {
    rmSync(this.path, { force: true })
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    await Promise.race([
      Promise.allSettled([...this.#underWay]),
      sleep(CLOSE_PATIENCE_MS, undefined, { ref: false }),
    ])
    // The answers are written in the turn after their handlers' end.
    await nextTurn()
    for (const socket of this.#sockets) socket.end(() => socket.destroy())
    await closed
  }

  #answer<R>(work: () => R | Promise<R>): Promise<R> {
    const answer = answerOf(work)
    this.#underWay.add(answer)
    const done = () => void this.#underWay.delete(answer)
    answer.then(done, done)
    return answer
  }

  #accept(socket: Socket): void {
    const connection = connectionOver(socket)
    const session = new Session(connection)
    this.#sockets.add(socket)
    this.onConnections?.(this.#sockets.size)
    socket.on('close', () => {
      this.#sockets.delete(socket)
      session.end()
      connection.dispose()
      this.onConnections?.(this.#sockets.size)
    })
    // A message that is no JSON-RPC ends the connection, not the daemon.
    connection.onError(() => socket.destroy())
    for (const register of this.#handlers) register(connection, session)
    this.onConnect?.(connection, session)
    connection.listen()
  }
}

async function answerOf<R>(work: () => R | Promise<R>): Promise<R> {
  try {
    return await work()
  } catch (error) {
    throw toWire(error)
  }
}
