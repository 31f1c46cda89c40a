// A daemon whose every WRITE waits before it is handled: for the test of the flush. Run as a process of
// its own with the daemon's options as JSON and the delay in milliseconds.

import { setTimeout as sleep } from 'node:timers/promises'
import type { MountedOptions } from '../../src/daemon/launch.ts'
import { runVolumeDaemon } from '../../src/daemon/volume-daemon.ts'
import { OPCODE } from '../../src/fuse/protocol.ts'

const options = JSON.parse(process.argv[2] ?? '') as MountedOptions
const delayMs = Number(process.argv[3])
let delayed = 0
const daemon = await runVolumeDaemon(options, {
  toTerminal: true,
  onRequest: (opcode) => {
    if (opcode !== OPCODE.WRITE) return undefined
    delayed++
    return sleep(delayMs)
  },
})
process.on('disconnect', () => process.exit(1))
process.send?.({ ready: true })
await daemon.whenEnded
process.send?.({ delayed })
process.exit(0)
