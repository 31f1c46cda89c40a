// `umbra doctor` in surroundings that are made for it: what it says is possible must be, and what it
// says is not must have its reason.

// deadline 240

import { spawnSync } from 'node:child_process'
import { chmodSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { UMBRA } from '../support/umbra.ts'

interface Diagnosis {
  node: string
  kernel: string
  addon: string
  fuseDevice: string
  runtimeFolder: string
  writeBack: string
  canMount: boolean
  mountModes: { mode: 'root' | 'user namespace' | 'fusermount3'; possible: boolean; reason: string }[]
}

interface Answer {
  readonly code: number
  readonly stderr: string
  readonly said: Diagnosis
  possible(mode: Diagnosis['mountModes'][number]['mode']): boolean
  reason(mode: Diagnosis['mountModes'][number]['mode']): string
}

const NEEDS = requires('root', '/dev/fuse', 'unshare', 'mount')

async function ask(prefix: readonly string[], env: Record<string, string> = {}): Promise<Answer> {
  const words = [...prefix, process.execPath, UMBRA, 'doctor', '--json']
  const result = await run(words[0] as string, words.slice(1), { check: false, env, cwd: '/' })
  const said = JSON.parse(result.stdout) as Diagnosis
  const mode = (name: string) => said.mountModes.find((entry) => entry.mode === name)
  return {
    code: result.code,
    stderr: result.stderr,
    said,
    possible: (name) => mode(name)?.possible ?? false,
    reason: (name) => mode(name)?.reason ?? '',
  }
}

/** Words that run a program in a mount namespace in which `script` was run first. */
function after(script: string, ...args: string[]): string[] {
  return ['unshare', '-m', 'sh', '-c', `${script}; shift ${args.length}; exec "$@"`, 'sh', ...args]
}

function openDevice(t: Assertion): string {
  const device = join(tempFolder(t), 'fuse')
  spawnSync('mknod', [device, 'c', '10', '229'])
  chmodSync(device, 0o666)
  chmodSync(join(device, '..'), 0o755)
  return device
}

test('root of the machine', NEEDS, async (t) => {
  const answer = await ask([])
  t.is(answer.code, 0)
  t.is(answer.said.node, process.version)
  t.is(answer.said.addon, 'loaded')
  t.ok(answer.said.canMount && answer.possible('root'))
  t.ok(/limits of a mount are raised$/.test(answer.said.writeBack), answer.said.writeBack)
  const text = await run(process.execPath, [UMBRA, 'doctor'])
  t.ok(/^mount by root +yes: /m.test(text.stdout), 'and as text')
})

test(
  'users may use fusermount3 where they may open the device',
  requires('root', '/dev/fuse', 'unshare', 'fusermount3'),
  async (t) => {
    const device = openDevice(t)
    const open = await ask(after('mount --bind "$1" /dev/fuse', device))
    t.ok(open.possible('fusermount3'), open.reason('fusermount3'))
    chmodSync(device, 0o600)
    const closed = await ask(after('mount --bind "$1" /dev/fuse', device))
    t.absent(closed.possible('fusermount3'))
    t.ok(/users may not open \/dev\/fuse/.test(closed.reason('fusermount3')), closed.reason('fusermount3'))
  },
)

test(
  'root of a user namespace that is nobody outside',
  requires('root', '/dev/fuse', 'unshare', 'setpriv'),
  async (t) => {
    const nobody = [
      'setpriv',
      '--reuid=65534',
      '--regid=65534',
      '--clear-groups',
      'unshare',
      '-Urmpf',
      '--mount-proc',
    ]
    const probe = spawnSync(nobody[0] as string, [...nobody.slice(1), process.execPath, UMBRA, '--version'])
    if (probe.status !== 0)
      return t.comment('skipped: nobody may make no user namespace, or not read this folder')
    const answer = await ask([...after('mount --bind "$1" /dev/fuse', openDevice(t)), ...nobody])
    t.is(answer.code, 0, answer.stderr)
    t.ok(answer.possible('root'))
    t.ok(/user namespace/.test(answer.reason('root')))
    t.absent(answer.possible('fusermount3'), 'which is set-uid nobody here')
    t.ok(/stay as the kernel sets them/.test(answer.said.writeBack), answer.said.writeBack)
  },
)

test('no /dev/fuse, or something else in its place', NEEDS, async (t) => {
  const bare = 'mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9'
  const missing = await ask(after(bare))
  t.is(missing.code, 11)
  t.absent(missing.said.canMount)
  t.ok(/^missing: .*--device \/dev\/fuse/.test(missing.said.fuseDevice))
  for (const mode of ['root', 'user namespace', 'fusermount3'] as const) {
    t.absent(missing.possible(mode), mode)
    t.ok(/\/dev\/fuse|not installed|user_namespaces|unshare/.test(missing.reason(mode)), missing.reason(mode))
  }
  t.ok(/volumes that are not mounted and images do/.test(missing.stderr))

  const other = await ask(after('mount --bind /dev/null /dev/fuse'))
  t.is(other.code, 11)
  t.is(other.said.fuseDevice, 'there, but not the FUSE device (10:229)')
})

test('no addon', NEEDS, async (t) => {
  const answer = await ask([], { UMBRA_NATIVE: 'none' })
  t.is(answer.code, 11)
  t.absent(answer.said.canMount)
  t.ok(/npm run build/.test(answer.said.addon))
  t.absent(answer.said.mountModes.some((mode) => mode.possible))
})
