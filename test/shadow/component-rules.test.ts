// The selection rules, on the example of Microsoft's own pages: MyWriter with its 17 components.

import test, { type Assertion } from 'brittle'
import { type ErrorCode, UmbraError } from '../../src/base/errors.ts'
import {
  unmetDependencies,
  unmetText,
  withDependencies,
} from '../../src/shadow/documents/component-dependencies.ts'
import {
  checkExplicitAdd,
  componentSet,
  explicitSelection,
  fullPathOf,
  includedComponents,
  restoreSelection,
  restoreSet,
  selectionRole,
  wholeSelection,
} from '../../src/shadow/documents/component-rules.ts'
import type { WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import { builder, INSTANCE_ID } from './sample-documents.ts'

/** Name, logical path, selectable, selectable for restore, explicitly included: the page's table. */
const MY_WRITER: readonly (readonly [string, string, boolean, boolean, boolean])[] = [
  ['Executables', '', false, false, true],
  ['ConfigFiles', 'Executables', false, false, true],
  ['LicenseInfo', '', true, false, true],
  ['Security', '', true, false, true],
  ['UserInfo', 'Security', false, false, false],
  ['Certificates', 'Security', false, false, false],
  ['writerData', '', true, true, true],
  ['Set1', 'writerData', false, true, false],
  ['Jan', 'writerData/Set1', false, false, false],
  ['Dec', 'writerData/Set1', false, false, false],
  ['Set2', 'writerData', false, true, false],
  ['Jan', 'writerData/Set2', false, false, false],
  ['Dec', 'writerData/Set2', false, false, false],
  ['Query', 'writerData/QueryLogs', false, false, false],
  ['Usage', 'writerData', true, true, false],
  ['Jan', 'writerData/Usage', false, false, false],
  ['Dec', 'writerData/Usage', false, false, false],
]

function myWriter(): WriterMetadata {
  const document = builder('MyWriter')
  for (const [name, logicalPath, selectable, selectableForRestore] of MY_WRITER) {
    document
      .addFileGroup({ name, logicalPath, selectable, selectableForRestore })
      .addFiles({ path: `/srv/${logicalPath === '' ? '' : `${logicalPath}/`}${name}`, recursive: false })
  }
  return document.build()
}

function key(path: string): { logicalPath: string; name: string } {
  const slash = path.lastIndexOf('/')
  return { logicalPath: path.slice(0, Math.max(slash, 0)), name: path.slice(slash + 1) }
}

function refused(t: Assertion, code: ErrorCode, work: () => unknown, message: string): void {
  try {
    work()
    t.fail(`${message}: was not refused`)
  } catch (error) {
    t.is(error instanceof UmbraError ? error.code : error, code, message)
  }
}

test('row 58: all of MyWriter is taken by the components that the table calls explicit', (t) => {
  const metadata = myWriter()
  t.is(metadata.components.length, 17)
  const explicit = new Set(wholeSelection(metadata).map(fullPathOf))
  for (const [name, logicalPath, , , isExplicit] of MY_WRITER) {
    const path = fullPathOf({ logicalPath, name })
    t.is(explicit.has(path), isExplicit, `${path} explicit`)
  }
  t.alike(
    includedComponents(metadata, wholeSelection(metadata)),
    metadata.components,
    'with what comes implicitly that is every component',
  )
})

test('row 58: what each choice takes along, and what may not be added', (t) => {
  const metadata = myWriter()
  const paths = (keys: readonly string[]): string[] =>
    explicitSelection(metadata, keys.map(key)).map(fullPathOf)
  t.alike(paths([]), ['Executables', 'Executables/ConfigFiles'], 'the mandatory ones alone')
  t.alike(paths(['writerData/Usage']), ['Executables', 'Executables/ConfigFiles', 'writerData/Usage'])
  t.alike(componentSet(metadata, key('writerData/Usage')).map(fullPathOf), [
    'writerData/Usage',
    'writerData/Usage/Jan',
    'writerData/Usage/Dec',
  ])
  t.is(componentSet(metadata, key('writerData')).length, 11, 'also below a path that is no component')
  t.is(componentSet(metadata, key('LicenseInfo')).length, 1)
  t.is(componentSet(metadata, key('Executables')).length, 1, 'two that cannot be selected form no set')
  t.is(selectionRole(metadata, metadata.components[14] as (typeof metadata.components)[0]), 'optional-below')

  const add = (explicit: readonly string[], path: string) => () =>
    checkExplicitAdd(metadata, explicit.map(key), key(path))
  refused(t, 'INVALID_ARGUMENT', add([], 'Security/UserInfo'), 'comes with its ancestor only')
  refused(t, 'INVALID_ARGUMENT', add([], 'writerData/Set1/Jan'), 'two levels below')
  refused(t, 'INVALID_ARGUMENT', add(['writerData'], 'writerData/Usage'), 'its ancestor is there')
  refused(t, 'INVALID_ARGUMENT', add(['writerData/Usage'], 'writerData'), 'its descendant is there')
  refused(t, 'ALREADY_EXISTS', add(['Security'], 'Security'), 'twice')
  refused(t, 'NOT_FOUND', add([], 'Nothing'), 'not there')
  refused(t, 'NOT_FOUND', add([], 'security'), 'case matters')
  t.execution(add(['Executables', 'Security'], 'Executables/ConfigFiles'))
})

test('row 58: names that only begin alike are not below one another', (t) => {
  const metadata = builder()
  metadata.addFileGroup({ name: 'data' })
  metadata.addFileGroup({ name: 'x', logicalPath: 'database', selectable: false })
  const document = metadata.build()
  t.is(componentSet(document, key('data')).length, 1)
  t.alike(wholeSelection(document).map(fullPathOf), ['data', 'database/x'])
})

test('row 58: what can be restored by itself', (t) => {
  const metadata = myWriter()
  const explicit = wholeSelection(metadata)
  const select = (path: string) => restoreSelection(metadata, explicit, key(path))
  t.is(select('Executables').subcomponent, null, 'explicit ones always')
  t.is(fullPathOf(select('writerData/Set1').component), 'writerData')
  t.is(select('writerData/Set1').subcomponent?.name, 'Set1')
  refused(t, 'INVALID_ARGUMENT', () => select('Security/UserInfo'), 'implicit and not selectable for restore')
  refused(
    t,
    'NOT_FOUND',
    () => restoreSelection(metadata, [key('Executables')], key('Security')),
    'not in the backup',
  )
  t.is(restoreSet(metadata, key('writerData'), []).length, 11)
  t.alike(restoreSet(metadata, key('writerData'), [key('writerData/Set2')]).map(fullPathOf), [
    'writerData/Set2',
    'writerData/Set2/Jan',
    'writerData/Set2/Dec',
  ])
})

test('row 61: what a component depends on is added, or named as missing', (t) => {
  const classB = '22222222-2222-4333-8444-555555555555'
  const front = builder('Front')
  front.addFileGroup({ name: 'site' }).dependsOn({ classId: classB, logicalPath: 'server', name: 'orders' })
  const back = new MetadataBuilder({ classId: classB, instanceId: INSTANCE_ID, name: 'Back' })
  back.addDatabase({ name: 'server' })
  back.addDatabase({ name: 'orders', logicalPath: 'server', selectable: false })
  back.addDatabase({ name: 'catalogue', selectable: false })
  const a = front.build()
  const b = back.build()

  const alone = [
    { metadata: a, explicit: [key('site')] },
    { metadata: b, explicit: [] },
  ]
  const [unmet] = unmetDependencies(alone)
  t.is(unmetDependencies(alone).length, 1)
  t.is(unmet && unmetText(unmet), 'Front: site needs server/orders of Back, which is not selected')
  const both = withDependencies(alone)
  t.alike(
    both.map(({ explicit }) => explicit.map(fullPathOf)),
    [['site'], ['server', 'catalogue']],
    'the target comes with its selectable ancestor, and the mandatory component with it',
  )
  t.is(unmetDependencies(both).length, 0)
  t.is(unmetDependencies([{ metadata: b, explicit: [key('server')] }]).length, 0, 'the target knows nothing')
  refused(
    t,
    'NOT_FOUND',
    () => withDependencies([{ metadata: a, explicit: [key('site')] }]),
    'no such writer',
  )
})
