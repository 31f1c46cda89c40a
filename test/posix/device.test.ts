// The POSIX rules on a mount of the `device` driver, as root and as an ordinary user: all hold but for
// what the kernel's FUSE client decides by itself; and the volume is judged afterwards.

// deadline 600

import { chmodSync } from 'node:fs'
import test from 'brittle'
import { isLong, makeLab } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { FULL_GROUP, GROUPS, holdGroup, unknownNames } from './conformance.ts'
import { DEVICE_DIFFERENCES } from './device-differences.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 580_000 }

/** What differs only where the kernel collects writes and owns sizes and times. */
const KERNEL_OWNED = [
  'EFBIG',
  'times: truncate',
  'utimens: at the ends',
  'flags: a change moves ctime of a file',
]

test('device: every rule holds, or is a known difference', NEEDS, async (t) => {
  const lab = await makeLab(t, '4G')
  chmodSync(lab.folder, 0o755)
  const mounted = await lab.mount([])
  const tried: string[] = []
  for (const group of GROUPS)
    tried.push(...(await holdGroup(t, lab.dir, group, { differences: DEVICE_DIFFERENCES })))
  t.alike(unknownNames(tried, DEVICE_DIFFERENCES), [], 'every known difference is a rule')
  t.ok(tried.length > 1000, `${tried.length} rules were tried`)
  await mounted.unmount()
})

test('device: a full volume', NEEDS, async (t) => {
  const lab = await makeLab(t, '64M')
  chmodSync(lab.folder, 0o755)
  const mounted = await lab.mount()
  await holdGroup(t, lab.dir, FULL_GROUP)
  await mounted.unmount()
})

test('device, writing through: every rule holds', { ...NEEDS, skip: !isLong }, async (t) => {
  const lab = await makeLab(t, '4G')
  chmodSync(lab.folder, 0o755)
  const mounted = await lab.mount(['--write-through'])
  const differences = DEVICE_DIFFERENCES.filter(
    ({ rule }) => !KERNEL_OWNED.some((begin) => rule.startsWith(begin)),
  )
  for (const group of GROUPS) await holdGroup(t, lab.dir, group, { differences })
  await mounted.unmount()
})
