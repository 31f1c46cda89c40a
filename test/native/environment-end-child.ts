// Child of environment-end.test.ts: brings itself into the state named and ends.

import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { requireAddon } from '../../src/base/addon.ts'

const addon = requireAddon()
const folder = mkdtempSync(join(tmpdir(), 'umbra-end-'))
const fd = openSync(join(folder, 'file'), 'w+')
const block = new Uint8Array(1 << 20)
addon.pwrite(fd, block, 0, block.length, 0)
rmSync(folder, { recursive: true })
// The end must not wait for the parent.
process.channel?.unref()

function startReads(count: number, done: (result: number) => void = () => {}): void {
  for (let i = 0; i < count; i++) addon.preadLater(fd, new Uint8Array(1 << 20), 0, 1 << 20, 0, done)
}

/** The addon is loaded by path: a worker started from a string resolves no TypeScript. */
const WORKER = `
const { workerData, parentPort } = require('node:worker_threads')
const addon = require(workerData.addon)
if (workerData.fuse) {
  const fd = addon.openFuseDevice()
  const handle = addon.fuseOpen({ fd, maxWriteBytes: 8192, slotCount: 2, spinUs: 0, onBatch() {} })
  if (typeof handle === 'number') throw new Error('fuseOpen ' + handle)
}
for (let i = 0; i < 200; i++) addon.preadLater(workerData.fd, new Uint8Array(1 << 20), 0, 1 << 20, 0, () => {})
parentPort.postMessage('started')
if (workerData.end) process.exit(0)
`

async function runWorkers(fuse: boolean, end: boolean): Promise<void> {
  const path = new URL('../../native/build/Release/umbra.node', import.meta.url).pathname
  for (let i = 0; i < 5; i++) {
    const worker = new Worker(WORKER, { eval: true, workerData: { addon: path, fd, fuse, end } })
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    await new Promise((resolve, fail) => worker.once('message', resolve).once('error', fail))
    if (!end) await worker.terminate()
    await ended
  }
}

function openFuse(): { close(): void } {
  const device = addon.openFuseDevice()
  const handle = addon.fuseOpen({ fd: device, maxWriteBytes: 8192, slotCount: 2, spinUs: 0, onBatch() {} })
  if (typeof handle === 'number') throw new Error(`fuseOpen: ${handle}`)
  return handle
}

const CASES: Record<string, () => unknown> = {
  'exit-at-load': () => process.exit(0),
  'exit-with-reads': () => {
    startReads(200)
    setTimeout(() => process.exit(0), 2)
  },
  'exit-with-flush': () => {
    addon.pwrite(fd, block, 0, block.length, 0)
    addon.fdatasyncLater(fd, () => {})
    process.exit(0)
  },
  'exit-in-callback': () => startReads(20, () => process.exit(0)),
  'fall-off-the-end': () => {
    let left = 20
    startReads(20, () => left--)
    process.once('exit', () => {
      if (left !== 0) process.exitCode = 9
    })
  },
  'worker-terminated': () => runWorkers(false, false),
  'worker-ends': () => runWorkers(false, true),
  'throw-in-callback': () =>
    startReads(1, () => {
      throw new Error('thrown on purpose')
    }),
  'caught-in-callback': () => {
    let seen = 0
    process.on('uncaughtException', () => {
      seen++
      if (seen === 20) process.exitCode = 0
    })
    process.exitCode = 8
    startReads(20, () => {
      throw new Error('thrown on purpose')
    })
  },
  'fuse-exit': () => {
    openFuse()
    // Not mounted: the first read says so, and the channel ends by itself or with the process.
    setTimeout(() => process.exit(0), 5)
  },
  'fuse-worker-terminated': () => runWorkers(true, false),
  'fuse-closed-twice': () => {
    const handle = openFuse()
    handle.close()
    handle.close()
    closeSync(fd)
  },
}

await CASES[process.argv[2] as string]?.()
