// The flush before a snapshot is exact: every write(2) that had returned is in it, also when the daemon
// is slow to take the kernel's WRITEs, and the flush by itself would return before they are answered.

import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import { isRunning } from '../../src/daemon/is-running.ts'
import type { DaemonOptions } from '../../src/daemon/launch.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { isMountPoint, mountVolume, umbra } from '../support/umbra.ts'

/** Longer than the command takes to ask for the flush: its WRITEs are under way or still to come. */
const DELAY_MS = 2000

const WRITER = `
const fs = require('fs')
for (let i = 0; i < 3; i++) {
  const fd = fs.openSync(process.argv[1] + '/f' + i, 'w')
  fs.writeSync(fd, Buffer.alloc(200000, 'content ' + i + ' '))
}
console.log('written')
setInterval(() => {}, 1000)
`

test('snapshot create waits for WRITEs that the daemon delays', requires('root', '/dev/fuse'), async (t) => {
  const folder = tempFolder(t)
  const mountPoint = join(folder, 'mnt')
  mkdirSync(mountPoint)
  const volumePath = join(folder, 'v.umbra')
  await umbra(['create', volumePath, '--size', '256M'])
  const options: DaemonOptions = {
    volumePath,
    mountPoint,
    readOnly: false,
    writeThrough: false,
    allowOther: false,
    accessTimes: true,
    snapshot: null,
    driver: 'device',
    hooks: null,
  }
  const daemon = fork(
    fileURLToPath(new URL('./slow-daemon.ts', import.meta.url)),
    [JSON.stringify(options), String(DELAY_MS)],
    { stdio: ['ignore', 'ignore', 'ignore', 'ipc'], execArgv: ['--import', 'tsx'] },
  )
  t.teardown(async () => {
    if (isMountPoint(mountPoint)) await run('umount', ['-l', mountPoint], { check: false })
    daemon.kill('SIGKILL')
  })
  await message(daemon)
  const content = (i: number): Buffer => Buffer.alloc(200_000, `content ${i} `)
  // close(2) writes back by itself, also where a started program inherits and closes: so a process of its
  // own writes, keeps the files open, and starts nothing.
  const writer = spawn(process.execPath, ['-e', WRITER, mountPoint], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => writer.kill('SIGKILL'))
  await once(writer.stdout, 'data')

  const { stdout } = await umbra(['snapshot', 'create', mountPoint, 'one'])

  t.comment(stdout.trim())
  for (let i = 0; i < 3; i++) {
    t.ok(readFileSync(join(mountPoint, '.snapshots/one', `f${i}`)).equals(content(i)), `f${i} is whole`)
  }
  writer.kill('SIGKILL')
  await once(writer, 'exit')
  const ended = message(daemon)
  await umbra(['unmount', mountPoint])
  t.ok(((await ended)['delayed'] ?? 0) > 0, 'WRITEs were delayed')
})

test('a mount detached by others is not taken for lost writes', requires('root', '/dev/fuse'), async (t) => {
  const folder = tempFolder(t)
  const volume = join(folder, 'v.umbra')
  await umbra(['create', volume, '--size', '64M'])
  const mounted = await mountVolume(t, volume, join(folder, 'mnt'))
  const fd = openSync(join(mounted.folder, 'open'), 'w')
  let isOpen = true
  const close = () => {
    if (isOpen) closeSync(fd)
    isOpen = false
  }
  t.teardown(close, { order: -1 })
  writeSync(fd, 'content')
  await run('umount', ['-l', mounted.folder])

  const refused = await umbra(['snapshot', 'create', volume, 'one'], { check: false })
  t.ok(/mnt was unmounted/.test(refused.stderr), refused.stderr.trim())
  t.absent(/lost/.test(refused.stderr))

  close()
  await until('the daemon has ended', () => !isRunning(mounted.pid))
  await umbra(['check', volume])
  await umbra(['mount', volume, mounted.folder])
  t.is(readFileSync(join(mounted.folder, 'open'), 'utf8'), 'content', 'nothing was lost')
})

function message(child: ReturnType<typeof fork>): Promise<Record<string, number>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('The daemon said nothing within 60 s')), 60_000)
    child.once('message', (value) => {
      clearTimeout(timer)
      resolve(value as Record<string, number>)
    })
  })
}
