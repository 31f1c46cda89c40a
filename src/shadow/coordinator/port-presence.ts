// Whether a writer's port is still there, for any number of sessions over one long-lived connection.
//
// Always true: one subscription to a port's end whatever the number of sessions; whoever listens takes
// its listener back, so a writer that stays connected for months collects nothing.

import type { WriterPort } from '../writers/writer-port.ts'

export class PortPresence {
  #isGone = false
  readonly #listeners = new Set<() => void>()

  get isGone(): boolean {
    return this.#isGone
  }

  /** @returns what takes the listener back */
  onGone(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  leave(): void {
    this.#isGone = true
    for (const listener of [...this.#listeners]) listener()
    this.#listeners.clear()
  }
}

const presences = new WeakMap<WriterPort, PortPresence>()

export function presenceOf(port: WriterPort): PortPresence {
  const known = presences.get(port)
  if (known !== undefined) return known
  const presence = new PortPresence()
  presences.set(port, presence)
  const leave = (): void => presence.leave()
  void port.whenGone.then(leave, leave)
  return presence
}
