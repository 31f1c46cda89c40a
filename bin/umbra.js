#!/usr/bin/env node
// The executable: runs the compiled command line, or says how to compile it.

import { existsSync } from 'node:fs'

const main = new URL('../dist/cli/main.js', import.meta.url)
if (existsSync(main)) {
  const { runCli } = await import(main.href)
  await runCli(process.argv)
} else {
  process.stderr.write('umbra: this checkout is not built yet; run "npm ci && npm run build" in it\n')
  process.exitCode = 1
}
