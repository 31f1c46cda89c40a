// Environment variables for the time of a test.
//
// Always true: at teardown, after everything else was torn down, each is as it was before.

import type { Assertion } from 'brittle'

export function setEnvironment(
  t: Pick<Assertion, 'teardown'>,
  values: Readonly<Record<string, string>>,
): void {
  for (const [name, value] of Object.entries(values)) {
    const before = process.env[name]
    process.env[name] = value
    const restore = (): void => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    }
    t.teardown(restore, { order: 2_000_000 })
  }
}
