// Restore methods and targets, one test a row of VSS's decision trees (vss.md section 2.2).

import test from 'brittle'
import type { RestoreMethod, RestoreTarget } from '../../src/shadow/documents/vocabulary.ts'
import {
  decideRestore,
  type RestoreFacts,
  refusedMethod,
} from '../../src/shadow/requester/restore/restore-decision.ts'

const ABSENT: RestoreFacts = {
  presentCount: 0,
  fileCount: 3,
  canReplace: true,
  isMapped: false,
  canReplaceAlternate: false,
  hasService: false,
}
const PRESENT = { presentCount: 3 }
const SOME = { presentCount: 1 }
const LOCKED = { presentCount: 3, canReplace: false }
const MAPPED = { isMapped: true, canReplaceAlternate: true }
const BAD_MAP = { isMapped: true, canReplaceAlternate: false }
const SERVICE = { hasService: true }

/** What is found and what follows: a place with what becomes of the service, or why not. */
type Row = readonly [Partial<RestoreFacts>, string]

const ROWS: Readonly<Record<RestoreMethod, readonly Row[]>> = {
  'restore-if-not-there': [
    [{}, 'original none'],
    [SOME, 'refused'],
    [PRESENT, 'refused'],
    [{ ...SOME, ...MAPPED }, 'alternate none'],
    [{ ...PRESENT, ...BAD_MAP }, 'refused'],
    [{ canReplace: false }, 'refused'],
    [{ canReplace: false, ...MAPPED }, 'alternate none'],
  ],
  'restore-if-can-replace': [
    [{}, 'original none'],
    [PRESENT, 'original none'],
    [{ ...PRESENT, ...MAPPED }, 'original none'],
    [LOCKED, 'refused'],
    [{ ...LOCKED, ...MAPPED }, 'alternate none'],
    [{ ...LOCKED, ...BAD_MAP }, 'refused'],
  ],
  'stop-restore-start': [
    [PRESENT, 'writer-error'],
    [{ ...PRESENT, ...SERVICE }, 'original around'],
    [{ ...LOCKED, ...SERVICE }, 'refused'],
    [{ ...LOCKED, ...SERVICE, ...MAPPED }, 'alternate around'],
  ],
  'restore-stop-start': [
    [PRESENT, 'writer-error'],
    [{ ...PRESENT, ...SERVICE }, 'original after'],
    [{ ...LOCKED, ...SERVICE, ...MAPPED }, 'refused'],
  ],
  'restore-to-alternate-location': [
    [{}, 'writer-error'],
    [MAPPED, 'alternate none'],
    [{ ...LOCKED, ...MAPPED }, 'alternate none'],
    [BAD_MAP, 'refused'],
  ],
  'restore-at-reboot': [
    [{}, 'refused'],
    [{ ...PRESENT, ...MAPPED }, 'refused'],
  ],
  'restore-at-reboot-if-cannot-replace': [
    [{}, 'original none'],
    [PRESENT, 'original none'],
    [SOME, 'refused'],
    [{ ...LOCKED, ...MAPPED }, 'refused'],
  ],
  custom: [
    [{}, 'refused'],
    [MAPPED, 'refused'],
  ],
}

function outcome(
  method: RestoreMethod | undefined,
  target: RestoreTarget,
  facts: Partial<RestoreFacts>,
): string {
  const decision = decideRestore(method, target, { ...ABSENT, ...facts })
  return decision.place === null ? decision.why : `${decision.place} ${decision.service}`
}

for (const [method, rows] of Object.entries(ROWS) as [RestoreMethod, readonly Row[]][]) {
  test(`row 79: method ${method}`, (t) => {
    for (const [facts, expected] of rows)
      t.is(outcome(method, 'original', facts), expected, JSON.stringify(facts))
  })
}

test('row 79: no method is an error of the writer', (t) => {
  t.is(outcome(undefined, 'original', {}), 'writer-error')
  t.is(outcome('undefined' as RestoreMethod, 'original', {}), 'writer-error')
  t.ok(refusedMethod(undefined))
})

test('row 79: a target beats the method, but for reboots and custom ones', (t) => {
  const rows: readonly (readonly [RestoreMethod, RestoreTarget, Partial<RestoreFacts>, string])[] = [
    ['restore-if-not-there', 'original-location', PRESENT, 'original none'],
    ['restore-to-alternate-location', 'original-location', { ...PRESENT, ...MAPPED }, 'original none'],
    ['restore-if-can-replace', 'original-location', { ...LOCKED, ...MAPPED }, 'refused'],
    ['restore-if-can-replace', 'alternate', MAPPED, 'alternate none'],
    ['restore-if-can-replace', 'alternate', {}, 'writer-error'],
    ['restore-if-can-replace', 'alternate', BAD_MAP, 'refused'],
    ['restore-if-not-there', 'directed', PRESENT, 'directed none'],
    ['restore-if-not-there', 'directed', LOCKED, 'refused'],
    ['stop-restore-start', 'directed', { ...PRESENT, ...SERVICE }, 'directed around'],
    ['restore-stop-start', 'original-location', { ...PRESENT, ...SERVICE }, 'original after'],
    ['restore-at-reboot', 'original-location', PRESENT, 'refused'],
    ['restore-at-reboot-if-cannot-replace', 'alternate', { ...LOCKED, ...MAPPED }, 'refused'],
    ['custom', 'original-location', PRESENT, 'refused'],
  ]
  for (const [method, target, facts, expected] of rows)
    t.is(outcome(method, target, facts), expected, `${method}, ${target}, ${JSON.stringify(facts)}`)
})

test('row 79: what needs a reboot and what only the writer knows is refused before anybody is told', (t) => {
  t.ok(refusedMethod('restore-at-reboot')?.includes('restore-at-reboot'))
  t.ok(refusedMethod('custom')?.includes('custom'))
  for (const method of Object.keys(ROWS) as RestoreMethod[])
    if (method !== 'custom' && method !== 'restore-at-reboot') t.is(refusedMethod(method), undefined, method)
})
