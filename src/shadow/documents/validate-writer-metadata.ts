// The invariants of a writer metadata document: vss.md section 6.1, checked where one comes in.
//
// Always true of a document that has passed: it has the shape of its schema, and the rules below hold,
// so nobody after this needs to check a path, a mask or a name again.

import { UmbraError } from '../../base/errors.ts'
import { fullPathOf } from './component-rules.ts'
import { checkShape } from './document-schemas.ts'
import { allFileSets } from './file-set-mask.ts'
import { doOverlap, filespecFault, isAtOrBelow, isSameSpec, pathFault, specText } from './file-spec.ts'
import type { SchemaBit } from './vocabulary.ts'
import type { ComponentMetadata, FileSpec, WriterMetadata } from './writer-metadata.ts'

/** @throws UmbraError INVALID_DOCUMENT that says where and what */
export function validateWriterMetadata(value: unknown): WriterMetadata {
  checkShape('writer-metadata', value, 'The writer metadata document')
  const metadata = value as WriterMetadata
  const fail = (message: string): never => {
    throw new UmbraError('INVALID_DOCUMENT', `The metadata of ${metadata.identity.name}: ${message}`)
  }
  checkBackupSchema(metadata, fail)
  checkRestoreMethod(metadata, fail)
  checkNames(metadata, fail)
  for (const component of metadata.components) checkComponent(metadata, component, fail)
  checkOverlaps(metadata, fail)
  checkWriterFiles(metadata, fail)
  return metadata
}

/** Each pair in one directory is compared. */
const FILE_SETS_MAX = 10_000

type Fail = (message: string) => never

function checkBackupSchema(metadata: WriterMetadata, fail: Fail): void {
  const has = (bit: SchemaBit): boolean => metadata.backupSchema.includes(bit)
  if (has('exclusive-incremental-differential') && !(has('incremental') && has('differential'))) {
    fail('backupSchema: exclusive-incremental-differential needs both incremental and differential')
  }
  for (const bit of ['timestamped', 'last-modify'] as const) {
    if (has(bit) && !has('incremental') && !has('differential')) {
      fail(`backupSchema: ${bit} needs incremental or differential`)
    }
  }
  if (has('log') && !metadata.components.some((component) => component.databaseLogFiles.length > 0)) {
    fail('backupSchema: log needs at least one database log file set')
  }
  if (has('restore-with-move') && metadata.identity.instanceName === '') {
    fail('backupSchema: restore-with-move needs an instance name')
  }
}

function checkRestoreMethod(metadata: WriterMetadata, fail: Fail): void {
  const { method, serviceName } = metadata.restoreMethod
  const doesStop = method === 'stop-restore-start' || method === 'restore-stop-start'
  if (doesStop && serviceName === undefined) fail(`restoreMethod: ${method} needs a serviceName`)
  if (!doesStop && serviceName !== undefined) fail(`restoreMethod: ${method} has no service to stop`)
  if (method !== 'restore-to-alternate-location') return
  for (const component of metadata.components) {
    for (const set of allFileSets(component)) {
      if (metadata.alternateLocationMappings.some((mapping) => isSameSpec(mapping, set))) continue
      fail(`restoreMethod: ${method} needs a mapping for every file set, and ${specText(set)} has none`)
    }
  }
}

function checkNames(metadata: WriterMetadata, fail: Fail): void {
  const seen = new Set<string>()
  for (const component of metadata.components) {
    const path = fullPathOf(component)
    if (seen.has(path)) fail(`components: there are two of the name ${path}`)
    seen.add(path)
  }
}

function checkComponent(metadata: WriterMetadata, component: ComponentMetadata, fail: Fail): void {
  const failHere: Fail = (message) => fail(`component ${fullPathOf(component)}: ${message}`)
  const isDatabase = component.type === 'database'
  if (isDatabase && component.files.length > 0) failHere('a database has databaseFiles, not files')
  if (!isDatabase && component.databaseFiles.length + component.databaseLogFiles.length > 0) {
    failHere('a file group has files, not databaseFiles or databaseLogFiles')
  }
  for (const set of allFileSets(component)) {
    checkSpec(set, failHere)
    if (isDatabase && set.recursive) failHere(`${specText(set)}: a database's file set is not recursive`)
    if (set.alternatePath === undefined) continue
    if (isDatabase) failHere(`${specText(set)}: a database's file set has no alternate path`)
    const fault = pathFault(set.alternatePath)
    if (fault) failHere(`the alternate path ${set.alternatePath} ${fault}`)
  }
  const targets = new Set<string>()
  for (const { classId, logicalPath, name } of component.dependencies) {
    if (classId.toLowerCase() === metadata.identity.classId.toLowerCase()) {
      failHere('it depends on a component of its own writer')
    }
    const target = `${classId.toLowerCase()} ${fullPathOf({ logicalPath, name })}`
    if (targets.has(target)) failHere(`it depends twice on ${fullPathOf({ logicalPath, name })}`)
    targets.add(target)
  }
}

function checkSpec(spec: FileSpec, fail: Fail): void {
  const fault = pathFault(spec.path)
  if (fault) fail(`the path ${spec.path} ${fault}`)
  const nameFault = filespecFault(spec.filespec)
  if (nameFault) fail(`the filespec ${spec.filespec} ${nameFault}`)
}

/** A file is claimed once; excludes say what a broad set does not claim, so they are no way out here. */
function checkOverlaps(metadata: WriterMetadata, fail: Fail): void {
  const sets = metadata.components.flatMap((component) =>
    allFileSets(component).map((set) => ({ component, set })),
  )
  if (sets.length > FILE_SETS_MAX) fail(`there are more than ${FILE_SETS_MAX} file sets`)
  // In tree order a set can meet only those of the directories on the way to its own, which a stack holds.
  sets.sort((a, b) => compareTreeOrder(a.set.path, b.set.path))
  const above: typeof sets = []
  for (const current of sets) {
    while (!isAtOrBelow(current.set.path, above.at(-1)?.set.path ?? '/')) above.pop()
    for (const other of above) {
      if (!doOverlap(other.set, current.set)) continue
      fail(
        `${specText(other.set)} of ${fullPathOf(other.component)} and ${specText(current.set)} of ` +
          `${fullPathOf(current.component)} claim the same files`,
      )
    }
    above.push(current)
  }
}

/** A directory comes right before all below it: the slash counts as the least character. */
function compareTreeOrder(a: string, b: string): number {
  const [x, y] = [a.replaceAll('/', '\0'), b.replaceAll('/', '\0')]
  return x < y ? -1 : x > y ? 1 : 0
}

function checkWriterFiles(metadata: WriterMetadata, fail: Fail): void {
  const sets = metadata.components.flatMap(allFileSets)
  for (const mapping of metadata.alternateLocationMappings) {
    checkSpec(mapping, fail)
    const fault = pathFault(mapping.alternateLocation)
    if (fault) fail(`the alternate location ${mapping.alternateLocation} ${fault}`)
    if (!sets.some((set) => isSameSpec(set, mapping))) {
      fail(`the alternate location mapping for ${specText(mapping)} is for no file set`)
    }
  }
  for (const spec of [...metadata.excludeFiles, ...metadata.excludeFromSnapshotFiles]) checkSpec(spec, fail)
}
