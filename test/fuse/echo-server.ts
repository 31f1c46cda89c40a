// Serves the echo file system on the folder named first, as a child process of tests and of the bench.
// Messages out: ready {mountPoint, by, tuned}, failed {code, message}, counts {...}, ended {reason},
// uncaught {message}. Messages in: counts, close, unmount.

import { FuseChannel } from '../../src/fuse/device/channel.ts'
import { mountDevice } from '../../src/fuse/device/mount.ts'
import { tuneMount } from '../../src/fuse/device/tuning.ts'
import { unmountDevice } from '../../src/fuse/device/unmount.ts'
import { EchoFileSystem } from './echo-file-system.ts'

const [mountPoint, optionsText] = process.argv.slice(2)
const options = {
  spinUs: 50,
  delayMs: 0,
  attrSeconds: 0,
  capacityBytes: 64 << 20,
  maxWriteBytes: 1 << 20,
  replyBufferLimit: 64,
  fsName: '/volumes/echo, of \\ tests',
  readOnly: false,
  tolerateErrors: false,
  ...(JSON.parse(optionsText ?? '{}') as object),
}

function say(type: string, fields: object = {}): void {
  process.send?.({ type, ...fields })
}

async function serve(): Promise<void> {
  const mount = await mountDevice({
    mountPoint: mountPoint as string,
    fsName: options.fsName,
    readOnly: options.readOnly,
  })
  let fileSystem: EchoFileSystem | undefined
  const channel = FuseChannel.open(mount.fd, options, (replies) => {
    fileSystem = new EchoFileSystem(replies, options, (reason) => {
      say('ended', { reason })
      process.disconnect?.()
    })
    return fileSystem
  })
  const tuned = await tuneMount(mount.mountPoint)
  process.on('message', (message: { type: string }) => {
    if (message.type === 'counts')
      say('counts', { mostWaiting: fileSystem?.mostWaiting, aligned: fileSystem?.aligned })
    if (message.type === 'close') {
      channel.close()
      process.disconnect?.()
    }
    if (message.type === 'unmount')
      unmountDevice(mount.mountPoint).catch((error: Error) => say('failed', { message: error.message }))
  })
  say('ready', { mountPoint: mount.mountPoint, by: mount.by, tuned })
}

if (options.tolerateErrors)
  process.on('uncaughtException', (error) => say('uncaught', { message: error.message }))

serve().catch((error: Error & { code?: string; context?: object }) => {
  say('failed', { code: error.code, message: error.message, context: error.context })
  process.disconnect?.()
})
