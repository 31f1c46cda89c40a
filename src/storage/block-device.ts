// The seam between the file system and the volume: a block device of 4096-byte blocks with what a
// copy-on-write volume adds to it. Implemented by the live volume, by snapshots (read-only), by
// image chains and, for tests and import, by a plain storage.
//
// Always true: a block never written, or discarded, reads as zeros. Metadata written is redirected
// and becomes visible to a crash only with the next commit, together with everything else of it.
// Data written to a block that was committed for the same owner may be replaced in place.

export interface BlockDevice {
  readonly readOnly: boolean
  /** Size in blocks of 4096 bytes. */
  readonly blockCount: number
  /** Number of the transaction that changes made now will belong to. */
  readonly transaction: number
  /** Newest transaction that is durable. */
  readonly durableTransaction: number
  /** Epoch that blocks born now get; goes up with each snapshot and bookmark. */
  readonly epoch: number

  /** Byte ranges need no alignment. @throws UmbraError IO_FAILED, CHECKSUM_MISMATCH, CORRUPT */
  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void
  /** False: something has to be waited for, target is undefined, call read(). */
  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean
  /**
   * Reads without blocking the event loop. The blocks that were mapped at the call stay unreused
   * until it settles, whatever is discarded meanwhile.
   */
  read(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): Promise<void>

  /**
   * Writes whole blocks of file data.
   * @returns whether the mapping changed, so that durability takes a commit and not only a flush
   * @throws UmbraError OUT_OF_SPACE with nothing changed, READ_ONLY
   */
  writeData(blockIndex: number, blockCount: number, source: Uint8Array, sourceOffset: number): boolean
  /** Writes one block of file-system metadata; room for it was claimed by requireRoom(). */
  writeMetadata(blockIndex: number, source: Uint8Array, sourceOffset: number): void
  /** Makes a range read as zeros and frees what only the present holds of it. */
  discard(blockIndex: number, blockCount: number): void

  /**
   * Claims room for an operation before it changes anything: `dirtyBlockCount` is the file system's
   * count of metadata blocks that are or may become dirty in this transaction. Operations that give
   * space back (unlink, truncate) pass `freeing`, which may use the reserve kept for them.
   * @throws UmbraError OUT_OF_SPACE
   */
  requireRoom(dirtyBlockCount: number, freeing: boolean): void

  /** A small table kept beside the blocks and committed with them; at most 1 MiB. Empty at first. */
  readSideTable(): Uint8Array
  writeSideTable(bytes: Uint8Array): void

  /** Makes data written in place durable; not what changed the mapping. */
  flush(): Promise<void>
  /** Makes everything up to now durable as one transaction; calls made together share one. */
  commit(): Promise<void>
  /** Registers what has to be written before each commit's cut (the file system's dirty metadata). */
  onBeforeCommit(write: () => void): void
}
