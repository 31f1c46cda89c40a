// Runs the test suite: sets up, then one process per test file, several at a time, each with a
// deadline; prints one line per file, failures with their output, the skips with their reasons, and
// at the very end, alone on its line: `N passed, N failed, N skipped`.
//
// Always true: a file that ran no test, died, passed its deadline, or left processes running counts as
// a failure; so does a run without any test. Only processes started here are ended here: a file's group,
// and what else carries the file's mark.
//
// A file says what it needs in its first lines: `// serial` (runs while no other file does),
// `// deadline 300` (seconds; tripled in the long mode). Files with long deadlines begin first, so that
// none of them runs alone at the end. With --minutes the time is shared out among the files; one that
// is cut off at its share's end has failed only if it said so until then.
//
// Usage: node scripts/test.mjs [--long] [--no-setup] [--jobs N] [--minutes N] [--folder DIR] [PART-OF-A-FILE-NAME ...]

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pathToPython } from './direct-python.mjs'
import { awaitLeftProcesses, MARK } from './left-processes.mjs'
import { setup } from './setup.mjs'
import { parseTap } from './tap.mjs'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const PATIENCE = new URL('patience.mjs', import.meta.url).href
/** As tsx would run them, in half the processor time. */
const TYPESCRIPT = new URL('typescript.mjs', import.meta.url).href
const DEADLINE_S = 180
const OUTPUT_BYTES_MAX = 4 << 20
/** For daemons that a test has told to end. */
const LEFT_TIMEOUT_MS = 10_000
/** For the last of the output of a file that has ended; who inherited its pipe may keep it open. */
const OUTPUT_TIMEOUT_MS = 5000

/** More than there are processors, as a test waits for a third of its time; not so many that loop devices run short. */
function defaultJobs() {
  return Math.min(4, availableParallelism() + 2)
}

function parseArguments(args) {
  const options = { long: false, setup: true, jobs: defaultJobs(), minutes: 0, folder: 'test', filters: [] }
  const number = (text, name) => {
    const value = Number(text)
    if (!(value > 0)) throw new Error(`${name} wants a number above 0`)
    return value
  }
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--long') options.long = true
    else if (args[i] === '--no-setup') options.setup = false
    else if (args[i] === '--jobs') options.jobs = number(args[++i], '--jobs')
    else if (args[i] === '--minutes') options.minutes = number(args[++i], '--minutes')
    else if (args[i] === '--folder') options.folder = args[++i]
    else if (args[i].startsWith('--')) throw new Error(`unknown option ${args[i]}`)
    else options.filters.push(args[i])
  }
  return options
}

function findFiles(folder, filters) {
  const files = readdirSync(join(ROOT, folder), { recursive: true })
    .filter((path) => path.endsWith('.test.ts'))
    .map((path) => join(folder, path))
    .filter((path) => filters.length === 0 || filters.some((part) => path.includes(part)))
    .sort()
  return files
    .map((path) => {
      const head = readFileSync(join(ROOT, path), 'utf8').split('\n', 12)
      const deadline = head
        .map((line) => /^\/\/ deadline (\d+)$/.exec(line)?.[1])
        .find((text) => text !== undefined)
      const deadlineS = deadline ? Number(deadline) : DEADLINE_S
      return { path, serial: head.includes('// serial'), deadlineS }
    })
    .sort((a, b) => b.deadlineS - a.deadlineS)
}

function kill(pid, signal) {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended by itself.
  }
}

/** Ends of the running files, so that Ctrl-C leaves nothing behind. */
const running = new Set()

/** @param {number} endMs when the file's share of the whole run's time is over; Infinity: never */
async function runFile(file, options, endMs) {
  const startedMs = Date.now()
  const deadlineMs = file.deadlineS * 1000 * (options.long ? 3 : 1)
  const limitMs = Math.max(1000, Math.min(deadlineMs, endMs - startedMs))
  const mark = `${process.pid}:${file.path}`
  const env = { ...process.env, NODE_NO_WARNINGS: '1', [MARK]: mark }
  // A coordinator waits three minutes for more to do; a test's may not outlive its file.
  env.UMBRA_COORDINATOR_IDLE_MS ??= '2000'
  env.UMBRA_TEST_TIMEOUT_MS = String(Math.max(10_000, deadlineMs - 10_000))
  if (options.long) env.UMBRA_LONG = '1'
  const child = spawn(process.execPath, ['--import', TYPESCRIPT, '--import', PATIENCE, file.path], {
    cwd: ROOT,
    env,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  let output = ''
  const take = (chunk) => {
    if (output.length < OUTPUT_BYTES_MAX) output += chunk
  }
  child.stdout.setEncoding('utf8').on('data', take)
  child.stderr.setEncoding('utf8').on('data', take)
  let late = false
  const term = setTimeout(() => {
    late = true
    // First a chance to tear down, for which its own children are left alone; then the end.
    kill(child.pid, 'SIGTERM')
    setTimeout(() => kill(-child.pid, 'SIGKILL'), 10_000).unref()
  }, limitMs)
  const closed = once(child, 'close')
  const [code, signal] = await once(child, 'exit')
  await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, OUTPUT_TIMEOUT_MS).unref())])
  clearTimeout(term)
  const left = await awaitLeftProcesses(mark, late ? 0 : LEFT_TIMEOUT_MS)
  for (const { pid } of left) kill(pid, 'SIGKILL')
  running.delete(child)
  const seconds = (Date.now() - startedMs) / 1000
  const ending = { code, signal, left, lateAfterS: late ? Math.round(limitMs / 1000) : 0 }
  // The time limit of the whole run is no fault of the file that it cut off.
  const outOfTime = late && limitMs < deadlineMs
  const tap = parseTap(output)
  const trouble = outOfTime ? troubleOfPart(tap, output) : troubleOf(tap, ending)
  return { file, tap, output, trouble, outOfTime, seconds }
}

/** Of a file that was cut off: its assertions that failed, in a test that did not come to its end. */
function troubleOfPart(tap, output) {
  return tap.failed === 0 && /^ +not ok /m.test(output) ? 'failed before its time was over' : undefined
}

/** Why a file counts as failed beside its failed tests; undefined: it does not. */
function troubleOf(tap, { code, signal, left, lateAfterS }) {
  if (lateAfterS > 0) return `no end after ${lateAfterS} s`
  if (signal) return `ended by ${signal}`
  if (code !== 0 && tap.failed === 0) return `exit code ${code}`
  if (left.length > 0)
    return `left running: ${left.map(({ pid, command }) => `${pid} ${command}`).join('; ')}`
  return tap.passed + tap.failed + tap.skips.length === 0 ? 'ran no test' : undefined
}

function report(result) {
  const { file, tap, trouble, outOfTime, seconds } = result
  const bad = trouble !== undefined || tap.failed > 0
  const counts = `${tap.passed} passed${tap.failed ? `, ${tap.failed} failed` : ''}${tap.skips.length ? `, ${tap.skips.length} skipped` : ''}`
  const note = trouble ? `, ${trouble}` : outOfTime ? ', cut off by the time limit' : ''
  console.log(`${bad ? 'FAIL' : 'ok  '} ${file.path}  ${counts}${note}  (${seconds.toFixed(1)} s)`)
  if (bad) console.log(result.output.replace(/^/gm, '     ').trimEnd())
}

async function runAll(files, options) {
  const lastMomentMs = options.minutes > 0 ? Date.now() + options.minutes * 60_000 : Number.POSITIVE_INFINITY
  const results = []
  const waiting = files.filter((file) => !file.serial)
  const work = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      const nowMs = Date.now()
      if (nowMs >= lastMomentMs) return
      const turns = Math.ceil((waiting.length + 1) / options.jobs)
      const result = await runFile(file, options, nowMs + (lastMomentMs - nowMs) / turns)
      report(result)
      results.push(result)
    }
  }
  await Promise.all(Array.from({ length: options.jobs }, work))
  waiting.push(...files.filter((file) => file.serial))
  await work()
  return results
}

async function main() {
  const options = parseArguments(process.argv.slice(2))
  const missing = options.setup ? setup().missing : []
  if (!existsSync(join(ROOT, 'node_modules/esbuild'))) throw new Error('npm packages are not installed')
  const files = findFiles(options.folder, options.filters)
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
      for (const child of running) kill(-child.pid, 'SIGTERM')
      setTimeout(() => process.exit(1), 5000)
    })
  }
  process.env.PATH = pathToPython(process.env.PATH ?? '')
  const results = await runAll(files, options)

  const skips = results.flatMap((result) => result.tap.skips.map((skip) => `${result.file.path}: ${skip}`))
  for (const skip of skips) console.log(`skipped: ${skip}`)
  for (const sentence of missing) console.log(`missing: ${sentence}`)
  const notRun = files.length - results.length
  if (notRun > 0) console.log(`not run for lack of time: ${notRun} files`)
  const failures = results.filter((result) => result.trouble !== undefined || result.tap.failed > 0)
  for (const result of failures)
    console.log(`failed: ${result.file.path}${result.trouble ? ` (${result.trouble})` : ''}`)
  const passed = results.reduce((sum, result) => sum + result.tap.passed, 0)
  const failed = results.reduce(
    (sum, result) => sum + result.tap.failed + (result.trouble && result.tap.failed === 0 ? 1 : 0),
    0,
  )
  if (passed + failed === 0) console.log('no test ran')
  console.log(`${passed} passed, ${failed} failed, ${skips.length} skipped`)
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0
}

main().catch((error) => {
  console.error(`test: ${error.message}`)
  console.log('0 passed, 1 failed, 0 skipped')
  process.exitCode = 1
})
