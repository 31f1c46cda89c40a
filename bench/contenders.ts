// The file systems that the bench compares, each mounted in a folder of one scratch place so that
// all of them end on the same medium. A contender that cannot run here says why instead.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Mounted {
  /** Where the client works. */
  readonly dir: string
  /** Processes that serve it, to be pinned with the client. */
  readonly pids: readonly number[]
  unmount(): Promise<void>
}

export interface Contender {
  readonly name: string
  /** Why it cannot run on this machine, or undefined. */
  missing(): string | undefined
  mount(scratchDir: string): Promise<Mounted>
}

const UMBRA = new URL('../bin/umbra.js', import.meta.url).pathname
const EXAMPLE = '/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c'

/** Runs a program to its end; throws with its output when it fails. */
export function run(command: string, args: readonly string[], timeoutMs = 120_000): string {
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: timeoutMs })
  if (done.status === 0) return done.stdout
  throw new Error(`${command} ${args.join(' ')} failed: ${done.error?.message ?? ''}${done.stderr}`)
}

function fresh(path: string): string {
  mkdirSync(path, { recursive: true })
  return path
}

async function mounted(dir: string, timeoutMs = 10_000): Promise<void> {
  const deadline = Date.now() + timeoutMs
  while (!readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${dir} `)) {
    if (Date.now() > deadline) throw new Error(`${dir} was not mounted within ${timeoutMs} ms`)
    await new Promise((wake) => setTimeout(wake, 20))
  }
}

/** A server that stays in the foreground: mounted when the mount table says so, ended by umount. */
async function foreground(command: string, args: readonly string[], dir: string): Promise<Mounted> {
  const child: ChildProcess = spawn(command, args, { stdio: 'ignore' })
  const ended = new Promise<void>((settle) => child.once('exit', () => settle()))
  await mounted(dir)
  return {
    dir,
    pids: [child.pid as number],
    async unmount() {
      run('umount', [dir])
      await Promise.race([ended, new Promise((wake) => setTimeout(wake, 10_000))])
      child.kill('SIGKILL')
    },
  }
}

const host: Contender = {
  name: 'host',
  missing: () => undefined,
  mount: (scratchDir) =>
    Promise.resolve({ dir: fresh(join(scratchDir, 'host')), pids: [], unmount: () => Promise.resolve() }),
}

/** libfuse's low-level passthrough, with its write-back cache on: the faster of its settings. */
const passthrough: Contender = {
  name: 'passthrough_ll',
  missing: () => (existsSync(EXAMPLE) ? undefined : 'libfuse3-dev is not installed'),
  async mount(scratchDir) {
    const source = fresh(join(scratchDir, 'passthrough-source'))
    const dir = fresh(join(scratchDir, 'passthrough'))
    const program = join(scratchDir, 'passthrough_ll')
    const flags = run('pkg-config', ['--cflags', '--libs', 'fuse3']).trim().split(/\s+/)
    if (!existsSync(program)) run('cc', ['-O2', '-D_FILE_OFFSET_BITS=64', '-o', program, EXAMPLE, ...flags])
    return foreground(program, ['-f', '-o', `source=${source},writeback,cache=always`, dir], dir)
  },
}

const fuse2fs: Contender = {
  name: 'fuse2fs',
  missing: () => (spawnSync('fuse2fs', ['-V']).error ? 'fuse2fs is not installed' : undefined),
  async mount(scratchDir) {
    const image = join(scratchDir, 'fuse2fs.img')
    const dir = fresh(join(scratchDir, 'fuse2fs'))
    run('truncate', ['-s', '4G', image])
    run('mke2fs', ['-q', '-F', '-t', 'ext4', '-b', '4096', '-O', '^has_journal', image])
    return foreground('fuse2fs', ['-f', image, dir], dir)
  },
}

const umbra: Contender = {
  name: 'umbra',
  missing: () => undefined,
  async mount(scratchDir) {
    const volume = join(scratchDir, 'bench.umbra')
    const dir = fresh(join(scratchDir, 'umbra'))
    run(UMBRA, ['create', volume, '--size', '16G'])
    run(UMBRA, ['mount', volume, dir])
    const status = JSON.parse(run(UMBRA, ['status', volume, '--json'])) as { daemon: { pid: number } }
    return {
      dir,
      pids: [status.daemon.pid],
      unmount: () => Promise.resolve(void run(UMBRA, ['unmount', dir])),
    }
  },
}

export const CONTENDERS: readonly Contender[] = [host, passthrough, fuse2fs, umbra]
