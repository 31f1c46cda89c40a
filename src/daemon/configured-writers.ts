// The configured writers as the coordinator's children: started when writers are first asked for, kept
// until the coordinator ends or their configuration changes.
//
// Always true: a process that ended is started anew at the next question; one whose configuration changed or
// went away is told to end by its connection's close, and aborts what it has frozen itself. A configuration that cannot be used
// is a writer that cannot identify itself, never one that is missing in silence.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { connectedPort } from '../shadow/writers/connected-port.ts'
import { configuredNames, readConfiguredWriter } from '../shadow/writers/writer-configuration.ts'
import type { WriterPort, WriterSource } from '../shadow/writers/writer-port.ts'
import { lineOver } from './writer-line.ts'

interface Running {
  readonly text: string
  readonly port: WriterPort
  hasGone: boolean
}

export class ConfiguredWriters implements WriterSource {
  readonly #onLine: (writer: string, line: string) => void
  readonly #running = new Map<string, Running>()

  /** @param onLine what a writer's process says on standard error */
  constructor(onLine: (writer: string, line: string) => void = () => {}) {
    this.#onLine = onLine
  }

  ports(): Promise<readonly WriterPort[]> {
    const names = configuredNames()
    for (const [name, { port }] of this.#running) {
      if (names.includes(name)) continue
      port.close()
      this.#running.delete(name)
    }
    return Promise.resolve(names.map((name) => this.#portOf(name)))
  }

  /** Ends every process; each aborts first what it has frozen. */
  close(): void {
    for (const { port } of this.#running.values()) port.close()
    this.#running.clear()
  }

  #portOf(name: string): WriterPort {
    let text: string
    try {
      text = readConfiguredWriter(name).text
    } catch (error) {
      return unusablePort(name, error)
    }
    const running = this.#running.get(name)
    if (running && running.text === text && !running.hasGone) return running.port
    running?.port.close()
    const port = this.#start(name)
    const started: Running = { text, port, hasGone: false }
    void port.whenGone.then(() => {
      started.hasGone = true
    })
    this.#running.set(name, started)
    return port
  }

  #start(name: string): WriterPort {
    const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
    const child = spawn(
      process.execPath,
      [
        ...process.execArgv,
        fileURLToPath(new URL(`./writer-main.${extension}`, import.meta.url)),
        name,
        '--child',
      ],
      // Descriptor 3 is a socket pair; of its own session, so that a signal to the coordinator's group leaves it its abort.
      { detached: true, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] },
    )
    this.#hear(name, child)
    const socket = child.stdio[3] as Socket
    const line = lineOver(socket)
    line.connection.onError(() => line.close())
    line.connection.listen()
    child.once('error', () => line.close())
    child.once('exit', () => line.close())
    child.unref()
    return connectedPort(line.connection, {
      origin: name,
      whenGone: line.whenClosed,
      close: () => line.close(),
    })
  }

  #hear(name: string, child: ChildProcess): void {
    let pending = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (pending + text).split('\n')
      pending = (lines.pop() ?? '').slice(0, 2000)
      for (const line of lines) this.#onLine(name, line.slice(0, 2000))
    })
  }
}

/** Every event fails with the reason. */
function unusablePort(name: string, error: unknown): WriterPort {
  return {
    kind: 'connected',
    origin: name,
    whenGone: new Promise(() => {}),
    deliver: () => Promise.reject(error),
    close() {},
  }
}
