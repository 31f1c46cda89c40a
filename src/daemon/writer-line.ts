// The connection of a writer's process to its coordinator: the coordinator's socket, or the socket that
// the coordinator left open for a child.
//
// Always true: a socket that somebody else could have made is not spoken to.

import { connect, Socket } from 'node:net'
import type { WriterLine } from '../shadow/writers/serve-writer.ts'
import { WriterService } from '../shadow/writers/serve-writer.ts'
import type { Writer } from '../shadow/writers/writer.ts'
import { checkSocketFolder, socketPath } from './runtime-folder.ts'
import { connectionOver } from './socket-connection.ts'

/** Where a coordinator listens. */
export function coordinatorSocket(): string {
  return socketPath('coordinator')
}

export function lineOver(socket: Socket): WriterLine {
  const whenClosed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const connection = connectionOver(socket)
  void whenClosed.then(() => connection.dispose())
  return { connection, whenClosed, close: () => void socket.destroy() }
}

/** The socket that a parent left open at this descriptor. */
export function lineOverDescriptor(fd: number): WriterLine {
  return lineOver(new Socket({ fd, readable: true, writable: true }))
}

/** Undefined: nobody listens there. @throws UmbraError NOT_PERMITTED */
export function openLine(path: string): Promise<WriterLine | undefined> {
  checkSocketFolder(path)
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('error', () => resolve(undefined))
    socket.once('connect', () => {
      socket.removeAllListeners('error')
      resolve(lineOver(socket))
    })
  })
}

export interface ConnectOptions {
  /** The coordinator's socket unless told. */
  readonly socket?: string
  readonly retryMs?: number
  readonly onTrouble?: (message: string) => void
}

/** Serves a writer to the coordinator of this user for as long as the process lives, or until close(). */
export function connectWriter(writer: Writer, name: string, options: ConnectOptions = {}): WriterService {
  const { socket = coordinatorSocket(), ...more } = options
  return new WriterService(writer, { ...more, name, connect: () => openLine(socket) })
}
