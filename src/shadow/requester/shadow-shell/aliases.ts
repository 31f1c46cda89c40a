// The names of a shadow script: %NAME% in its lines, environment variables of what it executes.
//
// Always true: names are found in either case, as on Windows, and keep the case in which they were given.

import type { ShadowProperties } from '../../coordinator/requester-session.ts'

export interface Alias {
  readonly name: string
  readonly value: string
}

export class Aliases {
  readonly #all = new Map<string, Alias>()

  /** In the order in which they were first set. */
  list(): Alias[] {
    return [...this.#all.values()]
  }

  set(name: string, value: string): void {
    this.#all.set(name.toUpperCase(), { name, value })
  }

  value(name: string): string | undefined {
    return this.#all.get(name.toUpperCase())?.value
  }

  environment(): Record<string, string> {
    return Object.fromEntries(this.list().map(({ name, value }) => [name, value]))
  }

  clear(): void {
    this.#all.clear()
  }
}

/** VSS's names and ours for what was made, in the order in which its volumes were added. */
export function shadowAliases(snapshotSetId: string, shadows: readonly ShadowProperties[]): Alias[] {
  const each = shadows.flatMap(({ snapshotId, devicePath }, index) => [
    { name: `VSS_SHADOW_${index + 1}`, value: snapshotId },
    { name: `UMBRA_SHADOW_${index + 1}`, value: snapshotId },
    { name: `UMBRA_SHADOW_PATH_${index + 1}`, value: devicePath ?? '' },
  ])
  return [
    { name: 'VSS_SHADOW_SET', value: snapshotSetId },
    { name: 'UMBRA_SHADOW_SET', value: snapshotSetId },
    ...each,
  ]
}
