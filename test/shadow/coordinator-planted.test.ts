// The golden trace sees faults: each one here is planted in a copy of the sources, and the trace's own
// test must turn red there. Without a fault the copy's test stays green.
// deadline 240

import { spawn } from 'node:child_process'
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const CREATION = 'src/shadow/coordinator/set-creation.ts'

interface Fault {
  readonly what: string
  readonly file: string
  readonly text: string
  readonly planted: string
}

const FAULTS: readonly Fault[] = [
  {
    what: 'Thaw before the release',
    file: CREATION,
    text: 'await this.#cut()\n      await this.#thaw()',
    planted: 'await this.#thaw()\n      await this.#cut()',
  },
  {
    what: 'Freeze from the system to the front end',
    file: CREATION,
    text: 'for (const level of FREEZE_LEVELS)',
    planted: 'for (const level of [...FREEZE_LEVELS].reverse())',
  },
  {
    what: 'PostSnapshot after the seal',
    file: CREATION,
    text: 'await this.#postSnapshot()\n      await this.#deleteExcluded()\n      await this.#onAll((member) => member.seal(limitMs, this.#signal))',
    planted:
      'await this.#onAll((member) => member.seal(limitMs, this.#signal))\n      await this.#postSnapshot()\n      await this.#deleteExcluded()',
  },
  {
    what: 'no Abort to writers',
    file: CREATION,
    text: 'if (!this.#mayNeedAbort) return',
    planted: 'if (this.#mayNeedAbort) return',
  },
  {
    what: 'a shadow copy that stays after a failure',
    file: CREATION,
    text: 'await Promise.all(members.map((member) => member.undo(limits.providerAbortMs)))',
    planted: 'void members',
  },
  {
    what: 'no watch over the freeze',
    file: 'src/shadow/coordinator/freeze-window.ts',
    text: 'this.#failed.abort(error)',
    planted: 'void this.#failed',
  },
]

/** A copy of what the trace's test needs. */
function copyOfTree(t: Assertion): string {
  const folder = tempFolder(t)
  for (const part of [
    'src',
    'schemas',
    'test/shadow',
    'test/support',
    'package.json',
    'tsconfig.json',
    'types',
  ]) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true })
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  symlinkSync(join(ROOT, 'native'), join(folder, 'native'))
  return folder
}

/** Whether the trace's test passes; it is ended at its first failure. */
function isGreen(folder: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import', 'tsx', 'test/shadow/coordinator-trace.test.ts'], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    let isRed = false
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (!/^ *not ok/m.test(said)) return
      isRed = true
      child.kill('SIGKILL')
    })
    child.once('error', reject)
    child.once('exit', (code) => {
      if (isRed) resolve(false)
      else if (code === 0) resolve(true)
      // A test that hangs or dies is red too, one that cannot be loaded proves nothing.
      else if (/^# row/m.test(said)) resolve(false)
      else reject(new Error(`The copy's test did not run: ${said.slice(-2000)}`))
    })
  })
}

test('row 40: the golden trace turns red for each planted fault', requires('/proc'), async (t) => {
  const folder = copyOfTree(t)
  t.ok(await isGreen(folder), 'without a fault it is green')
  for (const { what, file, text, planted } of FAULTS) {
    const path = join(folder, file)
    const source = readFileSync(path, 'utf8')
    t.is(source.split(text).length, 2, `${what}: the place is there once`)
    writeFileSync(path, source.replace(text, planted))
    t.absent(await isGreen(folder), what)
    writeFileSync(path, source)
  }
})
