// A block storage that fails on request: for tests of what happens when the host does.
//
// Always true: a planted fault shows exactly as a real one would (same codes, same context); a torn
// write leaves its first bytes behind and nothing else; without faults the device is transparent.

import type { BlockStorage, BlockStorageSupport } from './block-storage.ts'
import { storageError } from './storage-error.ts'

export type FaultOperation = 'read' | 'write' | 'flush' | 'punch' | 'reserve' | 'truncate'

export interface FaultCall {
  readonly operation: FaultOperation
  readonly offsetBytes: number
  readonly lengthBytes: number
}

export interface Fault {
  readonly operation: FaultOperation
  /** Which of the matching calls is the first to be hit, from 1. Default 1. */
  readonly nth?: number
  /** How many matching calls in a row are hit. Default 1; Infinity for all that follow. */
  readonly times?: number
  /** Further condition on the call. */
  readonly matches?: (call: FaultCall) => boolean
  /** What the call fails with, positive; left out: it succeeds (after its delay). */
  readonly errno?: number
  /** For a write that fails: how many of its first bytes reach the storage nevertheless. Default 0. */
  readonly tornBytes?: number
  /** How long an asynchronous call waits first; a synchronous one does not wait. */
  readonly delayMs?: number
}

interface Planted {
  readonly fault: Fault
  seen: number
}

export class FaultStorage implements BlockStorage {
  readonly #inner: BlockStorage
  #planted: Planted[] = []
  #hitCount = 0

  constructor(inner: BlockStorage, faults: readonly Fault[] = []) {
    this.#inner = inner
    for (const fault of faults) this.plant(fault)
  }

  /** Adds a fault; its calls are counted from now on. */
  plant(fault: Fault): void {
    this.#planted.push({ fault, seen: 0 })
  }

  /** Takes all faults away. */
  heal(): void {
    this.#planted = []
  }

  /** How many calls were hit so far. */
  get hitCount(): number {
    return this.#hitCount
  }

  get supports(): BlockStorageSupport {
    return this.#inner.supports
  }

  get name(): string {
    return this.#inner.name
  }

  get readOnly(): boolean {
    return this.#inner.readOnly
  }

  get sizeBytes(): number {
    return this.#inner.sizeBytes
  }

  readSync(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): void {
    this.#failNow({ operation: 'read', offsetBytes, lengthBytes })
    this.#inner.readSync(offsetBytes, lengthBytes, target, targetOffset)
  }

  tryRead(offsetBytes: number, lengthBytes: number, target: Uint8Array, targetOffset: number): boolean {
    // A fault waiting for reads is left to read(), which reports it.
    for (const { fault } of this.#planted) if (fault.operation === 'read') return false
    return this.#inner.tryRead(offsetBytes, lengthBytes, target, targetOffset)
  }

  async read(
    offsetBytes: number,
    lengthBytes: number,
    target: Uint8Array,
    targetOffset: number,
  ): Promise<void> {
    await this.#failLater({ operation: 'read', offsetBytes, lengthBytes })
    await this.#inner.read(offsetBytes, lengthBytes, target, targetOffset)
  }

  write(offsetBytes: number, lengthBytes: number, source: Uint8Array, sourceOffset: number): void {
    const call: FaultCall = { operation: 'write', offsetBytes, lengthBytes }
    const fault = this.#hit(call)
    if (fault?.errno === undefined) {
      this.#inner.write(offsetBytes, lengthBytes, source, sourceOffset)
      return
    }
    const tornBytes = Math.min(fault.tornBytes ?? 0, lengthBytes)
    if (tornBytes > 0) this.#inner.write(offsetBytes, tornBytes, source, sourceOffset)
    throw this.#failure(fault.errno, call)
  }

  flushSync(): void {
    this.#failNow({ operation: 'flush', offsetBytes: 0, lengthBytes: 0 })
    this.#inner.flushSync()
  }

  async flush(): Promise<void> {
    await this.#failLater({ operation: 'flush', offsetBytes: 0, lengthBytes: 0 })
    await this.#inner.flush()
  }

  async punch(offsetBytes: number, lengthBytes: number): Promise<void> {
    await this.#failLater({ operation: 'punch', offsetBytes, lengthBytes })
    await this.#inner.punch(offsetBytes, lengthBytes)
  }

  punchSync(offsetBytes: number, lengthBytes: number): void {
    this.#failNow({ operation: 'punch', offsetBytes, lengthBytes })
    this.#inner.punchSync(offsetBytes, lengthBytes)
  }

  reserve(offsetBytes: number, lengthBytes: number): void {
    this.#failNow({ operation: 'reserve', offsetBytes, lengthBytes })
    this.#inner.reserve(offsetBytes, lengthBytes)
  }

  truncate(sizeBytes: number): void {
    this.#failNow({ operation: 'truncate', offsetBytes: sizeBytes, lengthBytes: 0 })
    this.#inner.truncate(sizeBytes)
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  /** The fault that this call meets; every fault that matches counts it. */
  #hit(call: FaultCall): Fault | undefined {
    let met: Fault | undefined
    for (const planted of this.#planted) {
      const { operation, nth = 1, times = 1, matches } = planted.fault
      if (operation !== call.operation || (matches && !matches(call))) continue
      planted.seen++
      if (planted.seen >= nth && planted.seen < nth + times) met ??= planted.fault
    }
    if (met) this.#hitCount++
    return met
  }

  #failNow(call: FaultCall): void {
    const fault = this.#hit(call)
    if (fault?.errno !== undefined) throw this.#failure(fault.errno, call)
  }

  async #failLater(call: FaultCall): Promise<void> {
    const fault = this.#hit(call)
    if (fault?.delayMs) await new Promise((resolve) => setTimeout(resolve, fault.delayMs))
    if (fault?.errno !== undefined) throw this.#failure(fault.errno, call)
  }

  #failure(errno: number, call: FaultCall): Error {
    return storageError(errno, { ...call, verb: call.operation, name: this.name })
  }
}
