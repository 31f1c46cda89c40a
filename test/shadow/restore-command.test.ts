// deadline 240
// umbra restore of component files as people run it: a configured script writer, a volume on a mount, and
// kills at any moment.

import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { setEnvironment } from '../support/environment.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, UMBRA, umbra, umbraJson } from '../support/umbra.ts'
import { differences, treeRecord } from './restore-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = requires('/dev/fuse', 'root')

interface Told {
  readonly backup: string
  readonly operations: readonly string[]
  readonly components: readonly { status: string; place: string; failure: string | null }[]
  readonly notes: readonly string[]
}

async function place(t: Assertion) {
  const folder = tempFolder(t)
  const at = (...names: string[]) => join(folder, ...names)
  setEnvironment(t, { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') })
  await umbra(['create', at('v.umbra'), '--size', '256M'])
  mkdirSync(at('v'))
  await mountVolume(t, at('v.umbra'), at('v'))
  const data = at('v', 'shop')
  mkdirSync(data)
  writeFileSync(
    at('told.sh'),
    `#!/bin/sh\ncat > '${at('last.json')}'\necho "$UMBRA_EVENT" >> '${at('events')}'\n`,
  )
  chmodSync(at('told.sh'), 0o755)
  const commands = { 'pre-restore': [at('told.sh')], 'post-restore': [at('told.sh')] }
  writeFileSync(
    at('shop.json'),
    JSON.stringify({
      kind: 'script',
      name: 'Shop',
      backupSchema: ['incremental', 'differential', 'new-target'],
      restoreMethod: { method: 'restore-if-can-replace', writerRestore: 'always' },
      components: [{ name: 'data', files: [{ path: data, changedRanges: true }] }],
      commands,
    }),
  )
  await umbra(['writer', 'add', 'shop', at('shop.json')])
  const back = async (type: string) => {
    const told = await umbraJson<{ id: string }>([
      ...['backup', '--to', at('repository'), '--type', type, '--components', 'Shop', '--no-images'],
      at('v'),
    ])
    return { id: told.id, record: await treeRecord(data) }
  }
  return { at, data, back, repository: at('repository') }
}

test('row 78: umbra restore replays a chain through a script writer', NEEDS, async (t) => {
  const { at, data, back, repository } = await place(t)
  await run('sh', ['-c', `cd '${data}'; seq 30000 > numbers; mkdir d; echo one > d/one; ln d/one d/uno`])
  await back('full')
  await run('sh', [
    '-c',
    `cd '${data}'; echo x | dd of=numbers seek=50 bs=100 conv=notrunc status=none; rm d/uno`,
  ])
  const first = await back('incremental')
  await run('sh', ['-c', `cd '${data}'; rm -r d; echo last > e`])
  const last = await back('incremental')
  const dry = await umbra(['restore', repository, '--components', 'Shop', '--dry-run'])
  t.ok(dry.stdout.startsWith(`Would restore ${last.id}`), dry.stdout.trim())
  t.absent(existsSync(at('events')))
  rmSync(data, { recursive: true })
  const told = await umbraJson<Told>(['restore', repository, '--components', 'Shop:data'])
  t.is(told.operations.length, 3)
  t.is(told.components[0]?.status, 'all')
  t.alike(differences(last.record, await treeRecord(data)), [])
  t.is(readFileSync(at('events'), 'utf8'), 'pre-restore\npost-restore\n'.repeat(3))
  const heard = JSON.parse(readFileSync(at('last.json'), 'utf8')) as {
    components: { additionalRestores: boolean; fileRestoreStatus: string }[]
  }
  t.is(heard.components[0]?.additionalRestores, false)
  t.is(heard.components[0]?.fileRestoreStatus, 'all')
  const elsewhere = at('elsewhere')
  const moved = ['restore', repository, first.id, '--all-components', '--to-folder', `${data}=${elsewhere}`]
  const wouldMove = await umbraJson<Told>([...moved, '--dry-run'])
  t.is(wouldMove.components[0]?.place, 'new-target')
  const hasMoved = (await umbra(moved)).stdout
  t.ok(hasMoved.includes('went to the folder given'), hasMoved)
  t.alike(differences(first.record, await treeRecord(elsewhere)), [])
  const results = readFileSync(join(repository, 'results.jsonl'), 'utf8')
  t.ok(results.includes('"operation":"restore"'))
  const refused = async (code: number, ...args: string[]) => {
    const { code: got, stderr } = await umbra(['restore', repository, ...args], { check: false })
    t.is(got, code, stderr.trim())
  }
  await refused(2, '--components', 'Shop', '--to', at('x'))
  await refused(2, '--dry-run', '--to', at('x'))
  await refused(2, '--components', 'Shop', '--roll-forward', 'all')
  await refused(3, '--components', 'Nobody')
  await refused(3, '--components', 'Shop:nothing')
  await umbra(['writer', 'remove', 'shop'])
  await refused(3, '--components', 'Shop')
  await umbra(['restore', repository, '--components', 'Shop', '--without-writers'])
  await run('rm', ['-r', join(repository, 'backups', first.id)])
  await refused(14, '--components', 'Shop', '--without-writers')
})

test('killed at any moment: old or new files, or the next run mends it', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const { at, data, back, repository } = await place(t)
  await umbra(['writer', 'remove', 'shop'])
  await umbra(['writer', 'add', 'shop', at('shop.json')])
  await run('sh', ['-c', `cd '${data}'; mkdir d; for i in $(seq 90); do echo "then $i" > d/f$i; done`])
  const then = await back('full')
  await run('sh', ['-c', `cd '${data}'; for i in $(seq 50); do echo "now $i" > d/f$i; done; rm d/f2*`])
  const now = await treeRecord(data)
  const args = [UMBRA, 'restore', repository, '--components', 'Shop', '--without-writers']
  const started = Date.now()
  await run('cp', ['-a', data, at('kept')])
  await umbra(args.slice(1))
  const usualMs = Date.now() - started
  const reset = async () => {
    rmSync(data, { recursive: true })
    await run('cp', ['-a', at('kept'), data])
  }
  let mendedCount = 0
  for (let round = 0; round < (isLong ? 40 : 4); round++) {
    await reset()
    const child = spawn(process.execPath, args, { stdio: 'ignore' })
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    // The beginning is the start of Node.js: kill when something happens on disk, or a little later.
    const journals = at('config', 'restores')
    const deadlineMs = Date.now() + 4 * usualMs + 10_000
    while (child.exitCode === null && Date.now() < deadlineMs) {
      if (existsSync(journals) && readdirSync(journals).length > 0) break
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    await new Promise((resolve) => setTimeout(resolve, random.below(Math.max(50, usualMs))))
    child.kill('SIGKILL')
    await ended
    // The next run has nothing to restore, but mends first.
    const next = await umbra(['restore', repository, '--components', 'Nobody', '--without-writers'], {
      check: false,
    })
    if (next.stderr.includes('interrupted restore')) mendedCount++
    // What a killed program could not send the kernel reports once to somebody else (docs/DRIVERS.md).
    await run('sh', ['-c', `find '${data}' -type f -exec cat {} +`], { check: false })
    const found = await treeRecord(data)
    const isNow = differences(now, found).length === 0
    const isThen = differences(then.record, found).length === 0
    t.ok(isNow || isThen, `round ${round}: ${isNow ? 'as it was' : 'as it was saved'}`)
    if (!isNow && !isThen) t.alike(differences(now, found), [])
    t.is(readdirSync(journals).length, 0)
  }
  t.comment(`${mendedCount} were mended`)
})
