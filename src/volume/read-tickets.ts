// Which asynchronous reads are in flight, so that blocks they may be reading are not reused.
//
// Always true: tickets are handed out in growing order; `oldest` is the lowest one not given back.

export class ReadTickets {
  readonly #inFlight = new Set<number>()
  #next = 1
  /** Called whenever a read has ended. */
  onEnd: () => void = () => {}

  /** The ticket that the next read will get. */
  get next(): number {
    return this.#next
  }

  /** Undefined: no read is in flight. */
  get oldest(): number | undefined {
    // A Set keeps the order of insertion.
    const [oldest] = this.#inFlight
    return oldest
  }

  begin(): number {
    const ticket = this.#next++
    this.#inFlight.add(ticket)
    return ticket
  }

  end(ticket: number): void {
    this.#inFlight.delete(ticket)
    this.onEnd()
  }
}
