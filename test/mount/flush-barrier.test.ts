// The flush is a barrier: whatever a program had written when `snapshot create` was called is in the
// snapshot, however long the daemon takes for its WRITEs. The oracle is proved by a daemon that leaves out
// the marker: syncfs by itself returns while WRITEs wait.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { DaemonOptions } from '../../src/daemon/launch.ts'
import { type Child, startChild } from '../support/child.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { type Lab, makeLab, umbra } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 170_000 }
const HELD_DAEMON = new URL('./held-daemon.ts', import.meta.url)
const FILES = 4
const FILE_MIB = 14

/** Buffered writes of many MiB into files that stay open: closing them would write them back. */
const CLIENT = `import sys
files = []
for i in range(${FILES}):
    file = open(f'{sys.argv[1]}/f{i}', 'wb', buffering=0)
    for part in range(${FILE_MIB}):
        file.write(bytes([i * 16 + part + 1]) * (1 << 20))
    files.append(file)
print('written', flush=True)
sys.stdin.readline()`

/** Has what the client wrote counted in the snapshot: whole MiBs of the right bytes. */
async function wholeMib(folder: string): Promise<number> {
  const program = `import sys
found = 0
for i in range(${FILES}):
    try:
        content = open(f'{sys.argv[1]}/f{i}', 'rb').read()
    except FileNotFoundError:
        continue
    for part in range(${FILE_MIB}):
        found += content[part << 20:part + 1 << 20] == bytes([i * 16 + part + 1]) * (1 << 20)
print(found)`
  return Number((await run('python3', ['-c', program, folder])).stdout)
}

async function serve(t: Assertion, lab: Lab, how: object): Promise<Child> {
  const options: DaemonOptions = {
    volumePath: lab.volume,
    mountPoint: lab.dir,
    readOnly: false,
    writeThrough: false,
    allowOther: false,
    accessTimes: true,
    snapshot: null,
    driver: 'device',
    hooks: null,
  }
  const daemon = startChild(t, HELD_DAEMON, { args: [JSON.stringify(options), JSON.stringify(how)] })
  await daemon.message('ready')
  return daemon
}

/** Runs the client, takes a snapshot while it still has its files open, and looks into the snapshot. */
async function snapshotOfWrites(t: Assertion, how: object): Promise<{ mib: number; held: number }> {
  const lab = await makeLab(t, '256M')
  const daemon = await serve(t, lab, how)
  mkdirSync(join(lab.dir, 'd'))
  const { spawn } = await import('node:child_process')
  const client = spawn('python3', ['-c', CLIENT, join(lab.dir, 'd')], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => void client.kill('SIGKILL'), { order: -2 })
  await new Promise<void>((resolve) => client.stdout.once('data', () => resolve()))
  await umbra(['snapshot', 'create', lab.dir, 'one'])
  daemon.send({ type: 'let-go' })
  const { held } = (await daemon.message('held')) as unknown as { held: number }
  const mib = await wholeMib(join(lab.dir, '.snapshots/one/d'))
  client.stdin.end('\n')
  await new Promise((resolve) => client.once('exit', resolve))
  await umbra(['unmount', lab.dir])
  await daemon.exit()
  return { mib, held }
}

test('all that was written before the command is in the snapshot', NEEDS, async (t) => {
  const { mib, held } = await snapshotOfWrites(t, { holdMs: 500, skipsMarker: false })
  t.ok(held > 0, `${held} WRITEs were held back`)
  t.is(mib, FILES * FILE_MIB, 'every MiB is there')
})

test('a daemon that skips the marker is found out', NEEDS, async (t) => {
  // WRITEs wait until the snapshot is there: no barrier, no content, whatever the machine's speed.
  const { mib, held } = await snapshotOfWrites(t, { holdMs: null, skipsMarker: true })
  t.ok(held > 0, `${held} WRITEs were held back`)
  t.ok(mib < FILES * FILE_MIB, `${mib} MiB are there`)
})
