// kill -9 of the daemon under load: the volume opens at its last commit, what was fsynced is there,
// snapshots are what they were, and nothing stays behind, round after round on one volume.

// deadline 240

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { isRunning } from '../../src/daemon/is-running.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { isMountPoint } from '../support/umbra.ts'
import {
  assertSameTree,
  exportRaw,
  isLong,
  judgeVolume,
  type Lab,
  makeLab,
  recordTree,
  type Tree,
  umbra,
  umbraJson,
  Workload,
} from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 1_800_000 }
const ROUNDS = isLong ? 40 : 3
const WRITER = fileURLToPath(new URL('./durable-writer.py', import.meta.url))

/** What writes durably; its promises are in `ledger`. */
function startWriter(t: Assertion, folder: string, ledger: string, seed: number): ChildProcess {
  const writer = spawn('python3', [WRITER, 'write', folder, ledger, String(seed)], { stdio: 'ignore' })
  t.teardown(() => void writer.kill('SIGKILL'), { order: -1 })
  return writer
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

/** Its processes, the helper included: by the parent's process id, while it still lives. */
function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => {
      try {
        const stat = readFileSync(`/proc/${child}/stat`, 'latin1')
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid
      } catch {
        return false
      }
    })
}

async function assertPromisesKept(t: Assertion, folder: string, ledger: string): Promise<void> {
  const { stdout } = await run('python3', [WRITER, 'verify', folder, ledger])
  const lines = stdout.trim().split('\n')
  const count = lines.pop() ?? ''
  t.is(lines.length, 0, `kept: ${count}`)
  for (const line of lines.slice(0, 5)) t.comment(line)
}

interface Round {
  readonly lab: Lab
  readonly seed: number
  readonly random: Random
  readonly ledger: string
  /** As recorded below .snapshots when they were taken. */
  readonly snapshots: Map<string, Tree>
}

/** Load, snapshots, and a kill in the middle of it. */
async function loadAndKill(t: Assertion, round: Round): Promise<void> {
  const { lab, seed, random, ledger, snapshots } = round
  const { pid } = await lab.mount()
  const helpers = childrenOf(pid)
  t.ok(helpers.length > 0, 'the helper is known')
  for (const name of ['durable', 'churn'])
    if (!existsSync(lab.at(`mnt/${name}`))) mkdirSync(lab.at(`mnt/${name}`))
  const writer = startWriter(t, lab.at('mnt/durable'), ledger, seed)
  const workload = new Workload(t, seed, lab.at('mnt/churn'))
  const churn = workload.runUntilDead()
  for (let i = 0; i < 2; i++) {
    await sleep(random.below(400))
    const name = `snapshot-${seed}-${i}`
    await umbra(['snapshot', 'create', lab.dir, name])
    snapshots.set(name, await recordTree(join(lab.dir, '.snapshots', name)))
  }
  const [oldest] = snapshots.keys()
  if (oldest && snapshots.size > 4) {
    await umbra(['snapshot', 'delete', lab.dir, oldest])
    snapshots.delete(oldest)
  }
  // Perhaps in the middle of taking one, which may then be there or not, but not in part.
  const late = random.chance(0.5)
    ? umbra(['snapshot', 'create', lab.dir, `late-${seed}`], { check: false })
    : null
  await sleep(random.below(600))

  process.kill(pid, 'SIGKILL')

  for (const process of [pid, ...helpers]) await until(`${process} has ended`, () => !isRunning(process))
  await until('the writer has noticed', () => hasEnded(writer))
  await churn
  await late
}

test('kill -9 under load, round after round: nothing promised is lost', NEEDS, async (t) => {
  const seed = chosenSeed(t)
  const random = new Random(seed)
  const lab = await makeLab(t, '2G')
  const snapshots = new Map<string, Tree>()
  const ledger = lab.at('ledger')
  for (let number = 1; number <= ROUNDS; number++) {
    await loadAndKill(t, { lab, seed: number + (seed % 1000) * 100, random, ledger, snapshots })
    t.ok(isMountPoint(lab.dir), 'a dead mount is left')
    if (number % 2 === 0) {
      await umbra(['unmount', lab.dir], { timeoutMs: 120_000 })
      t.absent(isMountPoint(lab.dir), 'unmount clears it')
      await judgeVolume(lab.volume, lab.at('judged.img'))
    }
    const mounted = await lab.mount()
    await assertPromisesKept(t, lab.at('mnt/durable'), ledger)
    const listed = await umbraJson<{ name: string }[]>(['snapshot', 'list', lab.dir])
    const missing = [...snapshots.keys()].filter((name) => !listed.some((snapshot) => snapshot.name === name))
    t.alike(missing, [], 'every snapshot is still listed')
    for (const [name, tree] of snapshots) {
      assertSameTree(t, tree, await recordTree(join(lab.dir, '.snapshots', name)), name)
    }
    await mounted.unmount()
    await judgeVolume(lab.volume, lab.at('judged.img'))
    for (const { name } of listed.filter(({ name }) => name.startsWith('late-'))) {
      await exportRaw(lab.volume, name, lab.at('late.img'))
      t.is((await run('e2fsck', ['-fn', lab.at('late.img')], { check: false })).code, 0, name)
      rmSync(lab.at('late.img'))
      await umbra(['snapshot', 'delete', lab.volume, name])
    }
  }
})

test('the ledger sees a promise that was not kept', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const ledger = lab.at('ledger')
  const writer = startWriter(t, lab.dir, ledger, 1)
  await until(
    'some work is done',
    () => existsSync(ledger) && readFileSync(ledger, 'utf8').length > 20_000,
    60_000,
  )
  writer.kill('SIGKILL')
  await until('the writer has ended', () => hasEnded(writer))
  await assertPromisesKept(t, lab.dir, ledger)
  for (const fault of [
    'truncate -s -1 log-0',
    'printf x | dd of=pages bs=1 seek=5000 conv=notrunc status=none',
    'cp replaced-0 replaced-1',
    'rm $(ls | grep ^name | head -1)',
  ]) {
    await run('sh', ['-ec', fault], { cwd: lab.dir })
    const { stdout } = await run('python3', [WRITER, 'verify', lab.dir, ledger])
    t.ok(stdout.trim().split('\n').length > 1, fault)
    const [name] = fault.match(/log-0|pages|replaced-1|name/) ?? []
    t.ok(stdout.includes(name === 'pages' ? 'page 1 ' : (name ?? '')), stdout.trim().split('\n').at(-2))
  }
})
