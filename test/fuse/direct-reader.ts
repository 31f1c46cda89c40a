// Child of tests: reads COUNT blocks of 4096 bytes past the page cache, from an offset on.

import { closeSync, constants, openSync } from 'node:fs'
import { requireAddon } from '../../src/base/addon.ts'

const [path, offset, count] = process.argv.slice(2)
const addon = requireAddon()
const fd = openSync(path as string, constants.O_RDONLY | constants.O_DIRECT)
const bytes = addon.alignedBytes(Number(count) * 4096) as Uint8Array
for (let i = 0; i < Number(count); i++) addon.pread(fd, bytes, i * 4096, 4096, Number(offset) + i * 4096)
closeSync(fd)
process.send?.({ type: 'read', base64: Buffer.from(bytes).toString('base64') })
process.disconnect?.()
