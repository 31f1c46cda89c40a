// Link counts at their limits and large folders, on a mount of the `device` driver: a file of its own,
// for these rules take long.

// deadline 600

import { chmodSync } from 'node:fs'
import test from 'brittle'
import { makeLab } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { holdGroup, LIMITS_GROUP } from './conformance.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 580_000 }

test('device: link counts at their limits, and large folders', NEEDS, async (t) => {
  const lab = await makeLab(t, '4G')
  chmodSync(lab.folder, 0o755)
  const mounted = await lab.mount()
  await holdGroup(t, lab.dir, LIMITS_GROUP)
  await mounted.unmount()
})
