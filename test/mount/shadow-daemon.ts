// A volume's daemon that tells of each WRITE and CREATE that arrives, and holds no longer than it is told to. Run as
// a process of its own.
//
// Usage: shadow-daemon.ts DAEMON-OPTIONS {"holdMs": number, "windowMs": number}
// Messages out: ready; write and create for each of them, held ones too, once each.

import type { MountedOptions } from '../../src/daemon/launch.ts'
import type { SequenceLimits } from '../../src/daemon/served-sequence.ts'
import { runVolumeDaemon } from '../../src/daemon/volume-daemon.ts'
import { OPCODE } from '../../src/fuse/protocol.ts'

const options = JSON.parse(process.argv[2] ?? '') as MountedOptions
const shadowLimits = JSON.parse(process.argv[3] ?? '') as SequenceLimits

const daemon = await runVolumeDaemon(options, {
  toTerminal: true,
  shadowLimits,
  onRequest: (opcode) => {
    if (opcode === OPCODE.WRITE) process.send?.({ type: 'write' })
    if (opcode === OPCODE.CREATE) process.send?.({ type: 'create' })
    return undefined
  },
})
process.send?.({ type: 'ready' })
await daemon.whenEnded
process.exit(0)
