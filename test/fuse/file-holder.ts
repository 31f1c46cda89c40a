// Child of tests: opens the file named and holds it.

import { openSync } from 'node:fs'

openSync(process.argv[2] as string, 'r')
process.send?.({ type: 'open' })
setInterval(() => {}, 60_000)
