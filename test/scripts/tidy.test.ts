// The house rules, each proved with a planted breach.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { tidy } from '../../scripts/tidy.ts'

function complaintsAbout(folder: string, text: string, path = 'volume/x.ts'): readonly string[] {
  mkdirSync(join(folder, path, '..'), { recursive: true })
  writeFileSync(join(folder, path), text)
  return tidy(folder).complaints
}

const HEAD = '// Why this exists.\n'

test('tidy() has nothing to say about a tidy file', async (t) => {
  t.alike(complaintsAbout(await t.tmp(), `${HEAD}export const x = Buffer.alloc(1)\n`), [])
})

test('tidy() finds each planted breach, once', async (t) => {
  const breaches: Record<string, string> = {
    'no head': 'export const x = 1\n',
    'too long': HEAD + 'x\n'.repeat(500),
    console: `${HEAD}console.log(1)\n`,
    marker: `${HEAD}// TO${'DO'} later\n`,
    'async timer': `${HEAD}setTimeout(async () => {}, 1)\n`,
    'async listener': `${HEAD}socket.on('data', async () => {})\n`,
    'not ASCII': `${HEAD}// caf\u00e9\n`,
    Buffer: `${HEAD}const b = Buffer(4)\n`,
    debugger: `${HEAD}debugger\n`,
  }
  for (const [name, text] of Object.entries(breaches)) {
    const complaints = complaintsAbout(await t.tmp(), text)
    t.is(complaints.length, 1, `${name}: ${complaints.join(', ')}`)
  }
})

test('tidy() allows console in cli/ and fails on a folder without files', async (t) => {
  t.alike(complaintsAbout(await t.tmp(), `${HEAD}console.log(1)\n`, 'cli/x.ts'), [])
  t.is(tidy(await t.tmp()).complaints.length, 1)
})
