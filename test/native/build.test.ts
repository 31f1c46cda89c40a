// The addon's build script: does nothing when there is nothing to do, and says what is missing.

import { existsSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import { run } from '../support/run.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/build-native.ts', import.meta.url))
const OUTPUT = fileURLToPath(new URL('../../native/build/Release/umbra.node', import.meta.url))

const build = (args: string[], env: Record<string, string> = {}) =>
  run(process.execPath, ['--import', 'tsx', SCRIPT, ...args], { env, check: false, timeoutMs: 120_000 })

test('build-native skips what is up to date', async (t) => {
  t.is((await build([])).code, 0)
  t.ok(existsSync(OUTPUT))
  const builtAtMs = statSync(OUTPUT).mtimeMs
  const again = await build([])
  t.is(again.code, 0)
  t.ok(/up to date/.test(again.stdout))
  t.is(statSync(OUTPUT).mtimeMs, builtAtMs)
})

test('build-native without a compiler says so in one line, and leaves the output alone', async (t) => {
  const { code, stderr } = await build(['--force'], { CC: '/nonexistent/cc' })
  t.is(code, 1)
  t.is(stderr.trim().split('\n').length, 1)
  t.ok(/C compiler.*build-essential/.test(stderr))
  t.ok(existsSync(OUTPUT))
})
