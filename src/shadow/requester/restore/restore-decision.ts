// Where the files of a component go: VSS's restore methods and targets as decision trees (vss.md sections
// 2.2 and 3.7), a pure function of what was found on disk.
//
// Always true: a component goes to one place as a whole or to none; a restore target other than `original`
// beats the method, but has no influence on those that need a reboot; `custom` is never guessed at.

import type { RestoreMethod, RestoreTarget } from '../../documents/vocabulary.ts'

/** What is known of the places, after PreRestore and before anything is written. */
export interface RestoreFacts {
  /** Files (not folders) of the component that exist in their own places. */
  readonly presentCount: number
  readonly fileCount: number
  /** Every file that exists can be overwritten, every missing one created. */
  readonly canReplace: boolean
  /** Every file set has an alternate location. */
  readonly isMapped: boolean
  /** All files can be created or overwritten in their alternate locations. */
  readonly canReplaceAlternate: boolean
  /** The document names a service. */
  readonly hasService: boolean
}

export type RestorePlace = 'original' | 'alternate' | 'directed'

export type RestoreDecision =
  | { readonly place: RestorePlace; readonly service: 'none' | 'around' | 'after' }
  /** `refused`: nothing is wrong but the state of the disk; `writer-error`: the writer's document is. */
  | { readonly place: null; readonly why: 'refused' | 'writer-error'; readonly reason: string }

type Tree = (facts: RestoreFacts) => RestoreDecision

const TREES: Readonly<Record<RestoreMethod, Tree>> = {
  'restore-if-not-there': (facts) =>
    facts.presentCount === 0 && facts.canReplace
      ? to('original')
      : orAlternate(facts, 'a file is there already'),
  'restore-if-can-replace': (facts) =>
    facts.canReplace ? to('original') : orAlternate(facts, 'a file cannot be replaced'),
  'stop-restore-start': (facts) => {
    if (!facts.hasService) return writerError('names no service to be stopped')
    const decision = TREES['restore-if-can-replace'](facts)
    return decision.place === null ? decision : { ...decision, service: 'around' }
  },
  'restore-stop-start': (facts) => {
    if (!facts.hasService) return writerError('names no service to be restarted')
    return facts.canReplace ? to('original', 'after') : refused('a file cannot be replaced')
  },
  'restore-to-alternate-location': (facts) => {
    if (!facts.isMapped) return writerError('gives no alternate location for every file')
    return facts.canReplaceAlternate ? to('alternate') : refused('its alternate location cannot be written')
  },
  'restore-at-reboot': () => refused('restore-at-reboot: files are replaced while the system starts'),
  'restore-at-reboot-if-cannot-replace': ({ presentCount, fileCount, canReplace }) =>
    canReplace && (presentCount === 0 || presentCount === fileCount)
      ? to('original')
      : refused(
          'restore-at-reboot-if-cannot-replace: not all files can be replaced now, and at a reboot is not supported',
        ),
  custom: () => refused('custom: only the writer itself knows how its files are restored'),
}

/** Methods that can be refused before any writer hears of the restore. */
export function refusedMethod(method: RestoreMethod | undefined): string | undefined {
  if (method === undefined || !Object.hasOwn(TREES, method)) return 'its writer says no restore method'
  if (method !== 'custom' && method !== 'restore-at-reboot') return undefined
  const decision = TREES[method](NOTHING)
  return decision.place === null ? decision.reason : undefined
}

export function decideRestore(
  method: RestoreMethod | undefined,
  target: RestoreTarget,
  facts: RestoreFacts,
): RestoreDecision {
  const tree = method !== undefined && Object.hasOwn(TREES, method) ? TREES[method] : undefined
  if (!tree) return writerError('says no restore method')
  if (method === 'custom' || method?.startsWith('restore-at-reboot') || target === 'original')
    return tree(facts)
  const decision = byTarget(target, facts)
  const isAround = method === 'stop-restore-start'
  if (decision.place === null || !(isAround || method === 'restore-stop-start')) return decision
  return facts.hasService ? { ...decision, service: isAround ? 'around' : 'after' } : tree(facts)
}

function byTarget(target: Exclude<RestoreTarget, 'original'>, facts: RestoreFacts): RestoreDecision {
  if (target === 'alternate') return TREES['restore-to-alternate-location'](facts)
  // Facts of a directed restore speak of the files that it writes.
  if (!facts.canReplace) return refused('a file cannot be replaced')
  return to(target === 'directed' ? 'directed' : 'original')
}

function orAlternate(facts: RestoreFacts, why: string): RestoreDecision {
  if (!facts.isMapped) return refused(why)
  return facts.canReplaceAlternate
    ? to('alternate')
    : refused(`${why}, and its alternate location cannot be written`)
}

function to(place: RestorePlace, service: 'none' | 'around' | 'after' = 'none'): RestoreDecision {
  return { place, service }
}

function refused(reason: string): RestoreDecision {
  return { place: null, why: 'refused', reason }
}

function writerError(what: string): RestoreDecision {
  return { place: null, why: 'writer-error', reason: `its writer ${what}` }
}

const NOTHING: RestoreFacts = {
  presentCount: 0,
  fileCount: 0,
  canReplace: true,
  isMapped: true,
  canReplaceAlternate: true,
  hasService: true,
}
