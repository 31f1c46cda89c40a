// The fuse-native driver keeps the driver contract but for what libfuse 2.9 and fuse-native cannot do,
// named here one by one; docs/DRIVERS.md says the same to users. Without the package (it is optional)
// there is one clear refusal, and nothing is left behind.

// deadline 300

import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { loadFuseNative } from '../../src/fuse/fuse-native/load.ts'
import { fuseDriverContract } from '../contract/fuse-driver.ts'

const isInstalled = await loadFuseNative().then(
  () => true,
  () => false,
)

test('a missing package is one clear refusal', async (t) => {
  const error = await loadFuseNative('fuse-native-that-is-not-there').catch((reason) => reason)
  t.ok(hasCode(error, 'UNAVAILABLE'))
  t.ok(String(error.message).includes('npm install fuse-native'))
  t.ok(String(error.message).includes('--driver device'))
})

if (!isInstalled) console.log('# missing: fuse-native')
else
  fuseDriverContract({
    driver: 'fuse-native',
    knownFailures: [
      {
        rule: 'what is written by one hard link is read by another that is open',
        reason: 'libfuse 2 knows files by path: each name has a page cache of its own, refreshed at open',
      },
      { rule: 'a new file belongs to who made it', reason: 'fuse-native does not say who asks' },
      { rule: 'access control lists are enforced', reason: 'libfuse 2.9 cannot ask the kernel for it' },
      { rule: 'times have nanoseconds', reason: 'fuse-native has milliseconds' },
      { rule: 'times before 1970', reason: 'fuse-native divides times as numbers without a sign' },
      {
        rule: 'one time of a file is set alone',
        reason: 'libfuse 2.9 drops it unless an option is set that fuse-native cannot set',
      },
      { rule: 'holes are found', reason: 'libfuse 2.9 has no lseek: all up to the size is data' },
      {
        rule: 'space is allocated ahead, and holes are punched',
        reason: 'fuse-native has no fallocate',
      },
      {
        rule: 'the folder of an unlinked open file is removed',
        reason: 'libfuse 2.9 reaches the open file through its folder, so the folder is kept',
      },
      { rule: 'names of any bytes', reason: 'fuse-native decodes paths as UTF-8' },
      { rule: 'a temporary file without a name gets one', reason: 'libfuse 2.9 has no O_TMPFILE' },
      { rule: 'rename exchanges, and refuses to replace', reason: 'libfuse 2.9 has no rename flags' },
      { rule: 'flags of chattr', reason: 'fuse-native has no ioctl' },
    ],
  })
