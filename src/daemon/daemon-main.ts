// The daemon's process: serves one mount until it is unmounted, or an unmounted volume until nobody asks
// for it any more, then ends.
//
// Always true: it tells its starter once, by message, that the mount is ready or why it is not; the
// exit code is 0 after a clean end and 1 otherwise.

import { UmbraError } from '../base/errors.ts'
import type { DaemonMessage, DaemonOptions } from './launch.ts'
import { runMountlessDaemon } from './mountless-daemon.ts'
import { runVolumeDaemon } from './volume-daemon.ts'

function tell(message: DaemonMessage): Promise<void> {
  return new Promise((resolve) => {
    if (!process.connected || !process.send) return resolve()
    process.send(message, undefined, undefined, () => resolve())
  })
}

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2] ?? '{}') as DaemonOptions
  const { mountPoint, volumePath } = options
  process.title = `umbra: ${mountPoint ?? volumePath}`
  try {
    const daemon =
      mountPoint === null
        ? await runMountlessDaemon(volumePath)
        : await runVolumeDaemon({ ...options, mountPoint }, { toTerminal: false })
    await tell({ ready: { pid: process.pid, socket: daemon.socket } })
    if (process.connected) process.disconnect()
    await daemon.whenEnded
    process.exit(0)
  } catch (error) {
    const failed = {
      code: error instanceof UmbraError ? error.code : 'IO_FAILED',
      message: error instanceof Error ? error.message : String(error),
    }
    await tell({ failed })
    process.exit(1)
  }
}

void main()
