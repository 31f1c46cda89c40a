// The POSIX rules on a mount of the `fuse-native` driver that root made, as root and as another user who
// was let in: exactly those fail that are named with what the driver lacks. What a user makes is not his
// there (the package does not say who asks); user-mount.test.ts has users who mount by themselves.

// deadline 600

import { chmodSync } from 'node:fs'
import test from 'brittle'
import { loadFuseNative } from '../../src/fuse/fuse-native/load.ts'
import { isLong, makeLab } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { GROUPS, holdGroup, unknownNames } from './conformance.ts'
import { FUSE_NATIVE_DIFFERENCES, FUSE_NATIVE_USER_DIFFERENCES } from './fuse-native-differences.ts'
import { FUSE_NATIVE_OTHERS } from './fuse-native-others.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 580_000 }

const isInstalled = await loadFuseNative().then(
  () => true,
  () => false,
)
if (!isInstalled) console.log('# missing: fuse-native')

test(
  'fuse-native: every rule holds, or is a known failure',
  isInstalled ? NEEDS : { skip: true },
  async (t) => {
    const lab = await makeLab(t, '4G')
    chmodSync(lab.folder, 0o755)
    const mounted = await lab.mount(['--driver', 'fuse-native', '--allow-other'])
    const tried: string[] = []
    for (const group of GROUPS)
      tried.push(
        ...(await holdGroup(t, lab.dir, group, { differences: FUSE_NATIVE_DIFFERENCES, who: 'root' })),
      )
    t.alike(unknownNames(tried, FUSE_NATIVE_DIFFERENCES), [], 'every known failure is a rule')
    await mounted.unmount()
  },
)

test(
  'fuse-native, another user: every rule holds, or is a known failure',
  isInstalled && isLong ? NEEDS : { skip: true },
  async (t) => {
    const lab = await makeLab(t, '4G')
    chmodSync(lab.folder, 0o755)
    const mounted = await lab.mount(['--driver', 'fuse-native', '--allow-other'])
    const differences = [...FUSE_NATIVE_OTHERS, ...FUSE_NATIVE_USER_DIFFERENCES]
    const tried: string[] = []
    for (const group of GROUPS)
      tried.push(...(await holdGroup(t, lab.dir, group, { differences, who: 'user' })))
    t.alike(unknownNames(tried, FUSE_NATIVE_OTHERS), [], 'every known failure is a rule')
    await mounted.unmount()
  },
)
