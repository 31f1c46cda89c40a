// Mounts that a user without privilege makes through fusermount3, by both drivers: all that is his to do
// works there as on ext4, but for the named differences; and who else may enter is as fuse.conf and
// --allow-other say.

// deadline 600

import { chmodSync, chownSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { loadFuseNative } from '../../src/fuse/fuse-native/load.ts'
import { type Identity, UserNamespace } from '../support/ordinary-user.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'
import { type Difference, GROUPS, holdGroup } from './conformance.ts'
import { DEVICE_DIFFERENCES } from './device-differences.ts'
import { FUSE_NATIVE_USER_DIFFERENCES } from './fuse-native-differences.ts'

const NEEDS = {
  ...requires('root', '/dev/fuse', 'fusermount3', 'unshare', 'nsenter', 'setpriv', 'e2fsck', 'python3'),
  timeout: 580_000,
}
const USER: Identity = { uid: 1000, groups: [1000, 2000] }
const OTHER: Identity = { uid: 1001, groups: [1001, 2000] }
const STRANGER: Identity = { uid: 1002, groups: [1002] }

const isInstalled = await loadFuseNative().then(
  () => true,
  () => false,
)
if (!isInstalled) console.log('# missing: fuse-native')

/** A volume of the user's in a folder of his, and a folder to mount it on. */
async function makeVolume(t: Assertion, space: UserNamespace) {
  const folder = join(tempFolder(t), 'work')
  mkdirSync(folder)
  chmodSync(join(folder, '..'), 0o755)
  chownSync(folder, USER.uid, USER.uid)
  const [volume, dir] = [join(folder, 'v.umbra'), join(folder, 'mnt')]
  await space.run(USER, ['mkdir', dir])
  await space.umbra(USER, ['create', volume, '--size', '4G'])
  return { volume, dir }
}

async function holdAll(t: Assertion, driver: string, differences: readonly Difference[]): Promise<void> {
  const space = await UserNamespace.make(t)
  const { volume, dir } = await makeVolume(t, space)
  await space.umbra(USER, ['mount', volume, dir, '--driver', driver])
  const tried: string[] = []
  const options = { differences, who: 'user', prefix: space.words(USER) } as const
  for (const group of GROUPS) tried.push(...(await holdGroup(t, dir, group, options)))
  t.ok(tried.length > 500, `${tried.length} rules were tried`)
  await space.umbra(USER, ['unmount', dir])
  await space.umbra(USER, ['check', volume])
}

test('a user’s own mount, device: every rule holds, or is a known difference', NEEDS, (t) =>
  holdAll(t, 'device', DEVICE_DIFFERENCES),
)

test(
  'a user’s own mount, fuse-native: every rule holds, or is a known failure',
  isInstalled ? NEEDS : { skip: true },
  (t) => holdAll(t, 'fuse-native', FUSE_NATIVE_USER_DIFFERENCES),
)

for (const driver of isInstalled ? ['device', 'fuse-native'] : ['device']) {
  test(
    `a user’s own mount, ${driver}: nobody else enters, and --allow-other is fuse.conf’s to grant`,
    NEEDS,
    async (t) => {
      const strict = await UserNamespace.make(t)
      const { volume, dir } = await makeVolume(t, strict)
      const enters = async (space: UserNamespace, who: Identity | undefined, path = dir) =>
        (await space.run(who, ['ls', '-a', path], { check: false })).code === 0
      await strict.umbra(USER, ['mount', volume, dir, '--driver', driver])
      t.ok(await enters(strict, USER))
      for (const [who, called] of [
        [OTHER, 'another user'],
        [STRANGER, 'a stranger'],
        [undefined, 'root'],
      ] as const)
        t.absent(await enters(strict, who), `${called} does not enter`)
      await strict.run(USER, [
        'sh',
        '-c',
        'cd "$1" && mkdir open closed && chmod 700 closed && chmod 777 open',
        'sh',
        dir,
      ])
      await strict.umbra(USER, ['unmount', dir])
      const refused = await strict.umbra(USER, ['mount', volume, dir, '--driver', driver, '--allow-other'], {
        check: false,
      })
      t.is(refused.code, 12, 'not permitted')
      t.ok(/^umbra: [^\n]*user_allow_other[^\n]*\n$/.test(refused.stderr), refused.stderr)

      const open = await UserNamespace.make(t, { fuseConf: 'user_allow_other\n' })
      await open.umbra(USER, ['mount', volume, dir, '--driver', driver, '--allow-other'])
      for (const who of [USER, OTHER, STRANGER, undefined]) t.ok(await enters(open, who), 'everyone enters')
      t.absent(await enters(open, STRANGER, join(dir, 'closed')), 'as far as modes let him')
      t.ok(await enters(open, undefined, join(dir, 'closed')), 'root everywhere')
      const made = await open.run(STRANGER, [
        'sh',
        '-c',
        'echo x > "$1/f" && stat -c %u "$1/f"',
        'sh',
        join(dir, 'open'),
      ])
      t.is(made.stdout.trim(), driver === 'device' ? '1002' : '1000', 'who owns what a stranger makes')
      const flags = await open.run(USER, ['sh', '-c', 'grep " $1 " /proc/self/mountinfo', 'sh', dir])
      t.ok(
        / (\S*,)?nosuid(,\S*)? /.test(flags.stdout) && /nodev/.test(flags.stdout),
        'no suid programs, no devices',
      )
      await open.umbra(USER, ['unmount', dir])
      await open.umbra(USER, ['check', volume])
    },
  )
}
