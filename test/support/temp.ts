// Temporary folders for tests: outside any mount of ours, gone at the end of the test.
//
// Always true: a folder goes however its test ends, by an exception or a deadline too; what is still
// mounted below it then is detached first, so that nothing is removed through a mount.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Assertion } from 'brittle'

const left = new Set<string>()

process.on('exit', () => {
  for (const folder of left) remove(folder)
})
// The runner's deadline: an exit like any other.
process.once('SIGTERM', () => process.exit(143))

/** A fresh folder; removed when the test ends, after what was registered later was torn down. */
export function tempFolder(t: Pick<Assertion, 'teardown'>): string {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-test-'))
  left.add(folder)
  t.teardown(() => remove(folder), { order: Infinity })
  return folder
}

function remove(folder: string): void {
  const mountPoints = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${folder}/`))
  for (const path of mountPoints.reverse()) spawnSync('umount', ['-l', path.replaceAll('\\040', ' ')])
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  left.delete(folder)
}
