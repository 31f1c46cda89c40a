// Without privilege: the whole life of a volume as root of a user namespace, as a container's root has
// it, and as an ordinary user through fusermount3. Images made there are judged outside.

// deadline 300

import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { e2fsck } from '../support/e2fsck.ts'
import { withOwnMounts } from '../support/own-mounts.ts'
import { findProgram, requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { isMountPoint, UMBRA } from '../support/umbra.ts'

const LIFE = fileURLToPath(new URL('./container-life.sh', import.meta.url))
const NOBODY = 65534
const AS_NOBODY = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups']
const NAMESPACE = ['unshare', '-Urmpf', '--mount-proc']

/** Why this cannot be tried here, if it cannot. */
function whyNot(prefix: readonly string[]): string | undefined {
  const words = [...prefix, process.execPath, UMBRA, '--version']
  const { status, stderr } = spawnSync(words[0] as string, words.slice(1), { encoding: 'utf8', cwd: '/' })
  return status === 0 ? undefined : `skipped: ${prefix.join(' ')}: ${stderr.trim().split('\n').at(-1)}`
}

/**
 * Words that run a program with a /dev/fuse that is open to everyone, as it is where udev runs, in a
 * mount namespace of its own.
 */
function withOpenDevice(t: Assertion): string[] {
  const device = join(tempFolder(t), 'fuse')
  spawnSync('mknod', [device, 'c', '10', '229'])
  chmodSync(device, 0o666)
  chmodSync(join(device, '..'), 0o755)
  return [...withOwnMounts(), 'sh', '-c', 'mount --bind "$1" /dev/fuse && shift && exec "$@"', 'sh', device]
}

async function live(t: Assertion, prefix: readonly string[], uid: number): Promise<string> {
  const folder = join(tempFolder(t), 'work')
  mkdirSync(folder)
  chmodSync(join(folder, '..'), 0o755)
  chownSync(folder, uid, uid)
  const words = [...prefix, 'sh', LIFE, folder, process.execPath, UMBRA]
  const env = { HOME: '/nonexistent', XDG_RUNTIME_DIR: '' }
  const result = await run(words[0] as string, words.slice(1), {
    cwd: '/',
    env,
    check: false,
    timeoutMs: 120_000,
  })
  t.is(result.code, 0, `${result.stdout}${result.stderr}`)
  return folder
}

async function judge(t: Assertion, folder: string): Promise<void> {
  const text = (name: string): string => readFileSync(join(folder, name), 'utf8')
  const json = <T>(name: string): T => JSON.parse(text(name)) as T
  t.absent(isMountPoint(join(folder, 'mnt')), 'nothing is mounted outside')
  t.is(text('three.listed'), 'one\nthree\ntwo\n')
  t.is(text('two.listed'), 'one\ntwo\n')
  t.is(text('one.differences').trim(), 'Only in mnt/.snapshots/one: fifo', 'the snapshot is the tree of then')
  t.ok(json<{ flushMs: number }>('one.json').flushMs >= 0)
  const { changedBytes } = json<{ changedBytes: number }>('diff.json')
  t.ok(changedBytes >= 100_000 && changedBytes < 1_000_000, `${changedBytes} bytes changed`)
  t.ok(/cleared the dead mount/.test(text('cleared')))
  t.is(text('kept'), 'kept', 'what was synced outlived the daemon')
  for (const name of ['one.img', 'two.img']) {
    const verdict = e2fsck(join(folder, name))
    t.ok(verdict.clean, verdict.clean ? `e2fsck finds nothing in ${name}` : verdict.output)
  }
  if (findProgram('qemu-img')) {
    for (const name of ['one', 'two']) {
      const paths = [join(folder, `${name}.qcow2`), join(folder, `${name}.img`)]
      t.is(
        (await run('qemu-img', ['compare', '-U', ...paths], { check: false })).code,
        0,
        `${name}.qcow2 holds what ${name}.img holds`,
      )
    }
  }
}

interface Diagnosis {
  addon: string
  fuseDevice: string
  runtimeFolder: string
  canMount: boolean
  mountModes: { mode: string; possible: boolean; reason: string }[]
}

function diagnosisOf(folder: string): Diagnosis {
  return JSON.parse(readFileSync(join(folder, 'doctor.json'), 'utf8')) as Diagnosis
}

test(
  'everything works as root of a user namespace',
  requires('root', '/dev/fuse', 'unshare', 'e2fsck'),
  async (t) => {
    const reason = whyNot(NAMESPACE)
    if (reason) return t.comment(reason)
    const folder = await live(t, [...withOwnMounts(), ...NAMESPACE], 0)
    await judge(t, folder)
    t.ok(diagnosisOf(folder).canMount)
  },
)

test(
  'everything works for a user who is root of a user namespace alone',
  requires('root', '/dev/fuse', 'unshare', 'setpriv', 'e2fsck'),
  async (t) => {
    const reason = whyNot([...AS_NOBODY, ...NAMESPACE])
    if (reason) return t.comment(reason)
    const folder = await live(t, [...withOpenDevice(t), ...AS_NOBODY, ...NAMESPACE], NOBODY)
    await judge(t, folder)
    const diagnosis = diagnosisOf(folder)
    t.ok(diagnosis.canMount)
    t.is(diagnosis.runtimeFolder, `/tmp/umbra-${NOBODY}`, 'as /run is not this root’s')
  },
)

test(
  'everything works for an ordinary user, through fusermount3',
  requires('root', '/dev/fuse', 'unshare', 'setpriv', 'fusermount3', 'e2fsck'),
  async (t) => {
    const reason = whyNot(AS_NOBODY)
    if (reason) return t.comment(reason)
    const folder = await live(t, [...withOpenDevice(t), ...AS_NOBODY], NOBODY)
    await judge(t, folder)
    const mode = diagnosisOf(folder).mountModes.find(({ mode }) => mode === 'fusermount3')
    t.ok(mode?.possible, mode?.reason)
  },
)

test(
  'a container’s root without the right to mount is told what is missing',
  requires('root', '/dev/fuse', 'unshare', 'setpriv'),
  async (t) => {
    const reason = whyNot(NAMESPACE)
    if (reason) return t.comment(reason)
    const folder = tempFolder(t)
    const powerless = [...NAMESPACE, 'setpriv', '--bounding-set', '-sys_admin', '--inh-caps', '-sys_admin']
    const umbra = (...args: string[]) =>
      run(powerless[0] as string, [...powerless.slice(1), process.execPath, UMBRA, ...args], { check: false })
    const volume = join(folder, 'v.umbra')
    mkdirSync(join(folder, 'mnt'))

    t.is((await umbra('create', volume, '--size', '16M')).code, 0, 'what needs no mount works')
    t.is((await umbra('snapshot', 'create', volume, 'one')).code, 0)
    const refused = await umbra('mount', volume, join(folder, 'mnt'))
    t.is(refused.code, 12)
    t.ok(/^umbra: .*may not mount.*--cap-add SYS_ADMIN/.test(refused.stderr), refused.stderr)
  },
)

test(
  'in a user namespace, owners that it does not map are shown as nobody and are read-only',
  requires('root', '/dev/fuse', 'unshare'),
  async (t) => {
    const reason = whyNot(NAMESPACE)
    if (reason) return t.comment(reason)
    const folder = tempFolder(t)
    const script = `
      set -eu
      cd "$1"
      "$2" "$3" mount v.umbra mnt
      stat -c '%u:%g' mnt/theirs
      cat mnt/theirs
      if sh -c 'echo more >> mnt/theirs' 2> /dev/null; then echo writable; fi
      if mknod mnt/null c 1 3 2> /dev/null; then echo device; fi
      "$2" "$3" unmount mnt`
    const prepare =
      'set -eu; cd "$1"; "$2" "$3" create v.umbra --size 16M; mkdir mnt; "$2" "$3" mount v.umbra mnt; echo theirs > mnt/theirs; chown 1000:1000 mnt/theirs; "$2" "$3" unmount mnt'
    await run('sh', ['-c', prepare, 'sh', folder, process.execPath, UMBRA])
    const words = [...NAMESPACE, 'sh', '-c', script, 'sh', folder, process.execPath, UMBRA]
    const { stdout } = await run(words[0] as string, words.slice(1))
    t.is(stdout, '65534:65534\ntheirs\n')
  },
)
