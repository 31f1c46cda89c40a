// The seam between the FUSE device (which moves requests and replies) and the dispatcher (which
// understands them). It exists so that either side can be tested and replaced without the other.
//
// Always true here: everything runs on the event loop of the serving process; a request's bytes are
// valid only while handle() runs, so an answer that comes later copies what it needs; every request
// but FORGET, BATCH_FORGET and INTERRUPT is answered exactly once, now or later; handle() never
// throws for a request that it could answer with an errno.

/** Sends replies; implemented by FuseChannel, handed to the handler when that is made. */
export interface FuseReplies {
  /**
   * Writes one reply or notification: `lengthBytes` at `offsetBytes` of `bytes`, starting with a
   * fuse_out_header whose `len` is `lengthBytes`. Done when it returns; the bytes are free again.
   * @returns 0, or a negated errno: -ENOENT when the request was interrupted or aborted meanwhile
   *   (a lookup in it was then not counted), -EINVAL when the header is malformed
   */
  send(bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number
  /**
   * A buffer for one reply with data; never fails. While too many are out no further requests are
   * received, so memory stays bounded. It may be kept across turns of the loop and must be given back.
   */
  borrow(): ReplyBuffer
  giveBack(buffer: ReplyBuffer): void
}

/**
 * A reply under construction: the out header at `headerOffsetBytes` ends where the page-aligned
 * data begin, so a READ is answered by reading the volume straight to `dataOffsetBytes`.
 */
export interface ReplyBuffer {
  readonly bytes: Uint8Array
  /** Over the same bytes. */
  readonly view: DataView
  /** Where fuse_out_header (16 bytes) goes: 4080. */
  readonly headerOffsetBytes: number
  /** Where data go: 4096, page aligned in memory; room for the mount's maxReadBytes. */
  readonly dataOffsetBytes: number
}

/** Understands requests; implemented by the dispatcher. */
export interface RequestHandler {
  /** One request: fuse_in_header and body, `lengthBytes` at `offsetBytes` of `arena`. */
  handle(arena: Uint8Array, offsetBytes: number, lengthBytes: number): void
  /** Called once, after the last request: the mount is gone. Nothing can be sent from here on. */
  ended(reason: 'unmounted' | 'aborted'): void
}

/** Makes the handler once the channel that it answers through exists. */
export type RequestHandlerFactory = (replies: FuseReplies) => RequestHandler
