// deadline 400
// umbra backup and umbra restore as people run them: exit codes, output, kills at any moment, and every
// kind of target.

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { UmbraError } from '../../src/base/errors.ts'
import { connectCoordinator } from '../../src/daemon/coordinator-client.ts'
import { attachLoop, mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, UMBRA, umbra, umbraJson } from '../support/umbra.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = requires('/dev/fuse', 'root', 'qemu-img')

interface Told {
  readonly id: string
  readonly type: string
  readonly base: string | null
  readonly chain: readonly string[]
  readonly images: readonly { file: string; dataBytes: number; base: string | null }[]
  readonly notes: readonly string[]
}

interface Place {
  readonly folder: string
  readonly volume: string
  readonly mountPoint: string
  readonly repository: string
}

async function place(t: Assertion, size: string): Promise<Place> {
  const folder = tempFolder(t)
  for (const [name, value] of [
    ['UMBRA_RUNTIME_DIR', 'run'],
    ['UMBRA_CONFIG_DIR', 'config'],
  ] as const) {
    const before = process.env[name]
    process.env[name] = join(folder, value)
    t.teardown(
      () => {
        if (before === undefined) delete process.env[name]
        else process.env[name] = before
      },
      { order: 2_000_000 },
    )
  }
  const at = (name: string) => join(folder, name)
  const made = { folder, volume: at('v.umbra'), mountPoint: at('v'), repository: at('repository') }
  await umbra(['create', made.volume, '--size', size])
  mkdirSync(made.mountPoint)
  await mountVolume(t, made.volume, made.mountPoint)
  return made
}

async function digestOf(path: string, lengthBytes: number): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { end: lengthBytes - 1 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

function partials(repository: string): string[] {
  return readdirSync(join(repository, 'backups')).filter((name) => name.startsWith('.'))
}

test('back up and restore into a volume, a file and a device', NEEDS, async (t) => {
  const { folder, volume, mountPoint, repository } = await place(t, '64M')
  const at = (name: string) => join(folder, name)
  const noBase = await umbra(['backup', mountPoint, '--to', repository, '--type', 'incremental'], {
    check: false,
  })
  t.is(noBase.code, 14, noBase.stderr.trim())
  t.absent(existsSync(repository), 'no empty repository is left behind')
  const wrong = await umbra(['backup', mountPoint, '--to', repository, '--type', 'log', '--images'], {
    check: false,
  })
  t.is(wrong.code, 2)
  await run('sh', ['-c', `seq 100000 > ${mountPoint}/numbers`])
  const full = await umbraJson<Told>(['backup', mountPoint, '--to', repository])
  t.is(full.type, 'full')
  await run('sh', ['-c', `seq 5 >> ${mountPoint}/numbers; mkdir ${mountPoint}/d`])
  const incremental = await umbraJson<Told>(['backup', volume, '--to', repository, '--type', 'incremental'])
  t.alike(incremental.chain, [full.id, incremental.id])
  const told = await umbra(['backup', volume, '--to', repository, '--type', 'differential'])
  t.ok(told.stdout.includes(`differential, on ${full.id}`), told.stdout.trim())
  const sum = (await run('sha256sum', [`${mountPoint}/numbers`])).stdout.slice(0, 64)

  const raw = at('out.img')
  await umbra(['restore', repository, incremental.id, '--to', raw, '--as', 'raw'])
  const digest = await digestOf(raw, statSync(raw).size)
  t.is(
    (await umbra(['restore', repository, '--to', raw, '--as', 'raw'], { check: false })).code,
    4,
    'nothing is overwritten',
  )
  const copy = at('copy.umbra')
  await umbra(['restore', repository, incremental.id.slice(0, 30), '--to', copy])
  mkdirSync(at('copy'))
  const mounted = await mountVolume(t, copy, at('copy'))
  t.is((await run('sha256sum', [`${at('copy')}/numbers`])).stdout.slice(0, 64), sum)
  await mounted.unmount()

  const backing = at('device.img')
  writeFileSync(backing, Buffer.alloc(2 ** 20, 0xaa))
  truncateSync(backing, 64 * 2 ** 20)
  await run('sh', [
    '-c',
    `tr '\\0' '\\252' < /dev/zero | dd of=${backing} bs=1M count=65 iflag=fullblock status=none`,
  ])
  const device = await attachLoop(['-f', '--show', backing])
  t.teardown(async () => void (await run('losetup', ['-d', device], { check: false })), { order: -2 })
  const careful = await umbra(['restore', repository, incremental.id, '--to', device], { check: false })
  t.is(careful.code, 2, 'a device is overwritten only where that was said')
  await umbra(['restore', repository, incremental.id, '--to', device, '--as', 'device'])
  t.is(await digestOf(device, statSync(raw).size), digest, 'the device holds the image, zeros too')
  const tail = (await run('sh', ['-c', `tail -c 1048576 ${device} | sha256sum`])).stdout.slice(0, 64)
  t.is(
    tail,
    createHash('sha256')
      .update(Buffer.alloc(2 ** 20, 0xaa))
      .digest('hex'),
    'what lies beyond it stays',
  )
  mkdirSync(at('loop'))
  await run('mount', ['-o', 'ro', device, at('loop')])
  const busy = await umbra(['restore', repository, '--to', device, '--as', 'device'], { check: false })
  await run('umount', [at('loop')])
  t.is(busy.code, 17, busy.stderr.trim())
  const missing = await umbra(['backup', mountPoint, '--to', repository, '--require-writer', 'nobody'], {
    check: false,
  })
  t.not(missing.code, 0, missing.stderr.trim())
  const results = await run('cat', [join(repository, 'results.jsonl')])
  t.ok(results.stdout.includes('"operation":"restore"') && results.stdout.includes('"outcome":"failed"'))
})

test('killed at any moment: nothing half made is seen, no shadow copy stays', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const { folder, mountPoint, repository } = await place(t, '128M')
  await run('dd', ['if=/dev/urandom', `of=${mountPoint}/data`, 'bs=1M', 'count=40', 'status=none'])
  const started = Date.now()
  await umbra(['backup', mountPoint, '--to', repository])
  const usualMs = Date.now() - started
  const ids = () => readdirSync(join(repository, 'backups')).filter((name) => !name.startsWith('.'))
  for (let round = 0; round < (isLong ? 40 : 4); round++) {
    await run('sh', ['-c', `echo ${round} > ${mountPoint}/r${round}`])
    const signal = random.pick(['SIGKILL', 'SIGINT'] as const)
    const type = random.pick(['full', 'incremental'])
    // Of a killed run before; the next one clears it away, if it comes so far.
    const before = partials(repository)
    const child = spawn(process.execPath, [UMBRA, 'backup', mountPoint, '--to', repository, '--type', type], {
      stdio: 'ignore',
    })
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve))
    await new Promise((resolve) => setTimeout(resolve, random.below(usualMs)))
    child.kill(signal)
    const code = await ended
    if (signal === 'SIGINT' && code !== 0 && code !== null) t.is(code, 130, `round ${round}: interrupted`)
    const left = partials(repository).filter((name) => !before.includes(name))
    if (signal === 'SIGINT') t.alike(left, [], `round ${round}: nothing is left`)
    for (const id of ids()) {
      const image = readdirSync(join(repository, 'backups', id, 'images')).find((name) =>
        name.endsWith('.qcow2'),
      )
      if (!image) t.fail(`${id} is not whole`)
    }
    await until('no shadow copy is left', async () => {
      const list = await umbraJson<unknown[]>(['snapshot', 'list', mountPoint])
      return list.length === 0
    })
  }
  const last = await umbraJson<Told>([
    'backup',
    mountPoint,
    '--to',
    repository,
    '--type',
    'incremental',
    '--or-full',
  ])
  t.is(partials(repository).length, 0, 'the next run has cleared what was left')
  const raw = join(folder, 'out.img')
  await umbra(['restore', repository, '--to', raw, '--as', 'raw'])
  const restored = await mountLoop(t, raw)
  const compared = await run('diff', ['-r', mountPoint, restored.folder], { check: false })
  await restored.unmount()
  t.is(compared.code, 0, `the newest is the volume (${last.chain.length} in its chain)`)
})

test('an incremental costs what changed, not what there is', NEEDS, async (t) => {
  const { mountPoint, repository } = await place(t, '20G')
  const mib = isLong ? 8192 : 256
  await run('dd', ['if=/dev/zero', `of=${mountPoint}/big`, 'bs=1M', `count=${mib}`, 'status=none'], {
    timeoutMs: 250_000,
  })
  await umbra(['backup', mountPoint, '--to', repository], { timeoutMs: 250_000 })
  const timed = async (what: string) => {
    const started = performance.now()
    const told = await umbraJson<Told & { tookMs: number }>([
      'backup',
      mountPoint,
      '--to',
      repository,
      '--type',
      'incremental',
    ])
    const totalMs = performance.now() - started
    const dataBytes = told.images[0]?.dataBytes ?? -1
    t.comment(
      `${what} of ${mib} MiB written: ${totalMs.toFixed(0)} ms with the process, ${told.tookMs} ms of them the backup, ${dataBytes} bytes`,
    )
    return dataBytes
  }
  await umbra(['sync', mountPoint])
  await timed('first incremental')
  t.is(await timed('no-change incremental'), 0)
  await run('sh', [
    '-c',
    `dd if=/dev/urandom of=${mountPoint}/big bs=1M seek=100 count=16 conv=notrunc status=none`,
  ])
  t.ok((await timed('incremental of 16 MiB')) < 17 * 2 ** 20)
})

test('row 46: a configured writer that cannot be asked makes the backup one in part', NEEDS, async (t) => {
  const { folder, mountPoint, repository } = await place(t, '64M')
  const configuration = join(folder, 'redis.json')
  // Nobody listens there, and nothing says where its data is.
  const client = ['redis-cli', '-s', join(folder, 'nobody.sock')]
  writeFileSync(configuration, JSON.stringify({ kind: 'redis', client }))
  await umbra(['writer', 'add', 'gone', configuration])
  const args = ['backup', mountPoint, '--to', repository]
  const partial = await umbra([...args, '--json'], { check: false })
  t.is(partial.code, 16, partial.stderr.trim())
  t.ok(JSON.parse(partial.stdout).isPartial as boolean)
  t.ok(partial.stderr.includes('The writer gone could not be asked and takes no part'), partial.stderr.trim())
  const excluded = await umbra([...args, '--exclude-writer', 'gone'], { check: false })
  t.is(excluded.code, 0, 'left out on purpose, it is not missed')
  const bare = await umbra([...args, '--without-writers'], { check: false })
  t.is(bare.code, 0)
})

test(
  'a coordinator that is killed in the middle of a backup: told as what it is, nothing is left',
  NEEDS,
  async (t) => {
    const { folder, mountPoint, repository } = await place(t, '64M')
    const hooks = join(folder, 'config', 'hooks.d')
    mkdirSync(hooks, { recursive: true, mode: 0o700 })
    const reached = join(folder, 'reached')
    // In the style of qemu-ga: it is told of freeze and thaw alone.
    writeFileSync(
      join(hooks, 'waits'),
      `#!/bin/sh\n[ "$1" = freeze ] && { : > ${reached}; sleep 30; }\nexit 0\n`,
      { mode: 0o755 },
    )
    const ended = umbra(['backup', mountPoint, '--to', repository], { check: false, timeoutMs: 100_000 })
    await until('the hook is asked to freeze', () => existsSync(reached), 60_000)
    const coordinator = await connectCoordinator()
    const { pid } = await coordinator.status()
    process.kill(pid, 'SIGKILL')
    const { code, stderr } = await ended
    t.is(code, 11, stderr.trim())
    t.is(stderr.trim(), 'umbra: The coordinator has gone: it closed the connection', 'in one line')
    await coordinator.whenClosed
    const error = (await coordinator.openSession('backup').catch((thrown) => thrown)) as UmbraError
    t.is(error.code, 'UNAVAILABLE', 'and so for a call after its end')
    coordinator.close()
    t.absent(existsSync(repository), 'nor a repository')
    await until('no shadow copy is left', async () => {
      return (await umbraJson<unknown[]>(['snapshot', 'list', mountPoint])).length === 0
    })
    rmSync(join(hooks, 'waits'))
    t.is(
      (await umbraJson<Told>(['backup', mountPoint, '--to', repository])).type,
      'full',
      'the next one works',
    )
  },
)
