// Serves an ext4 in memory through the dispatcher on the folder named first, as a child process.
// Messages out: ready, failed {message}, ended {reason}, errors [text], requests {opcode: count},
// released {written}. Messages in: errors, requests, unmount, arm (answers armed {name}).

import { FlushHelper } from '../../src/daemon/flush.ts'
import { Ext4, formatExt4 } from '../../src/ext4/ext4.ts'
import { FuseChannel } from '../../src/fuse/device/channel.ts'
import { mountDevice } from '../../src/fuse/device/mount.ts'
import { tuneMount } from '../../src/fuse/device/tuning.ts'
import { unmountDevice } from '../../src/fuse/device/unmount.ts'
import { FuseDispatcher } from '../../src/fuse/dispatch.ts'
import { FlushMarker } from '../../src/fuse/flush-marker.ts'
import { LiveTree } from '../../src/fuse/live-tree.ts'
import { OPCODE } from '../../src/fuse/protocol.ts'
import type { SnapshotProvider } from '../../src/fuse/snapshot-provider.ts'
import { SnapshotsView } from '../../src/fuse/snapshots-view.ts'
import { MemoryStorage } from '../../src/storage/memory-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'

const [mountPoint = '', optionsText = '{}'] = process.argv.slice(2)
const options = {
  writeBack: true,
  writeDelayMs: 0,
  flushes: true,
  sizeMib: 256,
  ...(JSON.parse(optionsText) as object),
}

function say(type: string, fields: object = {}): void {
  process.send?.({ type, ...fields })
}

/** Snapshots that are empty file systems: enough to see the view through a mount. */
class EmptySnapshots implements SnapshotProvider {
  readonly #entries: { name: string; epoch: number; createdAtMs: number }[] = []
  #epoch = 0

  list() {
    return this.#entries
  }
  open() {
    const device = new PlainDevice(new MemoryStorage({ sizeBytes: 16 << 20 }))
    formatExt4(device)
    return Ext4.open(device, { readOnly: true })
  }
  async create(name: string) {
    this.#entries.push({ name, epoch: ++this.#epoch, createdAtMs: Date.now() })
  }
  async remove(name: string) {
    this.#entries.splice(
      this.#entries.findIndex((entry) => entry.name === name),
      1,
    )
  }
}

async function serve(): Promise<void> {
  const device = new PlainDevice(new MemoryStorage({ sizeBytes: options.sizeMib << 20 }))
  formatExt4(device)
  const marker = new FlushMarker()
  const live = new LiveTree(Ext4.open(device))
  const provider = new EmptySnapshots()
  const operations = new SnapshotsView({ live, provider, marker, control: '/run/control' })
  const errors: string[] = []
  const requests: Record<number, number> = {}
  let written = 0
  // The helper is started in "/", where a bare name of the TypeScript loader means nothing.
  process.execArgv = ['--import', import.meta.resolve('tsx')]
  const helper = FlushHelper.start()
  const mount = await mountDevice({ mountPoint, fsName: 'tree' })
  FuseChannel.open(
    mount.fd,
    {},
    (replies) =>
      new FuseDispatcher(replies, {
        operations,
        writeBack: options.writeBack,
        ...(options.flushes && { flushInode: () => helper.flush(mountPoint, marker) }),
        onError: (error, { opcode }) => errors.push(`${opcode}: ${(error as Error).stack ?? error}`),
        onRequest: (opcode) => {
          requests[opcode] = (requests[opcode] ?? 0) + 1
          if (opcode !== OPCODE.WRITE || options.writeDelayMs === 0) return undefined
          return new Promise((resolve) => {
            setTimeout(() => {
              written++
              resolve()
            }, options.writeDelayMs)
          })
        },
        onEnded: (reason) => {
          say('ended', { reason })
          helper.stop()
          process.disconnect?.()
        },
      }),
  )
  process.on('message', ({ type }: { type: string }) => {
    if (type === 'errors') say('errors', { errors })
    if (type === 'requests') say('requests', { requests })
    if (type === 'arm') say('armed', { name: marker.arm(() => say('released', { written })).name })
    if (type === 'unmount') {
      unmountDevice(mount.mountPoint).catch((error: Error) => say('failed', { message: error.message }))
    }
  })
  // A test that died leaves no mount behind; after a clean end there is none any more.
  process.on('disconnect', () => {
    unmountDevice(mount.mountPoint, { lazy: true })
      .catch(() => {})
      .finally(() => process.exit())
  })
  // Without this, the kernel writes back at once and nothing is left to wait for.
  await tuneMount(mount.mountPoint)
  say('ready')
}

serve().catch((error: Error) => {
  say('failed', { message: error.stack ?? error.message })
  process.disconnect?.()
})
