// The one gate: types, format and lint, import directions, house rules, build, and the whole suite.
//
// Always true: the steps run in this order, the first that fails ends the run with its output, and
// the last line is the suite's `N passed, N failed, N skipped`.
//
// Usage: node scripts/ok.mjs [--no-tests]

import { spawnSync } from 'node:child_process'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setup } from './setup.mjs'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))

const CHECKS = [
  ['types', 'npx', ['tsc', '-p', 'test/tsconfig.json']],
  ['format and lint', 'npx', ['biome', 'check', '--error-on-warnings', '.']],
  ['import directions', process.execPath, ['--import', 'tsx', 'scripts/check-layers.ts']],
  ['house rules', process.execPath, ['--import', 'tsx', 'scripts/tidy.ts']],
]

function main() {
  setup()
  for (const [name, command, args] of CHECKS) {
    const startedMs = Date.now()
    const result = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 64 << 20 })
    if (result.status !== 0) {
      console.log(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}`)
      console.log(`FAIL ${name}`)
      return 1
    }
    console.log(`ok   ${name}  (${((Date.now() - startedMs) / 1000).toFixed(1)} s)`)
  }
  if (process.argv.includes('--no-tests')) return 0
  return spawnSync(process.execPath, ['scripts/test.mjs'], { cwd: ROOT, stdio: 'inherit' }).status ?? 1
}

try {
  process.exitCode = main()
} catch (error) {
  console.error(`ok: ${error.message}`)
  process.exitCode = 1
}
