// `npm run quickstart`: sets up (plain Node, nothing installed yet), then runs the tour.

import { spawnSync } from 'node:child_process'

const cwd = new URL('..', import.meta.url)
for (const args of [['scripts/setup.mjs'], ['--import', 'tsx', 'scripts/quickstart-tour.ts']]) {
  const done = spawnSync(process.execPath, args, { cwd, stdio: 'inherit' })
  if (done.status !== 0) process.exit(done.status ?? 1)
}
