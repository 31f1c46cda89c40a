// The comparison of times by operation, on two folders of the host: it finds nothing where both had the
// same, and every time that is planted wrong.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { chosenSeed } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { recordTree, Workload } from './lab.ts'
import { OperationTimes } from './operation-times.ts'

const RECENT_NS = 60_000_000_000n

test('times of the same operations are alike; a moved, a kept and a rounded one are not', {
  ...requires('root', 'python3'),
}, async (t) => {
  const folder = tempFolder(t)
  const roots = ['one', 'other'].map((name) => join(folder, name)) as [string, string]
  for (const root of roots) mkdirSync(root)
  const workload = new Workload(t, chosenSeed(t), ...roots)
  const times = new OperationTimes([workload], join(folder, 'spans'))
  for (let i = 0; i < 3; i++) {
    await workload.run(150)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await workload.release()
  await times.update()
  const records = () => Promise.all(roots.map(recordTree)) as Promise<[never, never]>
  t.alike(times.differences(...(await records())), [], 'nothing is planted')

  const mtime = (path: string, ns: bigint) =>
    run('python3', [
      '-c',
      'import os,sys; p=os.fsencode(sys.argv[1]); os.utime(p, ns=(0, int(sys.argv[2])), follow_symlinks=False)',
      path,
      String(ns),
    ])
  const found = async () =>
    times.differences(...(await records())).filter((line) => line.includes(': mtime '))
  const now = BigInt(Date.now()) * 1_000_000n
  const recent = [...(await recordTree(roots[0]))]
    .map(([path, { mtime }]) => ({ path: Buffer.from(path, 'latin1').toString(), at: BigInt(String(mtime)) }))
    .filter(({ path, at }) => at > now - RECENT_NS && at < now && /^[\x20-\x7e]+$/.test(path))
    .sort((a, b) => Number(a.at - b.at))
  const [oldest, newest] = [recent[0], recent.at(-1)]
  if (oldest === undefined || newest === undefined) throw new Error('nothing recent')
  const path = roots[0] + newest.path
  for (const [what, planted] of [
    ['one that did not move', oldest.at],
    ['one that moved', now + 1_000_000_000n],
    ['one of years ago', 1_000_000_000_000_000_000n],
  ] as const) {
    await mtime(path, planted)
    t.is((await found()).length, 1, what)
  }
  for (const root of roots) await mtime(root + newest.path, 1_000_000_000_000_000_001n)
  t.alike(await found(), [], 'the same, set by a program')
  await mtime(path, 1_000_000_000_000_000_002n)
  t.is((await found()).length, 1, 'one that is off by a nanosecond')
  await workload.quit()
})
