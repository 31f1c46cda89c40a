// The loader that the suite's processes run by: what runs is what a file says now, and its lines are told.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const LOADER = new URL('../../scripts/typescript.mjs', import.meta.url).href
const UNITS = fileURLToPath(new URL('../../src/base/units.ts', import.meta.url))

test('a changed file runs as it is now, and a failure names its line', async (t) => {
  const path = join(tempFolder(t), 'program.ts')
  const start = () => run(process.execPath, ['--import', LOADER, path], { check: false, cwd: '/' })
  const program = (sizeBytes: number): string => `import { formatSize } from ${JSON.stringify(UNITS)}

interface Sized {
  readonly sizeBytes: number
}
const sized: Sized = { sizeBytes: ${sizeBytes} }
console.log(formatSize(sized.sizeBytes))
if (sized.sizeBytes > 4096) throw new Error('too large')
`
  writeFileSync(path, program(4096))
  for (let i = 0; i < 2; i++) t.is((await start()).stdout, '4.0 KiB\n')
  writeFileSync(path, program(8192))
  const failed = await start()
  t.is(failed.stdout, '8.0 KiB\n')
  t.ok(failed.stderr.includes(`${path}:8:`), failed.stderr)
})
