// The suite's runner, proved on planted files: what it counts, what it calls a failure, how it ends.
// deadline 240

import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { parseTap } from '../../scripts/tap.mjs'
import { run } from '../support/run.ts'

interface Outcome {
  readonly status: number
  readonly output: string
  readonly last: string
}

async function runPlanted(files: Record<string, string>, options: readonly string[] = []): Promise<Outcome> {
  // Inside the project, where the tests' packages are found, but out of the suite's own folder.
  mkdirSync('dist', { recursive: true })
  const folder = mkdtempSync(join('dist', 'planted-'))
  try {
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(join(folder, name), text)
    }
    const args = ['scripts/test.mjs', '--no-setup', '--folder', folder, ...options]
    const { code, stdout, stderr } = await run(process.execPath, args, { timeoutMs: 120_000, check: false })
    const output = stdout + stderr
    return { status: code, output, last: output.trimEnd().split('\n').at(-1) ?? '' }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The suite may run beside other loads: brittle's own 30 s are too few. */
const LIMIT = { timeout: 170_000 }
const HEAD = "import test from 'brittle'\n"

test('the runner counts tests over files and succeeds', LIMIT, async (t) => {
  const { status, last, output } = await runPlanted({
    'a.test.ts': `${HEAD}test('one', (t) => t.pass())\ntest('two', (t) => t.pass())\n`,
    'b.test.ts': `${HEAD}test.skip('three', () => {})\ntest('four', (t) => { t.comment('SKIP no moon') })\n`,
  })

  t.is(last, '2 passed, 0 failed, 2 skipped')
  t.is(status, 0)
  t.ok(output.includes('no moon'), 'the reason of a skip is told')
})

test(
  'the runner fails on a failing test, a dying file, a file without tests and a hanging one',
  LIMIT,
  async (t) => {
    const planted = {
      'a failing test': `${HEAD}test('one', (t) => t.is(1, 2, 'planted'))\n`,
      'a file that dies': `${HEAD}test('one', (t) => t.pass())\nsetImmediate(() => process.exit(3))\n`,
      'a file that throws': `${HEAD}throw new Error('planted')\n`,
      'a file without tests': 'export {}\n',
      'a file that hangs': `// deadline 1\n${HEAD}test('one', async (t) => { setInterval(() => {}, 9); await new Promise(() => {}) })\n`,
    }
    const runs = Object.entries(planted).map(
      async ([name, text]) => [name, await runPlanted({ 'a.test.ts': text })] as const,
    )
    for (const [name, { status, last }] of await Promise.all(runs)) {
      t.is(status, 1, name)
      t.ok(/^\d+ passed, 1 failed, 0 skipped$/.test(last), `${name}: ${last}`)
    }
  },
)

test('the runner fails on a process left running, and ends it', LIMIT, async (t) => {
  const { status, last, output } = await runPlanted({
    'a.test.ts': `import { spawn } from 'node:child_process'\n${HEAD}test('one', (t) => {
  const child = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' })
  t.comment('planted ' + child.pid)
  child.unref()
})\n`,
  })

  t.is(status, 1)
  t.is(last, '1 passed, 1 failed, 0 skipped')
  t.ok(/left running: \d+ sleep 1000/.test(output), output)
  const pid = /# planted (\d+)/.exec(output)?.[1]
  t.ok(pid && !existsSync(`/proc/${pid}/exe`), 'it is gone')
})

test('the runner shares out the time, and hears what failed before a file was cut off', LIMIT, async (t) => {
  const hanging = 'setInterval(() => {}, 9); await new Promise(() => {}) })\n'
  const sound = `${HEAD}test('one', async (t) => { t.pass(); ${hanging}`
  const failing = `${HEAD}test('one', async (t) => { t.is(1, 2, 'planted'); ${hanging}`
  const options = ['--minutes', '0.3', '--jobs', '1']
  const short = `${HEAD}test('short', (t) => t.pass())\n`
  const [good, bad] = await Promise.all(
    [sound, failing].map((first) => runPlanted({ 'a.test.ts': first, 'b.test.ts': short }, options)),
  )

  if (!good || !bad) throw new Error('two runs')
  t.is(good.last, '1 passed, 0 failed, 0 skipped', 'the file after the one that was cut off had its time')
  t.ok(good.output.includes('cut off by the time limit'))
  t.is(good.status, 0)
  t.is(bad.last, '1 passed, 1 failed, 0 skipped')
  t.is(bad.status, 1)
})

test('the runner fails when nothing matches', LIMIT, async (t) => {
  const { status, last } = await runPlanted({})

  t.is(status, 1)
  t.is(last, '0 passed, 0 failed, 0 skipped')
})

test('parseTap() counts tests, not assertions, and gives each skip its reason', (t) => {
  const tap = parseTap(
    '# missing: qemu-img\n# a\n    ok 1 - x\n    not ok 2 - y\nnot ok 1 - a # time = 1ms\nok 2 - b # SKIP\nok 3 - c # time = 2ms\n',
  )

  t.alike(tap, { passed: 1, failed: 1, skips: ['b (missing: qemu-img)'] })
})
