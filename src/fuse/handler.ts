// What every handler of a request is given, and what it has to do: answer through the port exactly
// once, or throw before it has answered, or hand a promise to later().
//
// Always true: `attributes` is scratch that the next request overwrites; a handler that cannot answer
// at once keeps only what it copied.

import type { Attributes } from './attributes.ts'
import type { DirectoryFiller } from './directory-filler.ts'
import type { Negotiated } from './init-negotiation.ts'
import type { LostWrites } from './lost-writes.ts'
import type { InodeOperations } from './operations.ts'
import { putEntry } from './reply-encoding.ts'
import type { ReplyPort } from './reply-port.ts'
import type { Request, Ticket } from './request.ts'
import { ENTRY_OUT_BYTES } from './wire-structs.ts'

export interface HandlerContext {
  readonly operations: InodeOperations
  readonly port: ReplyPort
  readonly attributes: Attributes
  readonly filler: DirectoryFiller
  readonly lostWrites: LostWrites
  readonly writeBack: boolean
  readonly posixAcl: boolean
  /** Makes the kernel write back what it caches of a file; see FuseDispatcherOptions. */
  readonly flushInode: ((nodeId: number) => Promise<void>) | undefined
  /** Set by INIT. */
  negotiated: Negotiated
  /**
   * Answers with `answer` when the promise fulfils, with its errno when it rejects; then `finish` runs
   * in either case.
   */
  later<T>(
    request: Request,
    promise: Promise<T>,
    answer: (to: Ticket, value: T) => void,
    finish?: () => void,
  ): void
  onDestroy(): void
}

export type Handler = (context: HandlerContext, request: Request) => void

/** Answers with an entry; if the kernel did not take it, the lookup did not happen. */
export function answerEntry(context: HandlerContext, to: Ticket, attributes: Attributes): void {
  const { port } = context
  putEntry(port.view, port.dataAt, attributes)
  const isTaken = port.data(to, ENTRY_OUT_BYTES)
  if (!isTaken && attributes.nodeId !== 0) context.operations.forget(attributes.nodeId, 1)
}
