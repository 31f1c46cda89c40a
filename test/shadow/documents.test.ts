// The documents: published schemas, invariants, and the one way to write them down.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import {
  BACKUP_COMPONENTS_FORMAT,
  type BackupComponents,
} from '../../src/shadow/documents/backup-components.ts'
import {
  canonicalText,
  DOCUMENT_MAX_BYTES,
  isSameDocument,
  parseDocument,
} from '../../src/shadow/documents/canonical-json.ts'
import { SCHEMA_NAMES, schemaSource } from '../../src/shadow/documents/document-schemas.ts'
import { validateBackupComponents } from '../../src/shadow/documents/validate-backup-components.ts'
import { validateFileEntry, validateManifest } from '../../src/shadow/documents/validate-manifest.ts'
import {
  validateWriterReply,
  validateWriterRequest,
} from '../../src/shadow/documents/validate-writer-message.ts'
import { validateWriterMetadata } from '../../src/shadow/documents/validate-writer-metadata.ts'
import * as vocabulary from '../../src/shadow/documents/vocabulary.ts'
import type { WriterMetadata } from '../../src/shadow/documents/writer-metadata.ts'
import { WRITER_EVENTS } from '../../src/shadow/writers/writer-messages.ts'
import { backupComponent, builder, CLASS_ID, INSTANCE_ID, request } from './sample-documents.ts'

type Json = Record<string, unknown>

function refused(t: Assertion, work: () => unknown, pattern: RegExp, code = 'INVALID_DOCUMENT'): void {
  try {
    work()
    t.fail(`not refused: ${pattern}`)
  } catch (error) {
    t.ok(hasCode(error, code as 'INVALID_DOCUMENT') && pattern.test(error.message), (error as Error).message)
  }
}

function sample(): WriterMetadata {
  const document = builder().setBackupSchema(
    'incremental',
    'differential',
    'log',
    'timestamped',
    'last-modify',
  )
  document.addFileGroup({ name: 'files' }).addFiles({ path: '/srv/files' })
  document
    .addDatabase({ name: 'store', caption: 'A store' })
    .addDatabaseFiles({ path: '/srv/store', filespec: '*.db' })
    .addLogFiles({ path: '/srv/store', filespec: '*.log' })
    .dependsOn({ classId: '99999999-2222-4333-8444-555555555555', name: 'other' })
  return document.build()
}

/** The sample with one thing changed, as a document from outside. */
function changed(change: (document: Json & { components: Json[]; identity: Json }) => void): unknown {
  const document = JSON.parse(JSON.stringify(sample()))
  change(document)
  return document
}

test('the published schemas have the words of the vocabulary, and every document format', (t) => {
  const defs = (schemaSource('common') as { $defs: Record<string, { enum?: string[] }> }).$defs
  const words: Record<string, readonly string[]> = {
    backupType: vocabulary.BACKUP_TYPES,
    maskedType: vocabulary.MASKED_TYPES,
    schemaBit: Object.keys(vocabulary.SCHEMA_BITS),
    usageType: vocabulary.USAGE_TYPES,
    sourceType: vocabulary.SOURCE_TYPES,
    freezeLevel: vocabulary.FREEZE_LEVELS,
    componentFlag: vocabulary.COMPONENT_FLAGS,
    restoreMethod: vocabulary.RESTORE_METHODS,
    writerRestore: vocabulary.WRITER_RESTORES,
    restoreTarget: vocabulary.RESTORE_TARGETS,
    fileRestoreStatus: vocabulary.FILE_RESTORE_STATUSES,
    restoreType: vocabulary.RESTORE_TYPES,
    writerResult: vocabulary.WRITER_RESULTS,
    writerEvent: WRITER_EVENTS,
  }
  for (const [name, list] of Object.entries(words)) t.alike(defs[name]?.enum, list, name)
  const named = Object.entries(defs).filter(([, { enum: list }]) => list !== undefined)
  t.is(named.length, Object.keys(words).length + 1, 'and no list besides, but the two component types')
  const files = readdirSync(new URL('../../schemas/', import.meta.url))
  t.alike(files.sort(), ['common', ...SCHEMA_NAMES].map((name) => `${name}.schema.json`).sort())
})

test('row 57: a document is written in one way whatever the order of its keys, and read back the same', (t) => {
  const metadata = sample()
  const text = canonicalText(metadata)
  const reversed = JSON.parse(text, (_, value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).reverse())
      : value,
  )
  t.not(JSON.stringify(reversed), JSON.stringify(metadata), 'the order did change')
  t.is(canonicalText(reversed), text)
  t.alike(validateWriterMetadata(parseDocument(text, 'it')), metadata)
  t.is(canonicalText(validateWriterMetadata(parseDocument(Buffer.from(text), 'it'))), text)
  t.ok(text.endsWith('}\n'))
  t.ok(isSameDocument({ a: 1, b: undefined }, { a: 1 }))
  t.absent(isSameDocument([1, 2], [2, 1]))
  refused(t, () => canonicalText({ a: Number.NaN }), /no word/)
})

test('row 57: text that is no document, too large or too deep', (t) => {
  refused(t, () => parseDocument('{', 'x'), /x is not JSON/)
  refused(t, () => parseDocument(Buffer.from([0x22, 0xff, 0x22]), 'x'), /not JSON/)
  refused(t, () => parseDocument(`${'['.repeat(100)}${']'.repeat(100)}`, 'x'), /deep/)
  refused(t, () => parseDocument('['.repeat(1_000_000), 'x'), /not JSON/)
  refused(t, () => parseDocument(new Uint8Array(DOCUMENT_MAX_BYTES + 1), 'x'), /larger/)
})

test('row 66: the invariants of a backup schema', (t) => {
  const withBits =
    (...bits: string[]) =>
    () =>
      validateWriterMetadata(changed((d) => Object.assign(d, { backupSchema: bits })))
  t.execution(withBits())
  t.execution(withBits('incremental', 'differential', 'exclusive-incremental-differential'))
  refused(t, withBits('incremental', 'exclusive-incremental-differential'), /both/)
  refused(t, withBits('differential', 'exclusive-incremental-differential'), /both/)
  refused(t, withBits('timestamped'), /timestamped needs incremental or differential/)
  refused(t, withBits('last-modify', 'log'), /last-modify needs/)
  t.execution(withBits('timestamped', 'differential'))
  refused(t, withBits('restore-with-move'), /instance name/)
  refused(t, withBits('incremental', 'incremental'), /duplicate/)
  refused(t, withBits('other'), /backupSchema\/0 must be one of/)
  refused(
    t,
    () => validateWriterMetadata(changed((d) => d.components.splice(1))),
    /log needs at least one database log file set/,
  )
})

test('the invariants of components and file sets', (t) => {
  const bad = (change: Parameters<typeof changed>[0], pattern: RegExp) =>
    refused(t, () => validateWriterMetadata(changed(change)), pattern)
  const set = (d: { components: Json[] }, index: number, list: string): Json =>
    ((d.components[index] as Json)[list] as Json[])[0] as Json
  bad((d) => d.components.splice(0), /components must NOT have fewer than 1/)
  bad((d) => void delete d['restoreMethod'], /restoreMethod/)
  bad(
    (d) =>
      Object.assign(d, {
        restoreMethod: { method: 'undefined', writerRestore: 'always', rebootRequired: false },
      }),
    /restoreMethod\/method must be one of/,
  )
  bad(
    (d) =>
      Object.assign(d, {
        restoreMethod: { method: 'stop-restore-start', writerRestore: 'always', rebootRequired: false },
      }),
    /serviceName/,
  )
  bad(
    (d) =>
      Object.assign(d, {
        restoreMethod: {
          method: 'restore-to-alternate-location',
          writerRestore: 'always',
          rebootRequired: false,
        },
      }),
    /mapping for every file set/,
  )
  bad((d) => d.components.push(d.components[0] as Json), /two of the name files/)
  bad((d) => Object.assign(d.components[0] as Json, { name: 'a/b' }), /components\/0\/name must match/)
  bad((d) => Object.assign(d.components[0] as Json, { logicalPath: '/a' }), /logicalPath must match/)
  bad((d) => Object.assign(set(d, 1, 'databaseFiles'), { recursive: true }), /not recursive/)
  bad((d) => Object.assign(set(d, 1, 'databaseFiles'), { alternatePath: '/x' }), /no alternate path/)
  bad((d) => Object.assign(set(d, 1, 'databaseFiles'), { filespec: '*' }), /claim the same files/)
  bad(
    (d) => Object.assign(set(d, 1, 'databaseLogFiles'), { path: '/srv/files/deep' }),
    /claim the same files/,
  )
  bad((d) => Object.assign(set(d, 0, 'files'), { path: '/' }), /claim the same files/)
  bad((d) => Object.assign(set(d, 0, 'files'), { path: '/srv/../x' }), /empty element/)
  bad((d) => Object.assign(set(d, 0, 'files'), { path: '/srv/*' }), /wildcard/)
  bad((d) => Object.assign(set(d, 0, 'files'), { path: 'srv' }), /path must match/)
  bad((d) => Object.assign(set(d, 0, 'files'), { extra: 1 }), /unknown property "extra"/)
  bad(
    (d) => Object.assign(d.components[1] as Json, { files: [set(d, 0, 'files')] }),
    /a database has databaseFiles/,
  )
  bad(
    (d) =>
      Object.assign(d.components[0] as Json, {
        dependencies: [{ classId: CLASS_ID.toUpperCase(), logicalPath: '', name: 'store' }],
      }),
    /its own writer/,
  )
  bad((d) => Object.assign(d, { freezeTimeoutMs: 60_001 }), /freezeTimeoutMs must be <= 60000/)
  bad((d) => Object.assign(d.identity, { classId: 'x' }), /classId must match/)
  bad(
    (d) =>
      Object.assign(d, {
        alternateLocationMappings: [
          { path: '/srv/files', filespec: '*', recursive: false, alternateLocation: '/alt' },
        ],
      }),
    /for no file set/,
  )
  t.execution(() =>
    validateWriterMetadata(changed((d) => Object.assign(set(d, 0, 'files'), { path: '/srv/store-2' }))),
  )
  const far = changed((d) => {
    // Between the two in the order of strings lies a path that is in neither's tree.
    Object.assign(set(d, 0, 'files'), { path: '/srv' })
    d.components.push({
      ...(d.components[0] as Json),
      name: 'x',
      files: [{ ...set(d, 0, 'files'), path: '/srv-2' }],
    })
  })
  refused(t, () => validateWriterMetadata(far), /claim the same files/)
})

test('an alternate location for every set lets that restore method pass', (t) => {
  const document = builder().setRestoreMethod('restore-to-alternate-location')
  document.addFileGroup({ name: 'a' }).addFiles({ path: '/a' })
  document.addAlternateLocation({ path: '/a', filespec: '*', recursive: true }, '/b')
  t.execution(() => document.build())
  t.ok(Object.isFrozen(document.build().components[0]?.files[0]), 'what is built cannot be changed')
})

function components(): BackupComponents {
  return {
    format: BACKUP_COMPONENTS_FORMAT,
    backupId: INSTANCE_ID,
    backupState: {
      componentMode: true,
      bootableSystemState: false,
      backupType: 'full',
      partialFileSupport: false,
    },
    restoreType: 'by-copy',
    snapshotSetId: null,
    snapshots: [],
    writers: [
      {
        classId: CLASS_ID,
        instanceId: INSTANCE_ID,
        instanceName: '',
        name: 'Sample',
        components: [backupComponent('data')],
      },
    ],
  }
}

test('row 57: a backup components document survives its way through text, and is checked on the way in', (t) => {
  const document = components()
  const component = document.writers[0]?.components[0]
  if (!component) return t.fail()
  component.backupStamp = '\u0000\u0007"\\ \u20ac \u{1f600} \ud800'
  component.partialFiles = [{ path: '/data', fileName: 'x', ranges: '0:5000000000' }]
  component.rangesFilePaths = { 0: '/restored/ranges' }
  const text = canonicalText(document)
  const back = validateBackupComponents(parseDocument(text, 'it'))
  t.is(canonicalText(back), text)
  t.is(back.writers[0]?.components[0]?.backupStamp, component.backupStamp, 'row 70: the stamp as it was')

  const bad = (change: (d: BackupComponents) => void, pattern: RegExp): void => {
    const copy = structuredClone(document)
    change(copy)
    refused(t, () => validateBackupComponents(copy), pattern)
  }
  const first = (d: BackupComponents) => d.writers[0]?.components[0] as NonNullable<typeof component>
  bad((d) => d.writers.push(d.writers[0] as (typeof d.writers)[0]), /twice/)
  bad((d) => d.writers[0]?.components.push(backupComponent('data')), /the component data is there twice/)
  bad((d) => Object.assign(first(d), { rangesFilePaths: { 1: '/x' } }), /no partial file 1/)
  bad((d) => Object.assign(first(d), { rangesFilePaths: { a: '/x' } }), /unknown property "a"/)
  bad(
    (d) => Object.assign(first(d), { partialFiles: [{ path: '/data', fileName: 'x', ranges: '1' }] }),
    /OFFSET:LENGTH/,
  )
  bad(
    (d) => Object.assign(first(d), { partialFiles: [{ path: '/data', fileName: '*', ranges: '0:1' }] }),
    /wildcard/,
  )
  bad(
    (d) =>
      Object.assign(first(d), {
        directedTargets: [
          {
            sourcePath: '/a',
            sourceName: 'x',
            sourceRanges: [{ offsetBytes: 0, lengthBytes: 2 }],
            destinationPath: '/b',
            destinationName: 'y',
            destinationRanges: [{ offsetBytes: 0, lengthBytes: 3 }],
          },
        ],
      }),
    /differ in number or length/,
  )
})

test('a reply says only what its event allows', (t) => {
  const change = (more: object) => ({
    result: 'ok',
    components: [{ logicalPath: '', name: 'data', ...more }],
  })
  t.execution(() => validateWriterReply('post-snapshot', change({ backupStamp: 'x' })))
  refused(
    t,
    () => validateWriterReply('backup-complete', change({ backupStamp: 'x' })),
    /cannot be set/,
    'BAD_STATE',
  )
  refused(
    t,
    () => validateWriterReply('prepare-for-backup', change({ restoreTarget: 'directed' })),
    /cannot be set/,
    'BAD_STATE',
  )
  t.execution(() => validateWriterReply('pre-restore', change({ restoreTarget: 'directed' })))
  refused(
    t,
    () => validateWriterReply('freeze', { result: 'ok', metadata: sample() }),
    /metadata/,
    'BAD_STATE',
  )
  refused(t, () => validateWriterReply('identify', { result: 'ok' }), /no metadata/)
  t.execution(() => validateWriterReply('identify', { result: 'ok', metadata: sample() }))
  refused(t, () => validateWriterReply('freeze', { result: 'not-responding' }), /coordinator/)
  refused(t, () => validateWriterReply('freeze', { result: 'great' }), /result must be one of/)
  for (const reply of [null, [], 'ok', 7, {}]) refused(t, () => validateWriterReply('freeze', reply), /reply/)
  t.alike(validateWriterRequest(request()), request())
  refused(t, () => validateWriterRequest({ ...request(), event: 'melt' }), /event must be one of/)
})

test('row 57: a manifest whose paths lead out of its folder is refused', (t) => {
  const manifest = {
    format: 'umbra-backup-manifest-1',
    id: 'b1',
    uuid: INSTANCE_ID,
    type: 'full',
    startedAtMs: 1,
    instantMs: 2,
    finishedAtMs: 3,
    baseBackupId: null,
    chain: ['b1'],
    snapshotSetId: null,
    volumes: [],
    images: [],
    writers: [],
    documents: [{ file: 'backup-components.json', sizeBytes: 1, sha256: 'a'.repeat(64) }],
    fileIndex: null,
    restoreCommands: [],
    isPartial: false,
    notes: [],
    laterVersion: true,
  }
  t.execution(() => validateManifest(manifest))
  const withFile = (file: string) => ({ ...manifest, documents: [{ ...manifest.documents[0], file }] })
  refused(t, () => validateManifest(withFile('../x')), /leads out/)
  refused(t, () => validateManifest(withFile('/etc/x')), /file must match/)
  refused(t, () => validateManifest({ ...manifest, chain: ['b0'] }), /does not end with b1/)
  const entry = {
    writer: INSTANCE_ID,
    logicalPath: '',
    name: 'data',
    path: '/x',
    kind: 'file',
    how: 'mask',
    mode: 0o100644,
    uid: 0,
    gid: 0,
    mtimeNs: '1',
    sizeBytes: 0,
  }
  t.execution(() => validateFileEntry(entry, 'line 1'))
  refused(t, () => validateFileEntry({ ...entry, kind: 'door' }, 'line 1'), /line 1: kind must be one of/)
  refused(
    t,
    () =>
      validateFileEntry(
        { ...entry, stored: { file: 'files/../../x', sizeBytes: 1, sha256: 'a'.repeat(64) } },
        'line 1',
      ),
    /leads out/,
  )
})

test('package.json publishes the schemas', (t) => {
  const { files } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as {
    files: string[]
  }
  t.ok(files.includes('schemas'))
})

test('the published schemas are right by the schema of schemas, which no process asks at its start', (t) => {
  const ajv = new Ajv2020({ strict: true, strictRequired: false })
  for (const name of ['common', ...SCHEMA_NAMES] as const) {
    const source = schemaSource(name) as Json
    t.is(ajv.validateSchema(source), true, `${name}: ${ajv.errorsText()}`)
    t.is(ajv.validateSchema({ ...source, type: 'no type' }), false, `${name}: a fault is seen`)
  }
})
