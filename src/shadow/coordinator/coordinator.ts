// The coordinator: sessions of requesters over the writers of a source and the volumes of a provider.
//
// Always true: one shadow set is being made at a time; sessions do not see each other's writers'
// results; every session that was opened ends in close(), whose work is done whatever state it met.

import type { WriterSource } from '../writers/writer-port.ts'
import type { CoordinatorLimits } from './limits.ts'
import type { CoordinatorControl } from './requester-session.ts'
import type { ShadowProvider } from './shadow-provider.ts'
import type { TraceFunction } from './trace.ts'

export interface CoordinatorOptions {
  readonly writers: WriterSource
  readonly provider: ShadowProvider
  readonly limits?: Partial<CoordinatorLimits>
  readonly onTrace?: TraceFunction
}

export interface Coordinator extends CoordinatorControl {
  /** Sessions that are open. */
  readonly sessionCount: number
  /** Ends every session as if its requester had died. */
  shutdown(): Promise<void>
}

/** A coordinator in this process. */
export declare function createCoordinator(options: CoordinatorOptions): Coordinator
