// What can be done with a shadow copy: its contents are the volume's at its instant, it has VSS's
// properties, can be exposed and reverted to.

// deadline 400

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type Assertion } from 'brittle'
import { ControlShadowProvider } from '../../src/daemon/control-shadow-provider.ts'
import { exposeSnapshot, reexposeSnapshots, unexposeSnapshot } from '../../src/daemon/exposures.ts'
import { listShadowCopies } from '../../src/daemon/shadow-copies.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { isMountPoint, mountVolume, UMBRA, umbra, umbraJson } from '../support/umbra.ts'
import { assertSameTree, exportRaw, type Lab, makeLab, QUIET, recordTree } from './lab.ts'
import { makeSet } from './shadow-sets.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 240_000 }

async function judge(t: Assertion, lab: Lab, name: string): Promise<void> {
  const image = lab.at(`${name}.img`)
  await exportRaw(lab.volume, name, image)
  const verdict = e2fsck(image)
  rmSync(image)
  t.ok(verdict.clean, `e2fsck finds nothing in ${name}`)
  if (!verdict.clean) t.comment(verdict.output)
}

const FILL = `mkdir -p d/e; for i in $(seq 60); do head -c $((i * 3000)) /dev/urandom > d/f$i; done
  ln d/f1 d/hard; ln -s f2 d/soft; setfattr -n user.a -v b d/f3; mkfifo d/e/pipe; truncate -s 1M d/sparse`
const WRECK = `for i in $(seq 1 20); do head -c 50000 /dev/urandom > d/f$i; done
  for i in $(seq 21 40); do truncate -s 10 d/f$i; done; rm d/f4? d/hard; mv d/f50 renamed; mv d/e g; chmod 0 d/f51
  setfattr -x user.a d/f3; head -c 1M /dev/urandom > d/sparse; mkdir new; touch new/one`

test('row 1: a shadow is the volume at its instant, whatever is done later', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  await run('bash', ['-ec', FILL], { cwd: lab.dir })
  const before = await recordTree(lab.dir)
  const set = await makeSet(t, [lab.dir], { context: 'nas-rollback' })
  await run('bash', ['-ec', WRECK], { cwd: lab.dir })
  await umbra(['sync', lab.dir])
  const shown = await recordTree(join(lab.dir, '.snapshots', set.name))
  assertSameTree(t, before, shown, 'the shadow and what was there', ['ino'])
  await judge(t, lab, set.name)
})

const MAP = `import json, os, sys
def data(path):
    fd = os.open(path, os.O_RDONLY); at = 0; runs = []; size = os.fstat(fd).st_size
    while at < size:
        try: at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError: break
        end = os.lseek(fd, at, os.SEEK_HOLE); runs.append([at, end]); at = end
    return runs
print(json.dumps(data(sys.argv[1])))`

test(
  'row 39: holes, the tail before a truncation and what was discarded stay in the shadow',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '256M')
    await lab.mount()
    const script = `truncate -s 8M sparse; printf data | dd of=sparse bs=1 seek=3M conv=notrunc status=none
    head -c 300000 /dev/urandom > cut; head -c 300000 /dev/urandom > punched; truncate -s 100000 zeros`
    await run('bash', ['-ec', script], { cwd: lab.dir })
    const files = ['sparse', 'cut', 'punched', 'zeros']
    const contents = files.map((file) => readFileSync(join(lab.dir, file)))
    const runsOf = (path: string) => execFileSync('python3', ['-c', MAP, path], { encoding: 'utf8' })
    const runs = runsOf(join(lab.dir, 'sparse'))
    const set = await makeSet(t, [lab.dir], { context: 'nas-rollback' })
    const change = `printf more | dd of=sparse bs=1 seek=5M conv=notrunc status=none; truncate -s 5000 cut
    truncate -s 400000 cut; fallocate -p -o 50000 -l 100000 punched; head -c 100000 /dev/urandom > zeros; sync zeros`
    await run('bash', ['-ec', change], { cwd: lab.dir })
    const shadow = join(lab.dir, '.snapshots', set.name)
    for (const [i, file] of files.entries()) {
      t.ok(readFileSync(join(shadow, file)).equals(contents[i] as Buffer), file)
    }
    t.is(runsOf(join(shadow, 'sparse')), runs, 'the same holes')
    await judge(t, lab, set.name)
  },
)

test('row 56: without writers a shadow is as after a power cut, open files included', NEEDS, async (t) => {
  const lab = await makeLab(t, '256M')
  await lab.mount()
  const fd = openSync(join(lab.dir, 'open'), 'w')
  writeSync(fd, 'written and never closed')
  const set = await makeSet(t, [lab.dir], { context: 'file-share-backup' })
  writeSync(fd, ' later')
  const shadow = join(lab.dir, '.snapshots', set.name)
  t.is(readFileSync(join(shadow, 'open'), 'utf8'), 'written and never closed')
  closeSync(fd)
  await judge(t, lab, set.name)
  await set.end()
})

test('row 26: ids and properties, stable over a restart and the loss of a member', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  const mounted = await lab.mount()
  await umbra(['create', lab.at('w.umbra'), '--size', '128M'])
  const set = await makeSet(t, [lab.dir, lab.at('w.umbra')], { context: 'app-rollback' })
  await set.end()
  const [first] = await listShadowCopies(lab.dir)
  const [second] = await listShadowCopies(lab.at('w.umbra'))
  const [snapshot] = set.snapshots
  t.alike(first, {
    snapshotId: snapshot?.id,
    snapshotSetId: set.setId,
    setCount: 2,
    volumeUuid: (await umbraJson<{ uuid: string }>(['status', lab.volume])).uuid,
    originalVolume: lab.volume,
    mountPoint: lab.dir,
    snapshotName: set.name,
    provider: first?.provider,
    devicePath: join(lab.dir, '.snapshots', set.name),
    originatingMachine: hostname(),
    serviceMachine: hostname(),
    exposedName: null,
    exposedPath: null,
    attributes: 0x9 | 0x20000,
    createdAtMs: snapshot?.createdAtMs,
    state: 'created',
    epoch: snapshot?.epoch,
  })
  for (const id of [first?.snapshotId, first?.snapshotSetId, first?.provider, second?.snapshotId]) {
    t.ok(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(String(id)), String(id))
  }
  t.is(second?.snapshotSetId, set.setId)
  t.is(second?.devicePath, null, 'an unmounted volume has no path')
  await umbra(['snapshot', 'delete', lab.at('w.umbra'), String(second?.snapshotId)])
  t.alike(await listShadowCopies(lab.at('w.umbra')), [], 'deleted by its id')
  await mounted.unmount()
  const [unmounted] = await listShadowCopies(lab.volume)
  t.alike(unmounted, { ...first, mountPoint: null, devicePath: null })
  await mountVolume(t, lab.volume, lab.dir, QUIET)
  t.alike(await listShadowCopies(lab.dir), [first])
})

test(
  'row 35: an exposed shadow is mounted by itself, again after a restart, and stays when unexposed',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '128M')
    process.env['UMBRA_CONFIG_DIR'] = lab.at('configuration')
    t.teardown(() => void delete process.env['UMBRA_CONFIG_DIR'])
    const mounted = await lab.mount()
    writeFileSync(join(lab.dir, 'file'), 'old')
    const set = await makeSet(t, [lab.dir], { context: 'app-rollback' })
    const auto = await makeSet(t, [lab.dir])
    const accessible = await makeSet(t, [lab.dir], { context: 'client-accessible' })
    writeFileSync(join(lab.dir, 'file'), 'new')
    const folder = lab.at('exposed')
    mkdirSync(folder)
    t.teardown(async () => {
      if (isMountPoint(folder)) await umbra(['unmount', '--force', folder], { check: false })
    })
    await t.exception(exposeSnapshot(lab.dir, accessible.name, folder), /previous versions/)
    await t.exception(exposeSnapshot(lab.dir, auto.name, folder), /not persistent/)
    await exposeSnapshot(lab.dir, set.name, folder)
    const look = () => {
      t.is(readFileSync(join(folder, 'file'), 'utf8'), 'old')
      t.exception(() => writeFileSync(join(folder, 'file'), 'x'), /EROFS/)
    }
    look()
    const [listed] = await listShadowCopies(lab.dir)
    t.is(listed?.exposedName, folder)
    t.is((listed?.attributes ?? 0) & 0x100000, 0x100000, 'EXPOSED_LOCALLY')
    await t.exception(exposeSnapshot(lab.dir, set.name, folder), /exposed already/)
    await umbra(['unmount', folder])
    process.kill(mounted.pid, 'SIGKILL')
    await umbra(['unmount', lab.dir])
    await mountVolume(t, lab.volume, lab.dir, QUIET)
    t.alike(
      (await reexposeSnapshots()).map(({ failure }) => failure),
      [null],
    )
    look()
    await unexposeSnapshot(folder)
    t.absent(isMountPoint(folder))
    t.alike(
      (await listShadowCopies(lab.dir)).map(({ snapshotName, exposedName }) => [snapshotName, exposedName]),
      [set.name, accessible.name].map((name) => [name, null]),
      'the shadow is still there',
    )
    await exposeSnapshot(lab.dir, set.name, folder)
    await umbra(['unmount', folder])
    await umbra(['snapshot', 'delete', lab.dir, set.name])
    const [gone] = await reexposeSnapshots()
    t.is(gone?.failure?.code, 'NOT_FOUND')
    t.alike(await reexposeSnapshots(), [], 'what was deleted is forgotten')
  },
)

test(
  'row 37: revert asks for an unused volume and a persistent shadow, and is all or nothing',
  NEEDS,
  async (t) => {
    const lab = await makeLab(t, '256M')
    const mounted = await lab.mount()
    await run('bash', ['-ec', FILL], { cwd: lab.dir })
    const old = await recordTree(lab.dir)
    const set = await makeSet(t, [lab.dir], { context: 'app-rollback' })
    await run('bash', ['-ec', WRECK], { cwd: lab.dir })
    const wrecked = await recordTree(lab.dir)
    const refused = await umbra(['snapshot', 'rollback', lab.dir, set.name], { check: false })
    t.is(refused.code, 5, refused.stderr.trim())
    await mounted.unmount()
    const auto = await makeSet(t, [lab.volume])
    const busy = await umbra(['snapshot', 'rollback', lab.volume, set.name], { check: false })
    t.ok(busy.code === 5 && busy.stderr.includes('backup'), busy.stderr.trim())
    await auto.end()
    // Killed somewhere on its way, several times: the volume is one or the other, and the next run goes through.
    for (const delayMs of [150, 250, 350, 450]) {
      const child = spawn(process.execPath, [UMBRA, 'snapshot', 'rollback', lab.volume, set.name], {
        stdio: 'ignore',
      })
      await Promise.race([once(child, 'exit'), sleep(delayMs)])
      child.kill('SIGKILL')
      await umbra(['check', lab.volume])
    }
    const between = await mountVolume(t, lab.volume, lab.dir, QUIET)
    const now = await recordTree(lab.dir)
    const isWhole = [old, wrecked].some(
      (tree) => tree.size === now.size && [...tree.keys()].every((key) => now.has(key)),
    )
    t.ok(isWhole, 'one or the other')
    await between.unmount()
    await umbra(['snapshot', 'rollback', lab.volume, set.name])
    await mountVolume(t, lab.volume, lab.dir, QUIET)
    assertSameTree(t, old, await recordTree(lab.dir), 'the volume is what the shadow is')
  },
)

test('a mount waits for a backup of the unmounted volume, and commands find its daemon', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  const set = await makeSet(t, [lab.volume])
  const status = await umbraJson<{ mountPoint: unknown; daemon: { pid: number } }>(['status', lab.volume])
  t.is(status.mountPoint, null)
  t.ok(status.daemon.pid > 0)
  await umbra(['snapshot', 'create', lab.volume, 'beside'])
  const unmounted = await umbra(['unmount', lab.volume], { check: false })
  t.not(unmounted.code, 0)
  const mounting = mountVolume(t, lab.volume, lab.dir, QUIET)
  await sleep(500)
  t.absent(isMountPoint(lab.dir))
  await set.end()
  await mounting
  t.ok(isMountPoint(lab.dir))
})

test('a folder of hooks given to the mount is told to whoever asks', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  const hooks = lab.at('hooks')
  mkdirSync(hooks)
  const mounted = await lab.mount(['--hooks', hooks])
  t.is((await umbraJson<{ hooks: unknown }>(['status', lab.dir])).hooks, hooks)
  t.is((await new ControlShadowProvider().supports(lab.dir)).hooksFolder, hooks)
  await mounted.unmount()
  const refused = await umbra(['mount', lab.volume, lab.dir, '--hooks', join(lab.dir, 'h')], { check: false })
  t.ok(refused.code !== 0 && refused.stderr.includes('--hooks-in-volume'), refused.stderr.trim())
})
