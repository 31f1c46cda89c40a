// Shadow sets as the coordinator makes them, for tests: each step of every volume before the next step of
// any, over the real control sockets.
//
// Always true: whatever is begun here is aborted at the test's end if it has not ended by then.

import { randomUUID } from 'node:crypto'
import type { Assertion } from 'brittle'
import { ControlShadowProvider } from '../../src/daemon/control-shadow-provider.ts'
import type { ShadowSequence } from '../../src/shadow/coordinator/shadow-provider.ts'
import { SNAPSHOT_CONTEXTS, type SnapshotContext } from '../../src/shadow/documents/vocabulary.ts'
import type { Snapshot } from '../../src/volume/points.ts'

/** In their order; `deleteFromSnapshot` is left to the test. */
export const STEPS = [
  'begin',
  'endPrepare',
  'preCommit',
  'flushAndHold',
  'commit',
  'release',
  'postCommit',
  'preFinalCommit',
  'seal',
] as const
export type Step = (typeof STEPS)[number]

export interface SetOptions {
  readonly context?: SnapshotContext
  /** More attribute bits. */
  readonly attributes?: number
  readonly name?: string
  /** Called when a step of all volumes is done. */
  readonly after?: (step: Step, sequences: readonly ShadowSequence[]) => Promise<void> | void
  /** As a planted fault: each volume is held, cut and released by itself. */
  readonly oneByOne?: boolean
}

export interface ShadowSet {
  readonly setId: string
  readonly name: string
  readonly sequences: readonly ShadowSequence[]
  readonly snapshots: readonly Snapshot[]
  /** The longest that a volume's modifications waited. */
  readonly heldMs: number
  end(keepBookmark?: boolean): Promise<void>
}

let counter = 0

export async function beginSet(
  t: Pick<Assertion, 'teardown'>,
  volumes: readonly string[],
  options: SetOptions = {},
): Promise<{ setId: string; name: string; sequences: ShadowSequence[] }> {
  const provider = new ControlShadowProvider()
  const setId = randomUUID()
  const name = options.name ?? `shadow-${++counter}`
  const attributes = SNAPSHOT_CONTEXTS[options.context ?? 'backup'] | (options.attributes ?? 0)
  const request = { snapshotSetId: setId, attributes, setCount: volumes.length, snapshotName: name }
  const sequences: ShadowSequence[] = []
  for (const volume of volumes) {
    const sequence = await provider.begin(volume, request)
    t.teardown(() => sequence.abort().catch(() => undefined), { order: -2 })
    sequences.push(sequence)
  }
  await options.after?.('begin', sequences)
  return { setId, name, sequences }
}

export async function makeSet(
  t: Pick<Assertion, 'teardown'>,
  volumes: readonly string[],
  options: SetOptions = {},
): Promise<ShadowSet> {
  const { setId, name, sequences } = await beginSet(t, volumes, options)
  const setCount = volumes.length
  let heldMs = 0
  const snapshots: Snapshot[] = []
  const work: Record<Exclude<Step, 'begin'>, (sequence: ShadowSequence) => Promise<unknown>> = {
    endPrepare: (sequence) => sequence.endPrepare({ setCount }),
    preCommit: (sequence) => sequence.preCommit(),
    flushAndHold: (sequence) => sequence.flushAndHold(),
    commit: (sequence) => sequence.commit(),
    release: async (sequence) => {
      heldMs = Math.max(heldMs, (await sequence.release()).heldMs)
    },
    postCommit: (sequence) => sequence.postCommit(),
    preFinalCommit: (sequence) => sequence.preFinalCommit(),
    seal: async (sequence) => {
      snapshots.push(await sequence.seal())
    },
  }
  const run = async (steps: readonly Step[]): Promise<void> => {
    for (const step of steps) {
      if (step === 'begin') continue
      // VSS takes the volumes' holds at the same time; the seal's results are to stay in order.
      if (step === 'seal') for (const sequence of sequences) await work.seal(sequence)
      else await Promise.all(sequences.map((sequence) => work[step](sequence)))
      await options.after?.(step, sequences)
    }
  }
  if (options.oneByOne) {
    await run(['endPrepare', 'preCommit'])
    for (const sequence of sequences) {
      for (const step of ['flushAndHold', 'commit', 'release'] as const) await work[step](sequence)
    }
    await run(['postCommit', 'preFinalCommit', 'seal'])
  } else await run(STEPS)
  const end = async (keepBookmark = false): Promise<void> => {
    for (const sequence of sequences) await sequence.end({ keepBookmark })
  }
  return { setId, name, sequences, snapshots, heldMs, end }
}
