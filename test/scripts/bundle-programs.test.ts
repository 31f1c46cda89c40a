// The bundle that the compiled programs are loaded from: used where V8 takes its compiled form, working
// where it does not, and of the same mind about documents as the files it is made of.

import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Script } from 'node:vm'
import test from 'brittle'
import { checkShape, SCHEMA_NAMES } from '../../src/shadow/documents/document-schemas.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const DIST = join(ROOT, 'dist')
const PROGRAMS = join(DIST, 'programs')

function bundlePath(folder = PROGRAMS): string {
  const [, name = ''] = /"(.*)"/.exec(readFileSync(join(folder, 'bundle.js'), 'utf8')) ?? []
  return join(folder, name)
}

test('V8 takes the compiled form that was built, and does not take that of other code', (t) => {
  const path = bundlePath()
  const text = readFileSync(path, 'latin1')
  const cachedData = readFileSync(`${path}.cache`)
  t.is(new Script(text, { cachedData }).cachedDataRejected, false)
  t.is(new Script(`${text}\n`, { cachedData }).cachedDataRejected, true)
  t.absent(/[^\0-\x7f]/.test(text), 'a character a byte')
})

test('every program that tsc wrote is loaded from the bundle', (t) => {
  const programs = [
    'cli/main',
    ...readdirSync(join(ROOT, 'src/daemon'))
      .filter((name) => /-(main|helper)\.ts$/.test(name))
      .map((name) => `daemon/${name.slice(0, -3)}`),
  ]
  t.is(programs.length, 5)
  for (const program of programs)
    t.ok(readFileSync(join(DIST, `${program}.js`), 'utf8').includes(`load("${program}")`), program)
})

test('a compiled form that is damaged, of another version, or not there costs time alone', async (t) => {
  const folder = join(tempFolder(t), 'dist')
  mkdirSync(join(folder, 'cli'), { recursive: true })
  cpSync(PROGRAMS, join(folder, 'programs'), { recursive: true })
  copyFileSync(join(DIST, 'cli/main.js'), join(folder, 'cli/main.js'))
  copyFileSync(join(ROOT, 'package.json'), join(folder, '../package.json'))
  const cache = `${bundlePath(join(folder, 'programs'))}.cache`
  t.ok(existsSync(cache))
  const bytes = readFileSync(cache)
  const forms = [
    bytes,
    bytes.subarray(0, bytes.length >> 1),
    Buffer.alloc(bytes.length, 0xa5),
    Buffer.alloc(0),
  ]
  for (const form of forms) {
    writeFileSync(cache, form)
    const start = `import { runCli } from ${JSON.stringify(join(folder, 'cli/main.js'))}; await runCli([...process.argv.slice(0, 1), 'umbra', '--version'])`
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', start])
    t.is(stdout, `${JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version}\n`)
  }
})

test('the checks of documents in the bundle say what those of the files say', async (t) => {
  const { load } = (await import(join(PROGRAMS, 'load.js'))) as { load(name: string): Promise<unknown> }
  const bundled = (await load('shadow/documents/document-schemas')) as { checkShape: typeof checkShape }
  const said = (check: typeof checkShape, name: (typeof SCHEMA_NAMES)[number], value: unknown): string => {
    try {
      check(name, value, 'it')
      return 'right'
    } catch (error) {
      return (error as Error).message
    }
  }
  const values = [
    undefined,
    null,
    [],
    {},
    { format: 1 },
    { event: 'freeze' },
    { kind: 'script' },
    { kind: 'sqlite', name: 'x', databases: ['relative'] },
  ]
  let faults = 0
  for (const name of SCHEMA_NAMES) {
    for (const value of values) {
      const message = said(checkShape, name, value)
      if (message !== 'right') faults++
      t.is(said(bundled.checkShape, name, value), message, `${name}: ${message}`)
    }
  }
  t.ok(faults > values.length, `${faults} faults`)
})
