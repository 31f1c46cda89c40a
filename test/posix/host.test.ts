// The control of the POSIX rules: on the kernel's own ext4 every one of them holds; and a planted fault
// shows that the rules can fail.

// deadline 300

import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { mountLoop } from '../support/loop.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { FULL_GROUP, GROUPS, holdGroup } from './conformance.ts'

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
  for (const group of GROUPS) await holdGroup(t, folder, group)
})

test('the kernel’s ext4, full', NEEDS, async (t) => {
  const { folder } = await mountExt4(t, 64 * 2 ** 20)
  await holdGroup(t, folder, FULL_GROUP)
})

test('a planted fault: without ACLs and user attributes, the rules about them fail', NEEDS, async (t) => {
  const image = join(tempFolder(t), 'host.img')
  writeFileSync(image, '')
  truncateSync(image, 64 * 2 ** 20)
  await run('mke2fs', ['-q', '-F', '-t', 'ext2', image])
  const { folder } = await mountLoop(t, image, 'rw,noacl,nouser_xattr', 'ext2').catch(() =>
    mountLoop(t, image, 'rw,noacl', 'ext4'),
  )
  const { stdout } = await run('python3', [RUNNER, folder, 'xattrs', '--only', 'acl: default'])
  t.ok(/^not ok \[root\] acl: default: inherited by folders/m.test(stdout))
})
