// A process that shows a snapshot by itself stands still while the snapshot goes and its blocks are used
// for other files: when it goes on, it must answer with an error, and never with what is there now.
//
// Always true: what was read before stays as it was; the request that finds the snapshot gone was sent
// while its server stood still, so that it is answered before anything else is heard.

// deadline 240

import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { statusRequest } from '../../src/daemon/control-protocol.ts'
import { daemonOfMount, findMount } from '../../src/daemon/locate.ts'
import { requires } from '../support/requires.ts'
import { until } from '../support/run.ts'
import { mountVolume } from '../support/umbra.ts'
import { type Lab, makeLab, umbra, umbraJson } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck'), timeout: 240_000 }
const LATE_READ = fileURLToPath(new URL('./late-read.py', import.meta.url))
const MIB = 1 << 20
const FILE_MIB = 24
/** What is read by the request that waits, and by the one that comes later. */
const WAITING_MIB = 9
const LATER_MIB = 17
const OLD_BYTE = 0x11
const LIVE_BYTE = 0x22
const OTHER_BYTE = 0xcc

function fill(path: string, sizeMib: number, byte: number): void {
  const file = openSync(path, 'w')
  const bytes = Buffer.alloc(MIB, byte)
  for (let i = 0; i < sizeMib; i++) writeSync(file, bytes, 0, MIB, i * MIB)
  fsyncSync(file)
  closeSync(file)
}

interface Answer {
  /** Values of the bytes that were read. */
  readonly values: readonly number[]
  readonly error: string | null
}

/** A process with a file open; see late-read.py. */
class Reader {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(t: Assertion, path: string) {
    this.#child = spawn('python3', [LATE_READ, path], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => void this.#child.kill('SIGKILL'), { order: -1 })
    const { stdout } = this.#child
    if (!stdout) throw new Error('no standard output')
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]()
  }

  async next(): Promise<string> {
    const { value } = (await this.#lines.next()) as { value?: string }
    if (value === undefined) throw new Error('the reader ended')
    return value
  }

  ask(atMib: number): void {
    this.#child.stdin?.write(`${atMib * MIB}\n`)
  }

  async read(atMib: number): Promise<Answer> {
    this.ask(atMib)
    return JSON.parse(await this.next()) as Answer
  }

  /** Number of the system call that it waits in; undefined: it runs. */
  waitsIn(): string | undefined {
    const call = readFileSync(`/proc/${this.#child.pid}/syscall`, 'latin1').split(' ')[0]
    return call === 'running' ? undefined : call
  }
}

/** Third field of /proc/PID/stat: the name before it may hold anything. */
function stateOf(pid: number): string | undefined {
  return readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.[0]
}

interface Shown {
  readonly reader: Reader
  readonly pid: number
}

/** The snapshot `old` of a file full of OLD_BYTE, which is LIVE_BYTE by now, mounted by itself. */
async function showOld(t: Assertion, lab: Lab): Promise<Shown> {
  fill(join(lab.dir, 'f'), FILE_MIB, OLD_BYTE)
  await umbra(['snapshot', 'create', lab.dir, 'old'])
  fill(join(lab.dir, 'f'), FILE_MIB, LIVE_BYTE)
  const folder = lab.at('shown')
  mkdirSync(folder)
  await mountVolume(t, lab.volume, folder, ['--snapshot', 'old'])
  const reader = new Reader(t, join(folder, 'f'))
  t.is(await reader.next(), 'open')
  // Also has the server know where these parts are, so that no checksum of the map saves it later.
  for (const atMib of [WAITING_MIB, LATER_MIB]) {
    t.alike(await reader.read(atMib), { values: [OLD_BYTE], error: null }, 'it shows the snapshot')
  }
  return { reader, pid: await serverOf(folder) }
}

/** By the mount's own socket: the volume's daemon is another process. */
async function serverOf(folder: string): Promise<number> {
  const mount = await findMount(folder)
  const client = mount && (await daemonOfMount(mount))
  if (!client) throw new Error(`Nobody serves ${folder}`)
  const { daemon, mountedSnapshot } = await client.call(statusRequest)
  client.close()
  if (!daemon || mountedSnapshot === null) throw new Error(`${folder} shows no single snapshot`)
  return daemon.pid
}

/** Stops the server, with a read on its way. */
async function stop(t: Assertion, { reader, pid }: Shown): Promise<void> {
  process.kill(pid, 'SIGSTOP')
  t.teardown(() => continueIfThere(pid), { order: -1 })
  await until('it stands still', () => stateOf(pid) === 'T')
  const idle = await until('the reader waits for us', () => reader.waitsIn())
  reader.ask(WAITING_MIB)
  await until('its request waits', () => ![undefined, idle].includes(reader.waitsIn()))
}

/** Has both the read that was sent meanwhile and one that comes later answered. */
async function judge(t: Assertion, { reader, pid }: Shown): Promise<void> {
  process.kill(pid, 'SIGCONT')
  const refused = { values: [], error: 'ESTALE' }
  t.alike(JSON.parse(await reader.next()), refused, 'the read that waited')
  t.alike(await reader.read(LATER_MIB), refused, 'one that comes later')
}

function continueIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT')
  } catch {
    // It has ended.
  }
}

test('row 30: a reader that stood still while its snapshot was evicted gives an error', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  const shown = await showOld(t, lab)
  await stop(t, shown)
  const { evicted } = await umbraJson<{ evicted: string[] }>(['policy', lab.dir, '--snapshot-limit', '16M'])
  t.alike(evicted, ['old'])
  await reuseAll(lab)
  await judge(t, shown)
})

test(
  'a reader that stood still over the death of its daemon and the end of its snapshot gives an error',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '128M')
    const { pid } = await lab.mount()
    const shown = await showOld(t, lab)
    await stop(t, shown)
    process.kill(pid, 'SIGKILL')
    await umbra(['mount', lab.volume, lab.dir])
    await umbra(['snapshot', 'delete', lab.dir, 'old'])
    await reuseAll(lab)
    await judge(t, shown)
  },
)

/** Until every block that was the snapshot's holds something else. */
async function reuseAll(lab: Lab): Promise<void> {
  for (let i = 0; i < 3; i++) await umbra(['sync', lab.dir])
  fill(join(lab.dir, 'other'), 3 * FILE_MIB, OTHER_BYTE)
  await umbra(['sync', lab.dir])
}
