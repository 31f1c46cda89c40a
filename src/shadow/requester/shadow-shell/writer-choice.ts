// Which writers and components take part in a shadow set or a restore of the shell, and whether those are
// among them that must be.
//
// Always true: a component is taken when all its files lie on volumes of the set; one that is left out by the
// user or for its files is told, never left out silently.

import { UmbraError } from '../../../base/errors.ts'
import type { ComponentRef } from '../../coordinator/requester-session.ts'
import type { ComponentKey } from '../../documents/backup-components.ts'
import { componentSet, fullPathOf, wholeSelection } from '../../documents/component-rules.ts'
import { allFileSets } from '../../documents/file-set-mask.ts'
import type { ComponentMetadata, WriterMetadata } from '../../documents/writer-metadata.ts'
import { isCalled, writerText } from '../component-plan.ts'
import { realFolder } from '../file-places.ts'
import { bytesOf } from '../file-tree.ts'
import type { VolumeAccess } from '../surroundings.ts'

/** Each is `WRITER` or `WRITER:PATH/NAME`, as `umbra backup --components` takes them. */
export interface WriterWishes {
  readonly verify: readonly string[]
  readonly exclude: readonly string[]
}

export interface ChosenComponents {
  readonly components: readonly ComponentRef[]
  /** Why others are not among them, one sentence each. */
  readonly notes: readonly string[]
}

/** @param volumeUuids of the set */
export async function componentsOnVolumes(
  access: VolumeAccess,
  metadata: readonly WriterMetadata[],
  volumeUuids: ReadonlySet<string>,
  exclude: readonly string[],
): Promise<ChosenComponents> {
  const components: ComponentRef[] = []
  const notes: string[] = []
  for (const writer of metadata) {
    for (const component of wholeSelection(writer)) {
      const name = `${writerText(writer.identity)}: ${fullPathOf(component)}`
      if (exclude.some((wish) => isComponentCalled(writer, component, wish))) {
        notes.push(`${name} is left out, as was asked for`)
        continue
      }
      const foreign = await firstForeignFolder(access, componentSet(writer, component), volumeUuids)
      if (foreign !== undefined) notes.push(`${name} is left out: ${foreign} is on no volume of the set`)
      else components.push(refOf(writer, component))
    }
  }
  return { components, notes }
}

/** Whether a wish names this component, or its whole writer. */
export function isComponentCalled(writer: WriterMetadata, component: ComponentKey, wish: string): boolean {
  if (isCalled(writer, wish)) return true
  const ending = `:${fullPathOf(component)}`
  return wish.endsWith(ending) && isCalled(writer, wish.slice(0, -ending.length))
}

/**
 * What the user wants to be sure of.
 * @throws UmbraError WRITER_FAILED when one is not there, or nothing of it is taken
 */
export function verifyWriters(
  metadata: readonly WriterMetadata[],
  taken: readonly ComponentRef[],
  wishes: readonly string[],
): void {
  for (const wish of wishes) {
    const isThere = metadata.some((writer) => isTaken(writer, taken, wish))
    if (isThere) continue
    const isKnown = metadata.some((writer) => isCalled(writer, wish))
    const why = isKnown ? 'is there, but none of its components is taken' : 'is not there'
    throw new UmbraError('WRITER_FAILED', `${wish} must take part and ${why}`, { writer: wish })
  }
}

function isTaken(writer: WriterMetadata, taken: readonly ComponentRef[], wish: string): boolean {
  const { instanceId } = writer.identity
  const own = taken.filter((ref) => ref.instanceId === instanceId)
  if (isCalled(writer, wish)) return own.length > 0 || writer.components.length === 0
  const included = own.flatMap((ref) => componentSet(writer, ref))
  return included.some((component) => isComponentCalled(writer, component, wish))
}

async function firstForeignFolder(
  access: VolumeAccess,
  members: readonly ComponentMetadata[],
  volumeUuids: ReadonlySet<string>,
): Promise<string | undefined> {
  const folders = new Set(
    members.flatMap((member) => allFileSets(member)).map((set) => set.alternatePath ?? set.path),
  )
  for (const folder of folders) {
    const place = await access.volumeAt(bytesOf(realFolder(folder)).toString('utf8'))
    if (place === null || !volumeUuids.has(place.volumeUuid)) return folder
  }
  return undefined
}

function refOf(writer: WriterMetadata, { logicalPath, name }: ComponentKey): ComponentRef {
  return { instanceId: writer.identity.instanceId, logicalPath, name }
}
