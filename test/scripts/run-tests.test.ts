// The suite's runner, proved on planted files: what it counts, what it calls a failure, how it ends.

import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { parseTap } from '../../scripts/tap.mjs'

function runPlanted(files: Record<string, string>): { status: number | null; output: string; last: string } {
  // Inside the project, where the tests' packages are found, but out of the suite's own folder.
  mkdirSync('dist', { recursive: true })
  const folder = mkdtempSync(join('dist', 'planted-'))
  try {
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(join(folder, name), text)
    }
    const result = spawnSync(process.execPath, ['scripts/test.mjs', '--no-setup', '--folder', folder], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    const output = result.stdout + result.stderr
    return { status: result.status, output, last: output.trimEnd().split('\n').at(-1) ?? '' }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const HEAD = "import test from 'brittle'\n"

test('the runner counts tests over files and succeeds', (t) => {
  const { status, last, output } = runPlanted({
    'a.test.ts': `${HEAD}test('one', (t) => t.pass())\ntest('two', (t) => t.pass())\n`,
    'b.test.ts': `${HEAD}test.skip('three', () => {})\ntest('four', (t) => { t.comment('SKIP no moon') })\n`,
  })

  t.is(last, '2 passed, 0 failed, 2 skipped')
  t.is(status, 0)
  t.ok(output.includes('no moon'), 'the reason of a skip is told')
})

test('the runner fails on a failing test, a dying file, a file without tests and a hanging one', (t) => {
  const planted = {
    'a failing test': `${HEAD}test('one', (t) => t.is(1, 2, 'planted'))\n`,
    'a file that dies': `${HEAD}test('one', (t) => t.pass())\nsetImmediate(() => process.exit(3))\n`,
    'a file that throws': `${HEAD}throw new Error('planted')\n`,
    'a file without tests': 'export {}\n',
    'a file that hangs': `// deadline 1\n${HEAD}test('one', async (t) => { setInterval(() => {}, 9); await new Promise(() => {}) })\n`,
  }
  for (const [name, text] of Object.entries(planted)) {
    const { status, last } = runPlanted({ 'a.test.ts': text })
    t.is(status, 1, name)
    t.ok(/^\d+ passed, 1 failed, 0 skipped$/.test(last), `${name}: ${last}`)
  }
})

test('the runner fails when nothing matches', (t) => {
  const { status, last } = runPlanted({})

  t.is(status, 1)
  t.is(last, '0 passed, 0 failed, 0 skipped')
})

test('parseTap() counts tests, not assertions, and gives each skip its reason', (t) => {
  const tap = parseTap(
    '# missing: qemu-img\n# a\n    ok 1 - x\n    not ok 2 - y\nnot ok 1 - a # time = 1ms\nok 2 - b # SKIP\nok 3 - c # time = 2ms\n',
  )

  t.alike(tap, { passed: 1, failed: 1, skips: ['b (missing: qemu-img)'] })
})
