// The coordinator as a process: started on demand, one of it, gone when idle; and requesters and
// coordinators that are killed at each step, with real volumes, a real mount and a real hook.
// deadline 240

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { connectCoordinator, findCoordinator } from '../../src/daemon/coordinator-client.ts'
import { isRunning } from '../../src/daemon/is-running.ts'
import { openControl } from '../../src/daemon/open-control.ts'
import type { ShadowProperties } from '../../src/shadow/coordinator/requester-session.ts'
import { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import { type Child, startChild } from '../support/child.ts'
import { requires } from '../support/requires.ts'
import { until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra } from '../support/umbra.ts'

const NEEDS = requires('/dev/fuse')
const WRITER = new URL('./writer-child.ts', import.meta.url)
const REQUESTER = new URL('./requester-child.ts', import.meta.url)

interface ProcessLab {
  at(name: string): string
  /** Events that the hook got, since the last call. */
  heard(): string[]
  /** The hook waits in this event until unblock(). */
  block(event: string): void
  unblock(event: string): void
  reached(event: string): Promise<unknown>
  requester(options: { stopAfter?: string; context?: string; volumes?: readonly string[] }): Child
}

/** Runtime and configuration folders of the test's own, a hook that records, and no coordinator yet. */
function processLab(t: Assertion, environment: Readonly<Record<string, string>> = {}): ProcessLab {
  const folder = tempFolder(t)
  const at = (name: string): string => join(folder, name)
  const wanted = {
    UMBRA_RUNTIME_DIR: at('run'),
    UMBRA_CONFIG_DIR: at('config'),
    UMBRA_COORDINATOR_IDLE_MS: '60000',
    ...environment,
  }
  const before = Object.keys(wanted).map((name) => [name, process.env[name]] as const)
  Object.assign(process.env, wanted)
  t.teardown(
    () => {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    },
    { order: 2_000_000 },
  )
  t.teardown(endCoordinator, { order: 1_000_000 })
  mkdirSync(at('config/hooks.d'), { recursive: true, mode: 0o700 })
  writeHook(at)
  let seen = 0
  return {
    at,
    heard() {
      const events = existsSync(at('heard')) ? readFileSync(at('heard'), 'utf8').trim().split('\n') : []
      const fresh = events.slice(seen)
      seen = events.length
      return fresh.filter((event) => event !== 'identify')
    },
    block: (event) => writeFileSync(at(`block-${event}`), ''),
    unblock: (event) => rmSync(at(`block-${event}`), { force: true }),
    reached: (event) => until(`the hook is in ${event}`, () => existsSync(at(`reached-${event}`)), 20_000),
    requester: (options) =>
      startChild(t, REQUESTER, { args: [JSON.stringify({ context: 'backup', volumes: [], ...options })] }),
  }
}

function writeHook(at: (name: string) => string): void {
  const builder = new MetadataBuilder({
    classId: '11111111-2222-4333-8444-555555555555',
    instanceId: 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee',
    name: 'hook',
  })
  builder.addFileGroup({ name: 'data', selectable: false }).addFiles({ path: '/srv/data' })
  writeFileSync(at('metadata.json'), JSON.stringify(builder.build()))
  const hook = at('config/hooks.d/10-hook')
  writeFileSync(
    hook,
    `#!/bin/sh
echo "$1" >> '${at('heard')}'
[ "$1" = identify ] && exec cat '${at('metadata.json')}'
cat > '${at('request')}-'"$1"
if [ -e '${at('block')}-'"$1" ]; then
  : > '${at('reached')}-'"$1"
  n=0
  while [ -e '${at('block')}-'"$1" ] && [ $n -lt 600 ]; do sleep 0.05; n=$((n + 1)); done
fi
`,
  )
  chmodSync(hook, 0o755)
}

async function endCoordinator(): Promise<void> {
  const coordinator = await findCoordinator().catch(() => undefined)
  if (coordinator === undefined) return
  const { pid } = await coordinator.status()
  coordinator.close()
  process.kill(pid, 'SIGTERM')
  await until('the coordinator has ended', () => !isRunning(pid), 20_000)
}

async function coordinatorPid(): Promise<number> {
  const coordinator = await connectCoordinator()
  const { pid } = await coordinator.status()
  coordinator.close()
  return pid
}

/** No session is left, and the set's lock is free. */
async function settled(): Promise<void> {
  const coordinator = await connectCoordinator()
  await until('sessions have ended', async () => (await coordinator.status()).sessions === 0, 30_000)
  coordinator.close()
}

/** Through the volume's daemon, or from the file. */
async function snapshotNames(volume: string): Promise<string[]> {
  await using open = await openControl(volume, { write: false })
  return (await open.volume.listSnapshots()).map(({ snapshot }) => snapshot.name)
}

interface Volumes {
  readonly mounted: string
  readonly folder: string
  readonly unmounted: string
  readonly all: readonly string[]
}

async function makeVolumes(t: Assertion, lab: ProcessLab): Promise<Volumes> {
  const [mounted, unmounted, folder] = [lab.at('a.umbra'), lab.at('b.umbra'), lab.at('mnt')]
  for (const volume of [mounted, unmounted]) await umbra(['create', volume, '--size', '64M'])
  await mountVolume(t, mounted, folder)
  return { mounted, unmounted, folder, all: [folder, unmounted] }
}

/** Writable, and without a shadow copy. */
async function checkVolumes(t: Assertion, { folder, all }: Volumes, what: string): Promise<void> {
  writeFileSync(join(folder, 'file'), what)
  for (const volume of all) t.alike(await snapshotNames(volume), [], `${what}: no shadow copy of ${volume}`)
}

test('row 40: a backup over the socket, mounted and unmounted volumes in one set', NEEDS, async (t) => {
  const lab = processLab(t, { UMBRA_COORDINATOR_TRACE: '' })
  const volumes = await makeVolumes(t, lab)
  const requester = lab.requester({ volumes: volumes.all })
  const { properties } = await requester.message('doSnapshotSet')
  const [first, second] = properties as ShadowProperties[]
  t.is(first?.snapshotSetId, second?.snapshotSetId)
  t.is(first?.devicePath, `${volumes.folder}/.snapshots/set`)
  t.is(second?.devicePath, null)
  t.is((await requester.exit()).code, 0)
  t.alike(lab.heard(), [
    'prepare-for-backup',
    'prepare-for-snapshot',
    'freeze',
    'thaw',
    'post-snapshot',
    'backup-complete',
    'backup-shutdown',
  ])
  await checkVolumes(t, volumes, 'done')
})

/** By the call after which the requester is killed: what the hook hears all in all. */
const DEATHS: Readonly<Record<string, readonly string[]>> = {
  openSession: [],
  gatherWriterMetadata: [],
  startSnapshotSet: [],
  addToSnapshotSet: [],
  prepareForBackup: ['prepare-for-backup', 'backup-shutdown'],
  doSnapshotSet: [
    'prepare-for-backup',
    'prepare-for-snapshot',
    'freeze',
    'thaw',
    'post-snapshot',
    'backup-shutdown',
  ],
  setBackupSucceeded: [
    'prepare-for-backup',
    'prepare-for-snapshot',
    'freeze',
    'thaw',
    'post-snapshot',
    'backup-shutdown',
  ],
  backupComplete: [
    'prepare-for-backup',
    'prepare-for-snapshot',
    'freeze',
    'thaw',
    'post-snapshot',
    'backup-complete',
    'backup-shutdown',
  ],
}

test(
  'row 50: a requester killed after each call leaves nothing hanging and nothing over',
  NEEDS,
  async (t) => {
    const lab = processLab(t)
    const volumes = await makeVolumes(t, lab)
    for (const [call, events] of Object.entries(DEATHS)) {
      const requester = lab.requester({ stopAfter: call, volumes: volumes.all })
      await requester.message(call)
      requester.kill('SIGKILL')
      await requester.exit()
      await settled()
      t.alike(lab.heard(), events, `${call}: what the writer hears`)
      await checkVolumes(t, volumes, call)
    }
  },
)

/** By the event in which the hook waits while the requester is killed. */
const DEATHS_WITHIN: Readonly<Record<string, readonly string[]>> = {
  'prepare-for-backup': ['prepare-for-backup', 'backup-shutdown'],
  'prepare-for-snapshot': ['prepare-for-backup', 'prepare-for-snapshot', 'abort', 'backup-shutdown'],
  freeze: ['prepare-for-backup', 'prepare-for-snapshot', 'freeze', 'abort', 'backup-shutdown'],
  thaw: ['prepare-for-backup', 'prepare-for-snapshot', 'freeze', 'thaw', 'abort', 'backup-shutdown'],
  'post-snapshot': [
    'prepare-for-backup',
    'prepare-for-snapshot',
    'freeze',
    'thaw',
    'post-snapshot',
    'abort',
    'backup-shutdown',
  ],
}

test('row 50: a requester killed while a writer is at work', NEEDS, async (t) => {
  const lab = processLab(t)
  const volumes = await makeVolumes(t, lab)
  for (const [event, events] of Object.entries(DEATHS_WITHIN)) {
    lab.block(event)
    const chosen = event === 'freeze' ? volumes.all : [volumes.folder]
    const requester = lab.requester({ volumes: chosen })
    await lab.reached(event)
    requester.kill('SIGKILL')
    await requester.exit()
    await until('the volumes are free', async () => (await snapshotNames(volumes.folder)).length === 0)
    lab.unblock(event)
    await settled()
    t.alike(lab.heard(), events, `${event}: what the writer hears`)
    const shutdown = JSON.parse(readFileSync(lab.at('request-backup-shutdown'), 'utf8'))
    t.ok(shutdown.snapshotSetId, 'with the id of the set')
    await checkVolumes(t, volumes, event)
  }
})

test('row 20: a persistent shadow copy outlives a requester that was killed', NEEDS, async (t) => {
  const lab = processLab(t)
  const volumes = await makeVolumes(t, lab)
  const requester = lab.requester({
    stopAfter: 'doSnapshotSet',
    context: 'app-rollback',
    volumes: volumes.all,
  })
  await requester.message('doSnapshotSet')
  requester.kill('SIGKILL')
  await requester.exit()
  await settled()
  for (const volume of volumes.all) t.alike(await snapshotNames(volume), ['set'])
})

test('a coordinator that is killed leaves no shadow copy, no hold and no writer frozen', NEEDS, async (t) => {
  const lab = processLab(t)
  const volumes = await makeVolumes(t, lab)
  for (const [event, isFrozen] of [
    ['prepare-for-snapshot', false],
    ['freeze', true],
    ['post-snapshot', false],
  ] as const) {
    lab.block(event)
    const requester = lab.requester({ volumes: [volumes.folder] })
    const pid = (await requester.message('openSession'))['coordinator'] as number
    await lab.reached(event)
    process.kill(pid, 'SIGKILL')
    await until('the coordinator is dead', () => !isRunning(pid))
    t.not((await requester.exit()).code, 0, 'the requester hears of it')
    lab.unblock(event)
    rmSync(lab.at(`reached-${event}`))
    if (isFrozen)
      await until('the writer is told', () => readFileSync(lab.at('heard'), 'utf8').includes('abort'))
    await until('the volume lets go', async () => (await snapshotNames(volumes.folder)).length === 0)
    await checkVolumes(t, volumes, event)
    lab.heard()
    t.not(await coordinatorPid(), pid, 'the next one is a new one')
    const next = lab.requester({ volumes: [volumes.folder] })
    t.is((await next.exit()).code, 0, 'and works')
    lab.heard()
  }
})

test(
  'row 11: of two requesters one waits until the other has its set, also when that one is killed',
  NEEDS,
  async (t) => {
    const lab = processLab(t)
    const volumes = await makeVolumes(t, lab)
    const first = lab.requester({ stopAfter: 'addToSnapshotSet', volumes: [volumes.folder] })
    await first.message('addToSnapshotSet')
    const coordinator = await connectCoordinator()
    const session = await coordinator.openSession('backup')
    await session.gatherWriterMetadata()
    const error = await session.startSnapshotSet().catch((thrown) => thrown)
    t.ok(hasCode(error, 'SET_IN_PROGRESS'), 'the named error crosses the socket')
    const waiting = session.startSnapshotSet({ waitMs: 20_000 })
    first.kill('SIGKILL')
    t.ok((await waiting).snapshotSetId)
    await session.close()
    const closed = await session.components().catch((thrown) => thrown)
    t.ok(hasCode(closed, 'BAD_STATE'), 'a closed session is closed')
    coordinator.close()
  },
)

test('starters that race settle on one coordinator, which ends when nobody needs it', NEEDS, async (t) => {
  const lab = processLab(t, { UMBRA_COORDINATOR_IDLE_MS: '300' })
  const children = Array.from({ length: 4 }, () => lab.requester({ stopAfter: 'openSession' }))
  const pids = await Promise.all(
    children.map(async (child) => (await child.message('openSession'))['coordinator']),
  )
  t.is(new Set(pids).size, 1, `${pids}`)
  const pid = pids[0] as number
  t.is(
    readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.split(' ')[3],
    `${pid}`,
    'a session of its own',
  )
  const coordinator = await connectCoordinator()
  t.is((await coordinator.status()).sessions, 4)
  for (const child of children) child.kill('SIGKILL')
  await until('their sessions have ended', async () => (await coordinator.status()).sessions === 0)
  t.ok(isRunning(pid), 'somebody is connected')
  coordinator.close()
  await until('it has ended', () => !isRunning(pid))
  t.absent(existsSync(lab.at('run/coordinator.sock')), 'with its socket')
  t.not(await coordinatorPid(), pid)
})

test(
  'row 45: a connected writer takes part, and its death while it is frozen ends the creation',
  NEEDS,
  async (t) => {
    const lab = processLab(t)
    const volume = lab.at('a.umbra')
    await umbra(['create', volume, '--size', '64M'])
    rmSync(lab.at('config/hooks.d/10-hook'))
    const coordinator = await connectCoordinator()
    const registered = (count: number) =>
      until(
        `${count} writers are there`,
        async () => (await coordinator.status()).connectedWriters === count,
        20_000,
      )
    const backup = async () => {
      const session = await coordinator.openSession('backup')
      const metadata = await session.gatherWriterMetadata()
      for (const { identity } of metadata) {
        await session.addComponent({ instanceId: identity.instanceId, logicalPath: '', name: 'data' })
      }
      await session.startSnapshotSet()
      await session.addToSnapshotSet(volume)
      await session.prepareForBackup()
      return session
    }
    const healthy = startChild(t, WRITER, { timeoutMs: 60_000 })
    await registered(1)
    const session = await backup()
    await session.doSnapshotSet()
    await session.backupComplete()
    await session.close()
    for (const event of ['freeze', 'thaw', 'post-snapshot', 'backup-complete', 'backup-shutdown']) {
      t.is((await healthy.message(event)).type, event)
    }
    healthy.kill('SIGKILL')
    await registered(0)

    const stuck = startChild(t, WRITER, { args: ['freeze'], timeoutMs: 60_000 })
    await registered(1)
    const failing = await backup()
    const creation = failing.doSnapshotSet().catch((thrown) => thrown)
    await stuck.message('freeze')
    const killedAtMs = Date.now()
    stuck.kill('SIGKILL')
    t.ok(hasCode(await creation, 'WRITER_FAILED'))
    t.ok(Date.now() - killedAtMs < 30_000, 'long before its sixty seconds are over')
    t.is((await failing.gatherWriterStatus())[0]?.state, 'failed-at-freeze')
    await failing.abortBackup()
    await failing.close()
    t.alike(await snapshotNames(volume), [])
    coordinator.close()
  },
)
