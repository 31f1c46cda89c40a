// Stops a backup while all writers below system level are frozen, by a hook that freezes last and waits.
//
// Always true: the process that is killed is the configured writer of this very name; names are random,
// so that tests do not meet each other.

import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { until } from '../support/run.ts'
import type { ServerLab } from './server-lab.ts'

export interface HeldFreeze {
  /** Settles when every other writer is frozen. */
  reached(): Promise<unknown>
  /** The freeze goes on; without it, after 20 s. */
  goOn(): void
}

/** @param lab whose hook folder gets the hook */
export function holdFreeze(lab: ServerLab): HeldFreeze {
  const [reached, goOn] = [lab.at('freeze-reached'), lab.at('freeze-go-on')]
  rmSync(reached, { force: true })
  rmSync(goOn, { force: true })
  const metadata = {
    format: 'umbra-writer-metadata-1',
    identity: {
      classId: '1f1c0c52-53a4-4f5c-9c0e-0d6a5b1f7a10',
      instanceId: '1f1c0c52-53a4-4f5c-9c0e-0d6a5b1f7a11',
      name: 'Last',
      instanceName: '',
      usage: 'other',
      source: 'other',
    },
    backupSchema: [],
    freezeLevel: 'system',
    freezeTimeoutMs: 30_000,
    restoreMethod: { method: 'restore-if-can-replace', writerRestore: 'never', rebootRequired: false },
    alternateLocationMappings: [],
    excludeFiles: [],
    excludeFromSnapshotFiles: [],
    components: [
      {
        type: 'file-group',
        logicalPath: '',
        name: 'nothing',
        selectable: true,
        selectableForRestore: false,
        flags: [],
        files: [],
        databaseFiles: [],
        databaseLogFiles: [],
        dependencies: [],
      },
    ],
  }
  const hook = hookPath(lab)
  mkdirSync(dirname(hook), { recursive: true, mode: 0o700 })
  writeFileSync(
    hook,
    `#!/bin/sh
case "$1" in
  identify) cat <<'JSON'
${JSON.stringify(metadata)}
JSON
    ;;
  freeze)
    touch '${reached}'
    for i in $(seq 200); do [ -e '${goOn}' ] && exit 0; sleep 0.1; done ;;
esac
`,
  )
  chmodSync(hook, 0o700)
  return {
    reached: () => until('the writers are frozen', () => existsSync(reached), 60_000),
    goOn: () => writeFileSync(goOn, ''),
  }
}

export function removeHook(lab: ServerLab): void {
  rmSync(hookPath(lab))
}

function hookPath(lab: ServerLab): string {
  return lab.at('config/hooks.d/last')
}

/** The process of a configured writer. */
export function writerProcess(name: string): number {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const title = readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
      if (title === `umbra writer: ${name}`) return Number(entry)
    } catch {
      // It has just ended.
    }
  }
  throw new Error(`No process of the writer ${name}`)
}
