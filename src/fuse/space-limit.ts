// What statfs needs of the host's free space: implemented by the process that serves the volume.
//
// Always true: asking costs nothing; where the answer is not known or too old, a promise comes instead,
// which settles soon, always, and after which the question has an answer.

export interface SpaceLimit {
  /** Bytes that the host can still take; undefined: it cannot tell. */
  availableBytes(): number | undefined | Promise<unknown>
}
