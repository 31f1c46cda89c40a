// What an ordinary user may do where udev runs: a mount namespace of its own with a /dev/fuse that is
// open to everyone, in which programs run as a user without privilege.
//
// Always true: what is mounted there is seen there only, and goes with the namespace, which ends at
// teardown; the machine's own /dev/fuse and /etc/fuse.conf stay as they are.

import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { withOwnMounts } from './own-mounts.ts'
import { type RunOptions, type RunResult, run, until } from './run.ts'
import { tempFolder } from './temp.ts'
import { UMBRA } from './umbra.ts'

/** Root's own may lead to folders that are closed to others. */
const PATH = '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin'

export interface UserNamespaceOptions {
  /** The text of /etc/fuse.conf; left out: nothing is allowed in it. */
  readonly fuseConf?: string
}

/** Who runs a program: a number of a user, and of groups of which the first is the effective one. */
export interface Identity {
  readonly uid: number
  readonly groups: readonly number[]
}

export class UserNamespace {
  readonly #pid: number

  private constructor(pid: number) {
    this.#pid = pid
  }

  /** Needs root, unshare, nsenter and setpriv. */
  static async make(t: Assertion, options: UserNamespaceOptions = {}): Promise<UserNamespace> {
    const folder = tempFolder(t)
    const device = join(folder, 'fuse')
    const conf = join(folder, 'fuse.conf')
    spawnSync('mknod', [device, 'c', '10', '229'])
    chmodSync(device, 0o666)
    chmodSync(folder, 0o755)
    writeFileSync(conf, options.fuseConf ?? '')
    const script = 'mount --bind "$1" /dev/fuse && mount --bind "$2" /etc/fuse.conf && echo ready && exec cat'
    const [unshare = '', ...alone] = withOwnMounts()
    const child = spawn(unshare, [...alone, 'sh', '-c', script, 'sh', device, conf], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.on('data', (text: Buffer) => {
      said += text
    })
    t.teardown(() => child.kill('SIGKILL'), { order: 1_000 })
    await until('a mount namespace', () => said.startsWith('ready'))
    return new UserNamespace(child.pid as number)
  }

  /** Words before a program's, so that it runs there as this user; as root, if none is given. */
  words(identity?: Identity): string[] {
    const enter = ['nsenter', '-t', String(this.#pid), '-m']
    if (identity === undefined) return enter
    const { uid, groups } = identity
    const ids = [`--reuid=${uid}`, `--regid=${groups[0]}`, `--groups=${groups.join(',')}`]
    return [...enter, 'setpriv', ...ids, 'env', `PATH=${PATH}`]
  }

  run(
    identity: Identity | undefined,
    words: readonly string[],
    options: RunOptions = {},
  ): Promise<RunResult> {
    const [command = '', ...args] = [...this.words(identity), ...words]
    const env = { HOME: '/nonexistent', XDG_RUNTIME_DIR: '', ...options.env }
    return run(command, args, { cwd: '/', ...options, env })
  }

  umbra(identity: Identity, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.run(identity, [process.execPath, UMBRA, ...args], options)
  }
}
