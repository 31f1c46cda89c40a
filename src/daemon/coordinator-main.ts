// The coordinator's process: one for each user, until nobody has needed it for a while.
//
// Always true: it tells its starter once, by message, that it listens or why it does not (BUSY: another
// one runs); the exit code is 0 after a clean end and 1 otherwise.

import { runCoordinatorDaemon } from './coordinator-daemon.ts'
import { tellStarter, toFailed } from './tell-starter.ts'

async function main(): Promise<void> {
  process.title = 'umbra: coordinator'
  try {
    const daemon = await runCoordinatorDaemon()
    await tellStarter({ ready: { pid: process.pid, socket: daemon.socket } })
    if (process.connected) process.disconnect()
    await daemon.whenEnded
    process.exit(0)
  } catch (error) {
    await tellStarter(toFailed(error))
    process.exit(1)
  }
}

void main()
