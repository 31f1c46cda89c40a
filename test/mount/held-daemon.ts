// A daemon that holds back each WRITE, for a time or until it is told to let go; on demand its flush
// leaves out the marker, as a planted fault. Run as a process of its own.
//
// Usage: held-daemon.ts DAEMON-OPTIONS {"holdMs": number or null, "skipsMarker": boolean}
// Messages out: ready, held {held}. Messages in: let-go (answered by held).

import { setTimeout as sleep } from 'node:timers/promises'
import { FlushHelper, type FlushMarkers } from '../../src/daemon/flush.ts'
import type { MountedOptions } from '../../src/daemon/launch.ts'
import { runVolumeDaemon } from '../../src/daemon/volume-daemon.ts'
import { OPCODE } from '../../src/fuse/protocol.ts'

const options = JSON.parse(process.argv[2] ?? '') as MountedOptions
const { holdMs, skipsMarker } = JSON.parse(process.argv[3] ?? '') as {
  holdMs: number | null
  skipsMarker: boolean
}
let held = 0
let letGo: () => void = () => {}
const told = new Promise<void>((resolve) => {
  letGo = resolve
})

if (skipsMarker) {
  const { flush } = FlushHelper.prototype
  // The helper knocks at a name that is no marker, and nobody waits for a RELEASE.
  const noMarkers: FlushMarkers = {
    arm: (onRelease) => {
      queueMicrotask(onRelease)
      return { name: 'lost+found', disarm: () => {} }
    },
  }
  FlushHelper.prototype.flush = function (this: FlushHelper, folder: string) {
    return flush.call(this, folder, noMarkers)
  }
}

const daemon = await runVolumeDaemon(options, {
  toTerminal: true,
  onRequest: (opcode) => {
    if (opcode !== OPCODE.WRITE) return undefined
    held++
    return holdMs === null ? told : sleep(holdMs)
  },
})
process.on('message', (message: { type?: string }) => {
  if (message.type !== 'let-go') return
  letGo()
  process.send?.({ type: 'held', held })
})
process.send?.({ type: 'ready' })
await daemon.whenEnded
process.exit(0)
