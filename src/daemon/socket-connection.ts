// A JSON-RPC connection over a Unix socket, the same at both ends.
//
// Always true: a message is bounded before it is held (bounded-reader.ts), and what is none closes the socket;
// writing to a peer that has gone fails nothing here; that it has gone is told once, by
// the socket's close, to whoever waits.

import type { Socket } from 'node:net'
import {
  createMessageConnection,
  type Message,
  type MessageConnection,
  SocketMessageWriter,
} from 'vscode-jsonrpc/node.js'
import { BoundedReader } from './bounded-reader.ts'

class QuietWriter extends SocketMessageWriter {
  override async write(message: Message): Promise<void> {
    try {
      await super.write(message)
    } catch {
      // The socket's close event follows.
    }
  }
}

/** Takes the socket's data over; errors of the socket are left to its close event. */
export function connectionOver(socket: Socket): MessageConnection {
  socket.on('error', () => socket.destroy())
  const connection = createMessageConnection(new BoundedReader(socket), new QuietWriter(socket))
  connection.onError(() => socket.destroy())
  return connection
}
