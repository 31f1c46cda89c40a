// Dependencies of components on components of other writers: both are taken or none, in backups and
// restores (vss.md section 5.2, row 61).
//
// Always true: a dependency implies no order, and the target knows nothing of it; a target is met by the
// explicit component whose set holds it.

import { UmbraError } from '../../base/errors.ts'
import type { ComponentKey } from './backup-components.ts'
import {
  componentSet,
  explicitOwner,
  findComponent,
  fullPathOf,
  isSameComponent,
  mandatoryComponents,
  selectionRole,
} from './component-rules.ts'
import type { ComponentDependency, ComponentMetadata, WriterMetadata } from './writer-metadata.ts'

/** A writer with its explicit components. */
export interface WriterSelection {
  readonly metadata: WriterMetadata
  readonly explicit: readonly ComponentKey[]
}

/** A dependency that a selection does not meet. */
export interface UnmetDependency {
  readonly writer: WriterMetadata
  readonly component: ComponentMetadata
  readonly dependency: ComponentDependency
  /** The writers that have the target; empty: it is not there at all. */
  readonly candidates: readonly WriterMetadata[]
}

/** Every dependency of what is selected (implicit components too) whose target is not. */
export function unmetDependencies(selections: readonly WriterSelection[]): UnmetDependency[] {
  const unmet: UnmetDependency[] = []
  for (const { metadata, explicit } of selections) {
    for (const component of explicit.flatMap((key) => componentSet(metadata, key))) {
      for (const dependency of component.dependencies) {
        if (selections.some((selection) => meets(selection, dependency))) continue
        const candidates = selections
          .map((selection) => selection.metadata)
          .filter(
            (other) => other.identity.classId === dependency.classId && findComponent(other, dependency),
          )
        unmet.push({ writer: metadata, component, dependency, candidates })
      }
    }
  }
  return unmet
}

/**
 * The selections with the targets of all dependencies added, their writers' mandatory components too, until
 * nothing is missing. Selections hold every writer, those of which nothing is taken with an empty list.
 * @throws UmbraError NOT_FOUND when a target does not exist
 */
export function withDependencies(selections: readonly WriterSelection[]): WriterSelection[] {
  let current = [...selections]
  for (;;) {
    const [unmet] = unmetDependencies(current)
    if (unmet === undefined) return current
    const [target] = unmet.candidates
    if (target === undefined) throw new UmbraError('NOT_FOUND', unmetText(unmet))
    current = current.map((selection) =>
      selection.metadata === target ? withTarget(selection, unmet.dependency) : selection,
    )
  }
}

/** One line for people. */
export function unmetText({ writer, component, dependency, candidates }: UnmetDependency): string {
  const what = `${writer.identity.name}: ${fullPathOf(component)} needs ${fullPathOf(dependency)}`
  const where = candidates[0]
    ? `of ${candidates[0].identity.name}, which is not selected`
    : `of a writer of class ${dependency.classId}, which is not there`
  return `${what} ${where}`
}

function meets({ metadata, explicit }: WriterSelection, dependency: ComponentDependency): boolean {
  return (
    metadata.identity.classId === dependency.classId &&
    explicitOwner(metadata, explicit, dependency) !== undefined
  )
}

function withTarget({ metadata, explicit }: WriterSelection, target: ComponentKey): WriterSelection {
  const added = explicitFor(metadata, target)
  const wanted = [...mandatoryComponents(metadata), added]
  const isWanted = (component: ComponentMetadata): boolean =>
    [...wanted, ...explicit].some((key) => isSameComponent(key, component))
  const kept = metadata.components.filter(isWanted)
  // What the new component's set holds is implicit from now on.
  const implied = componentSet(metadata, added).slice(1)
  return { metadata, explicit: kept.filter((component) => !implied.includes(component)) }
}

/** The target itself where it may be explicit, else the nearest selectable component above it. */
function explicitFor(metadata: WriterMetadata, target: ComponentKey): ComponentMetadata {
  const component = findComponent(metadata, target) as ComponentMetadata
  if (selectionRole(metadata, component) !== 'implicit') return component
  const above = metadata.components.filter(
    (other) => other.selectable && componentSet(metadata, other).includes(component),
  )
  return above.reduce((nearest, other) =>
    fullPathOf(other).length > fullPathOf(nearest).length ? other : nearest,
  )
}
