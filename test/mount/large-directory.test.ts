// A directory of very many names on a mount: made, looked at, listed and taken away by programs; the
// kernel's ext4 lists the same names in the exported image, and the daemon's memory stays bounded.

// deadline 300

import { readFileSync } from 'node:fs'
import test, { type Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { exportRaw, isLong, makeLab, umbra } from './lab.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 3_600_000 }
const MIB = 1 << 20
// Long names fill leaves sooner: both lists make an index of two levels.
const NAMES = isLong ? 1_000_000 : 20_000
/** Caches at their limits, the names in memory (up to a million) and what V8 takes to manage them. */
const RSS_BYTES_MAX = (isLong ? 900 : 300) * MIB
/** With an inode for each name: one for 16 KiB. */
const SIZE = isLong ? '32G' : '4G'
const SPAWN_TIMEOUT_MS = 3_000_000

/** Every third name is removed half way, and every sixth made again, so that leaves shrink and fill. */
const WORK = `
import os, sys
folder, count = sys.argv[1], int(sys.argv[2])
tail = '' if count > 100000 else '-' + 'x' * 100
def name(i): return f'{folder}/name-{i * 2654435761 % 2**32:08x}-{i}{tail}'
for i in range(count):
    os.close(os.open(name(i), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if i % 3 == 2: os.unlink(name(i - 2))
for i in range(0, count - 2, 6): os.close(os.open(name(i), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
there = lambda i: i % 3 != 0 or i % 6 == 0 and i < count - 2 or i + 2 >= count
for i in range(count):
    assert os.path.lexists(name(i)) == there(i), name(i)
expected = {os.path.basename(name(i)) for i in range(count) if there(i)}
assert set(os.listdir(folder)) == expected
with os.scandir(folder) as entries: assert sum(entry.stat().st_size for entry in entries) == 0
print(len(expected))
`

async function listed(folder: string): Promise<string> {
  const { stdout } = await run('sh', ['-c', `ls -U -f "${folder}" | LC_ALL=C sort | sha256sum`], {
    timeoutMs: SPAWN_TIMEOUT_MS,
  })
  return stdout
}

function residentBytes(pid: number): number {
  const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(match?.[1]) * 1024
}

function assertClean(t: Assertion, image: string, comment: string): void {
  const verdict = e2fsck(image)
  t.ok(verdict.clean, `e2fsck finds nothing: ${comment}`)
  if (!verdict.clean) t.comment(verdict.output.slice(0, 2000))
}

test(`${NAMES} names in one directory`, NEEDS, async (t) => {
  const lab = await makeLab(t, SIZE)
  const mounted = await lab.mount()
  const folder = `${lab.dir}/many`
  await run('mkdir', [folder])
  const { stdout } = await run('python3', ['-c', WORK, folder, `${NAMES}`], { timeoutMs: SPAWN_TIMEOUT_MS })
  t.comment(`${stdout.trim()} names are left`)
  await umbra(['snapshot', 'create', lab.dir, 'full'])
  const image = lab.at('full.img')
  await exportRaw(lab.dir, 'full', image)
  assertClean(t, image, 'with all names')
  const kernel = await mountLoop(t, image)
  const ours = await listed(folder)
  t.is(await listed(`${kernel.folder}/many`), ours, 'the kernel lists the same names')
  t.is(await listed(`${lab.dir}/.snapshots/full/many`), ours, 'and so does the snapshot')
  await kernel.unmount()
  await run('rm', ['-rf', folder], { timeoutMs: SPAWN_TIMEOUT_MS })
  const peakBytes = residentBytes(mounted.pid)
  t.ok(peakBytes < RSS_BYTES_MAX, `the daemon had up to ${Math.round(peakBytes / MIB)} MiB in memory`)
  await mounted.unmount()
})

test('rm -rf of a deep tree', NEEDS, async (t) => {
  const lab = await makeLab(t, '1G')
  const mounted = await lab.mount()
  const depth = isLong ? 5000 : 600
  const script = `
import os, sys
os.chdir(sys.argv[1])
for i in range(int(sys.argv[2])):
    os.mkdir('d'); open('f', 'w').write(str(i)); os.chdir('d')
`
  await run('python3', ['-c', script, lab.dir, `${depth}`], { timeoutMs: SPAWN_TIMEOUT_MS })
  await umbra(['snapshot', 'create', lab.dir, 'deep'])
  await run('rm', ['-rf', `${lab.dir}/d`, `${lab.dir}/f`], { timeoutMs: SPAWN_TIMEOUT_MS })
  t.is((await run('ls', ['-A', lab.dir])).stdout.trim(), 'lost+found', 'nothing is left')
  await exportRaw(lab.dir, 'deep', lab.at('deep.img'))
  assertClean(t, lab.at('deep.img'), 'the deep tree')
  await mounted.unmount()
})
