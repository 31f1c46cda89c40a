// Runs one bench by name, or all of them; sets up first. `npm run bench -- NAME [options]`.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'

const root = new URL('..', import.meta.url)
const names = readdirSync(new URL('bench', root))
  .filter((file) => file.endsWith('.bench.ts'))
  .map((file) => file.replace('.bench.ts', ''))
const [first, ...rest] = process.argv.slice(2)
if (first !== undefined && !names.includes(first)) {
  console.error(`No bench is named ${first}: there are ${names.join(', ')}`)
  process.exit(2)
}
if (existsSync(new URL('scripts/setup.mjs', root))) {
  const setup = spawnSync(process.execPath, ['scripts/setup.mjs'], { cwd: root, stdio: 'inherit' })
  if (setup.status !== 0) process.exit(setup.status ?? 1)
}
for (const name of first === undefined ? names : [first]) {
  console.log(`\n== ${name}`)
  const done = spawnSync(process.execPath, ['--import', 'tsx', `bench/${name}.bench.ts`, ...rest], {
    cwd: root,
    stdio: 'inherit',
  })
  if (done.status !== 0) process.exit(done.status ?? 1)
}
