// Temporary folders for tests: outside any mount of ours, gone at teardown.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Assertion } from 'brittle'

/** A fresh folder; removed when the test ends, after what was registered later was torn down. */
export function tempFolder(t: Pick<Assertion, 'teardown'>): string {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }), { order: Infinity })
  return folder
}
