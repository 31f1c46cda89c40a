// Hostile surroundings end to end: full disks, second daemons, busy mounts. Each command tells what is
// wrong in one line with an exit code from the documented list, leaves nothing half done behind, and
// nothing that was durable is lost.

// deadline 240

import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { isMountPoint } from '../support/umbra.ts'
import { exportRaw, isLong, judgeVolume, makeLab, misbehaviour, umbra } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck'), timeout: 600_000 }

test('a full disk under the export, the import and the volume itself', NEEDS, async (t) => {
  const lab = await makeLab(t, '32M')
  const mounted = await lab.mount()
  writeFileSync(lab.at('mnt/big'), new Random(chosenSeed(t)).bytes(2 << 20))
  await umbra(['snapshot', 'create', lab.dir, 'one'])
  await mounted.unmount()
  const image = lab.at('one.img')
  await exportRaw(lab.volume, 'one', image)
  const small = lab.at('small')
  mkdirSync(small)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=1500k', 'none', small])
  t.teardown(() => run('umount', [small]), { order: 10 })
  const qcow2 = lab.at('one.qcow2')
  await umbra(['export', lab.volume, 'one', '--format', 'qcow2', '-o', qcow2])
  for (const args of [
    ['export', lab.volume, 'one', '--format', 'raw', '-o', join(small, 'one.img')],
    ['export', lab.volume, 'one', '--format', 'qcow2', '-o', join(small, 'one.qcow2')],
    ['import', qcow2, '-o', join(small, 'one.umbra')],
    ['import', qcow2, '--format', 'raw', '-o', join(small, 'one.img')],
  ]) {
    const result = await umbra(args, { check: false })
    t.is(result.code, 8, `${args[0]}: ${result.stderr.trim()}`)
    t.alike(misbehaviour(args.join(' '), result), [])
    t.alike(readdirSync(small), [], 'nothing is left behind')
  }
  copyFileSync(image, lab.at('kept.img'))
  const before = readFileSync(lab.at('kept.img'))
  const refused = await umbra(['export', lab.volume, 'one', '--format', 'raw', '-o', lab.at('kept.img')], {
    check: false,
  })
  t.is(refused.code, 4, 'an existing file is not replaced')
  t.ok(readFileSync(lab.at('kept.img')).equals(before))
})

test('a volume on a disk that fills up: ENOSPC, and what was durable stays', NEEDS, async (t) => {
  const lab = await makeLab(t, '64M')
  const small = lab.at('small')
  mkdirSync(small)
  await run('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'none', small])
  t.teardown(() => run('umount', ['-l', small]), { order: 10 })
  const volume = join(small, 'v.umbra')
  const dir = lab.at('on-small')
  mkdirSync(dir)
  // Left to itself it would let the snapshot go for room, which full-host.test.ts looks at.
  await umbra(['create', volume, '--size', '1G', '--when-full', 'protect'])
  await umbra(['mount', volume, dir])
  t.teardown(() => umbra(['unmount', dir, '--force'], { check: false }), { order: -1 })
  writeFileSync(join(dir, 'first'), Buffer.alloc(4 << 20, 1))
  await umbra(['snapshot', 'create', dir, 'one'])
  let failed = ''
  for (let i = 0; i < 40 && failed === ''; i++) {
    try {
      writeFileSync(join(dir, `f${i}`), Buffer.alloc(1 << 20, i), { flush: true })
    } catch (error) {
      failed = (error as NodeJS.ErrnoException).code ?? ''
    }
  }
  t.is(failed, 'ENOSPC', 'the disk is full')
  t.ok(readFileSync(join(dir, 'first')).equals(Buffer.alloc(4 << 20, 1)))
  const told = await umbra(['sync', dir], { check: false })
  t.is(told.code, 8, told.stderr.trim())
  t.is((await umbra(['sync', dir], { check: false })).code, 0, 'once')
  for (let i = 0; i < 40; i++) rmSync(join(dir, `f${i}`), { force: true })
  await until('there is room again', async () => {
    await umbra(['sync', dir])
    return statSync(volume).blocks * 512 < 10 << 20
  })
  writeFileSync(join(dir, 'again'), Buffer.alloc(2 << 20, 9), { flush: true })
  t.ok(readFileSync(join(dir, '.snapshots/one/first')).equals(Buffer.alloc(4 << 20, 1)))
  await umbra(['unmount', dir])
  await judgeVolume(volume, lab.at('judged.img'))
})

test('a second daemon and two starting at once: one serves, the other says so', NEEDS, async (t) => {
  const lab = await makeLab(t, '64M')
  const dirs = ['a', 'b', 'c'].map((name) => lab.at(name))
  for (const dir of dirs) mkdirSync(dir)
  for (let round = 0; round < (isLong ? 20 : 3); round++) {
    const results = await Promise.all(
      dirs.map((dir) => umbra(['mount', lab.volume, dir], { check: false, timeoutMs: 60_000 })),
    )
    t.alike(results.map(({ code }) => code).sort(), [0, 5, 5], results.map(({ stderr }) => stderr).join(''))
    t.alike(
      results.flatMap((result) => misbehaviour('mount', result)),
      [],
    )
    const mounted = dirs.filter((dir) => isMountPoint(dir))
    t.is(mounted.length, 1)
    writeFileSync(join(mounted[0] as string, `round-${round}`), 'x')
    await umbra(['unmount', mounted[0] as string])
  }
  // A reader that has only the file open stops nobody; a stopped process that holds the lock does.
  await lab.mount()
  const holder = spawn('sleep', ['60'], { cwd: lab.dir })
  t.teardown(() => void holder.kill('SIGKILL'), { order: -1 })
  const busy = await umbra(['unmount', lab.dir], { check: false })
  t.is(busy.code, 5, busy.stderr.trim())
  await umbra(['unmount', lab.dir, '--lazy'])
  holder.kill('SIGKILL')
  await until(
    'the volume is free',
    async () => (await umbra(['check', lab.volume], { check: false })).code === 0,
  )
})
