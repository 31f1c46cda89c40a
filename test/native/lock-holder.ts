// Child of the lock test: takes the exclusive lock of the file named, says so, and holds it.

import { openSync } from 'node:fs'
import { requireAddon } from '../../src/base/addon.ts'

const fd = openSync(process.argv[2] as string, 'r+')
process.send?.({ type: 'locked', result: requireAddon().lock(fd, true) })
setInterval(() => {}, 60_000)
