// The seam between the volume and the bytes that hold it: a growable array of bytes with a flush.
//
// Always true of every implementation: reads past the end give zeros; a write past the end extends;
// a range that was never written, or was punched, reads as zeros; what flush() covered survives a
// crash, what it did not may be there in part, in any order, torn at 512-byte sectors. Calls with
// "Sync" or no suffix that return plain values complete before they return. The contract suite in
// test/contract/block-storage.ts runs against each.

export interface BlockStorageSupport {
  /** punch() gives space back to the host. */
  readonly punch: boolean
  /** reserve() takes space from the host ahead of time. */
  readonly reserve: boolean
}

export interface BlockStorage {
  readonly supports: BlockStorageSupport
  /** A name for messages: the path of a file. */
  readonly name: string
  readonly readOnly: boolean
  /** Current size, in bytes. */
  readonly sizeBytes: number

  /**
   * Fills target[targetOffset, +lengthBytes) from `offsetBytes`.
   * @throws UmbraError IO_FAILED
   */
  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void
  /** Like readSync, but only where nothing has to be waited for; false: target is undefined, call read(). */
  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean
  /** Like readSync without blocking the event loop; target must stay untouched until it settles. */
  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): Promise<void>

  /**
   * Writes source[sourceOffset, +lengthBytes) at `offsetBytes`; the bytes are taken before it returns.
   * @throws UmbraError OUT_OF_SPACE (nothing, or a prefix, was written), IO_FAILED
   */
  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): void

  /** Makes every write that returned before the call durable. A failed flush must not be retried. */
  flushSync(): void
  flush(): Promise<void>

  /** Turns a range into zeros and gives its space back where supports.punch. */
  punch(offsetBytes: number, lengthBytes: number): Promise<void>
  /** Like punch, done when it returns: for a device whose callers cannot wait. */
  punchSync(offsetBytes: number, lengthBytes: number): void
  /** Makes the host set space aside for a range, so that writing it cannot fail for lack of space. */
  reserve(offsetBytes: number, lengthBytes: number): void
  /** Grows (zeros) or shrinks. */
  truncate(sizeBytes: number): void
  close(): Promise<void>
}
