// Which components of a writer are taken, and how: the selection rules of vss.md section 5.2 as pure
// functions that the coordinator, the requester and the command line share.
//
// Always true: a component set is a selectable component and everything below it, at any depth, whether
// or not the path elements between are components; a component that cannot be selected is a set of its
// own. Names are compared byte for byte: on Linux `Data` and `data` are two. Two components that cannot
// be selected are both explicit, also when one lies below the other (vss.md section 9, row 13).

import { UmbraError } from '../../base/errors.ts'
import type { ComponentKey } from './backup-components.ts'
import type { ComponentMetadata, WriterMetadata } from './writer-metadata.ts'

/**
 * `mandatory`: explicit whenever anything of the writer is taken. `optional`: explicit if chosen.
 * `optional-below`: selectable below a selectable ancestor, so explicit if chosen and no ancestor is.
 * `implicit`: comes with an ancestor only.
 */
export type SelectionRole = 'mandatory' | 'optional' | 'optional-below' | 'implicit'

/** Logical path and name in one: what the components below it have at the head of their logical path. */
export function fullPathOf({ logicalPath, name }: ComponentKey): string {
  return logicalPath === '' ? name : `${logicalPath}/${name}`
}

export function isSameComponent(a: ComponentKey, b: ComponentKey): boolean {
  return a.name === b.name && a.logicalPath === b.logicalPath
}

/** Whether `component` lies below `ancestor`, at any depth. */
export function isBelowComponent(component: ComponentKey, ancestor: ComponentKey): boolean {
  const path = fullPathOf(ancestor)
  return component.logicalPath === path || component.logicalPath.startsWith(`${path}/`)
}

export function findComponent(metadata: WriterMetadata, key: ComponentKey): ComponentMetadata | undefined {
  return metadata.components.find((component) => isSameComponent(component, key))
}

/** @throws UmbraError NOT_FOUND */
export function requireComponent(metadata: WriterMetadata, key: ComponentKey): ComponentMetadata {
  const component = findComponent(metadata, key)
  if (component) return component
  throw new UmbraError('NOT_FOUND', `${metadata.identity.name} has no component ${fullPathOf(key)}`)
}

/**
 * The component and, where it is selectable, all below it; in the document's order with the component first.
 * @throws UmbraError NOT_FOUND
 */
export function componentSet(metadata: WriterMetadata, key: ComponentKey): ComponentMetadata[] {
  const component = requireComponent(metadata, key)
  if (!component.selectable) return [component]
  return [component, ...metadata.components.filter((other) => isBelowComponent(other, component))]
}

/** Selectable components above, any depth. */
function selectableAncestors(metadata: WriterMetadata, key: ComponentKey): ComponentMetadata[] {
  return metadata.components.filter((other) => other.selectable && isBelowComponent(key, other))
}

export function selectionRole(metadata: WriterMetadata, component: ComponentMetadata): SelectionRole {
  const hasAncestor = selectableAncestors(metadata, component).length > 0
  if (component.selectable) return hasAncestor ? 'optional-below' : 'optional'
  return hasAncestor ? 'implicit' : 'mandatory'
}

/** Explicit whenever anything of the writer is taken. */
export function mandatoryComponents(metadata: WriterMetadata): ComponentMetadata[] {
  return metadata.components.filter((component) => selectionRole(metadata, component) === 'mandatory')
}

/** What takes the whole writer: the mandatory components and the uppermost selectable ones. */
export function wholeSelection(metadata: WriterMetadata): ComponentMetadata[] {
  return metadata.components.filter((component) => {
    const role = selectionRole(metadata, component)
    return role === 'mandatory' || role === 'optional'
  })
}

/**
 * The explicit components for a user's choice: the chosen ones and all mandatory ones, in the document's order.
 * @throws UmbraError as checkExplicitAdd()
 */
export function explicitSelection(
  metadata: WriterMetadata,
  chosen: readonly ComponentKey[],
): ComponentMetadata[] {
  const explicit: ComponentMetadata[] = []
  for (const key of chosen) {
    checkExplicitAdd(metadata, explicit, key)
    explicit.push(requireComponent(metadata, key))
  }
  const mandatory = mandatoryComponents(metadata)
  return metadata.components.filter(
    (component) => explicit.includes(component) || mandatory.includes(component),
  )
}

/**
 * Whether `key` may become an explicit component beside those that are.
 * @throws UmbraError NOT_FOUND: no such component; ALREADY_EXISTS: it is explicit already;
 *   INVALID_ARGUMENT: it comes implicitly, with an ancestor, or would make an explicit one implicit
 */
export function checkExplicitAdd(
  metadata: WriterMetadata,
  explicit: readonly ComponentKey[],
  key: ComponentKey,
): void {
  const component = requireComponent(metadata, key)
  const name = fullPathOf(key)
  if (explicit.some((other) => isSameComponent(other, key))) {
    throw new UmbraError('ALREADY_EXISTS', `The component ${name} has been added already`)
  }
  const ancestors = selectableAncestors(metadata, component)
  if (!component.selectable && ancestors.length > 0) {
    const above = ancestors.map(fullPathOf).join(' or ')
    throw new UmbraError('INVALID_ARGUMENT', `The component ${name} comes with ${above} only`)
  }
  for (const other of explicit) {
    const isImplied = ancestors.some((ancestor) => isSameComponent(ancestor, other))
    if (isImplied) {
      throw new UmbraError(
        'INVALID_ARGUMENT',
        `The component ${name} comes with ${fullPathOf(other)} already`,
      )
    }
    if (component.selectable && isBelowComponent(other, component)) {
      throw new UmbraError(
        'INVALID_ARGUMENT',
        `The component ${fullPathOf(other)} has been added and comes with ${name}: add one of the two`,
      )
    }
  }
}

/** The explicit component that takes `key` along: itself, or the ancestor whose set it is in. */
export function explicitOwner<T extends ComponentKey>(
  metadata: WriterMetadata,
  explicit: readonly T[],
  key: ComponentKey,
): T | undefined {
  return explicit.find((owner) =>
    componentSet(metadata, owner).some((member) => isSameComponent(member, key)),
  )
}

/** All components that a backup with these explicit ones takes, in the document's order. */
export function includedComponents(
  metadata: WriterMetadata,
  explicit: readonly ComponentKey[],
): ComponentMetadata[] {
  return metadata.components.filter((component) => explicitOwner(metadata, explicit, component) !== undefined)
}

/** What selecting a component for restore means: of which explicit component, and which part of its set. */
export interface RestoreSelection<T extends ComponentKey> {
  readonly component: T
  /** Null: the whole component set. */
  readonly subcomponent: ComponentMetadata | null
}

/**
 * How `key` can be restored from a backup with these explicit components: an explicit one always, an
 * implicit one by itself only where it is selectable for restore.
 * @throws UmbraError NOT_FOUND: not in the backup; INVALID_ARGUMENT: comes with its ancestor only
 */
export function restoreSelection<T extends ComponentKey>(
  metadata: WriterMetadata,
  explicit: readonly T[],
  key: ComponentKey,
): RestoreSelection<T> {
  const component = requireComponent(metadata, key)
  const owner = explicitOwner(metadata, explicit, key)
  if (owner === undefined) {
    throw new UmbraError('NOT_FOUND', `The backup does not hold the component ${fullPathOf(key)}`)
  }
  if (isSameComponent(owner, key)) return { component: owner, subcomponent: null }
  if (!component.selectableForRestore) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `The component ${fullPathOf(key)} can be restored with ${fullPathOf(owner)} only`,
    )
  }
  return { component: owner, subcomponent: component }
}

/**
 * The components to restore for an explicit component: its set, or of it the given subcomponents and what lies below them.
 * @throws UmbraError NOT_FOUND, INVALID_ARGUMENT as restoreSelection()
 */
export function restoreSet(
  metadata: WriterMetadata,
  component: ComponentKey,
  subcomponents: readonly ComponentKey[],
): ComponentMetadata[] {
  const whole = componentSet(metadata, component)
  if (subcomponents.length === 0) return whole
  for (const key of subcomponents) restoreSelection(metadata, [component], key)
  return whole.filter((member) =>
    subcomponents.some((key) => isSameComponent(member, key) || isBelowComponent(member, key)),
  )
}
