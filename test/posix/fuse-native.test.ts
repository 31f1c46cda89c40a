// The POSIX rules on a mount of the `fuse-native` driver, as root: exactly those fail that are named
// with what the driver lacks. Rules of other users are not tried, because what they make is not theirs
// there (the package does not say who asks); the contract test of the drivers holds that.

// deadline 600

import { chmodSync } from 'node:fs'
import test from 'brittle'
import { loadFuseNative } from '../../src/fuse/fuse-native/load.ts'
import { makeLab } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { GROUPS, holdGroup, unknownNames } from './conformance.ts'
import { FUSE_NATIVE_DIFFERENCES } from './fuse-native-differences.ts'

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
      tried.push(...(await holdGroup(t, lab.dir, group, FUSE_NATIVE_DIFFERENCES, 'root')))
    t.alike(unknownNames(tried, FUSE_NATIVE_DIFFERENCES), [], 'every known failure is a rule')
    await mounted.unmount()
  },
)
