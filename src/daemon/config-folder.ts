// Where the user's configuration is: hooks and configured writers.
//
// Always true: root's is the system's; nothing is made here, and a folder that is not there is as good
// as an empty one.

import { homedir } from 'node:os'
import { join } from 'node:path'

/** `UMBRA_CONFIG_DIR` overrides it. */
export function configFolder(): string {
  const chosen = process.env['UMBRA_CONFIG_DIR']
  if (chosen) return chosen
  if (process.getuid?.() === 0) return '/etc/umbra'
  return join(process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'umbra')
}

/** The folder of hooks that belong to no mount. */
export function configuredHooksFolder(): string {
  return join(configFolder(), 'hooks')
}

/** One JSON file for each configured writer. */
export function configuredWritersFolder(): string {
  return join(configFolder(), 'writers')
}
