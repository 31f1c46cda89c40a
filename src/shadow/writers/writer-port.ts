// How the coordinator reaches a writer, whatever it is: a hook, a connected process, an object.
//
// Always true: deliver() settles within its deadline, with a reply or with an UmbraError (TIMED_OUT: no
// answer; UNAVAILABLE: the writer has gone; INVALID_DOCUMENT: what it answered is no reply); it is called for one
// event at a time within a session, but events of several sessions may overlap (Identify at any time).

import type { WriterReply, WriterRequest } from './writer-messages.ts'

export interface WriterPort {
  readonly kind: 'hook' | 'connected' | 'local'
  /** For logs and `writer list`: the hook's path, the process's name. */
  readonly origin: string
  /** @param timeoutMs after this the writer counts as not responding; it is told to stop where that is possible */
  deliver(request: WriterRequest, timeoutMs: number): Promise<WriterReply>
  /** Settles when the writer goes away by itself; never for hooks. */
  readonly whenGone: Promise<void>
  close(): void
}

/** Where writers come from: the hook folders, the configured processes, the connections. */
export interface WriterSource {
  /** Those that are there now; asked once a session, before Identify. */
  ports(): Promise<readonly WriterPort[]>
}
