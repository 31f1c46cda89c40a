// The control of the POSIX rules: on the kernel's own ext4 every one of them holds; and a planted fault
// shows that the rules can fail.

// deadline 300

import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { isLong } from '../mount/lab.ts'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { FULL_GROUP, GROUPS, holdGroup, LIMITS_GROUP } from './conformance.ts'

const NEEDS = { ...requires('root', 'mke2fs', 'python3', '/dev/loop-control'), timeout: 280_000 }
const RUNNER = fileURLToPath(new URL('./rules/run.py', import.meta.url))

async function mountExt4(t: Assertion, sizeBytes: number, options = 'rw') {
  const image = join(tempFolder(t), 'host.img')
  writeFileSync(image, '')
  truncateSync(image, sizeBytes)
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', '-m', '0', image])
  return mountLoop(t, image, options)
}

test('the kernel’s ext4: every rule holds', NEEDS, async (t) => {
  const { folder } = await mountExt4(t, 4 * 2 ** 30)
  const tried: string[] = []
  for (const group of GROUPS) tried.push(...(await holdGroup(t, folder, group)))
  t.ok(tried.length > 1000, `${tried.length} rules were tried`)
  if (isLong) await holdGroup(t, folder, LIMITS_GROUP)
})

test('the kernel’s ext4, full', NEEDS, async (t) => {
  const { folder } = await mountExt4(t, 64 * 2 ** 20)
  await holdGroup(t, folder, FULL_GROUP)
})

test('a planted fault: where nothing may be executed, the rule about that fails', NEEDS, async (t) => {
  const { folder } = await mountExt4(t, 64 * 2 ** 20, 'rw,noexec')
  const { stdout } = await run('python3', [RUNNER, folder, 'opens', '--only', 'a program is run'])
  t.is(stdout.match(/^not ok \[(root|user)\] open: a program is run/gm)?.length, 2)
})
