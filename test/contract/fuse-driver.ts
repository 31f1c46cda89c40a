// What every FUSE driver must do, as a function of a driver: volumes are mounted by the command with it,
// another process does what programs do, and every volume is judged at its end by `umbra check` and
// e2fsck (see ../mount/lab.ts).
//
// Always true: what a driver cannot do is named, with the reason, where the contract is called; exactly
// the rules named there fail. A named rule that holds is an error as well, and so is an unknown name.

import { closeSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { type Lab, makeLab } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { run, until } from '../support/run.ts'
import { isMountPoint, umbra, umbraJson } from '../support/umbra.ts'

export interface KnownFailure {
  readonly rule: string
  readonly reason: string
}

export interface DriverContract {
  readonly driver: 'device' | 'fuse-native'
  readonly knownFailures: readonly KnownFailure[]
}

/** A rule's name, and null or why it does not hold. */
interface Verdict {
  readonly rule: string
  readonly failure: string | null
}

/** Where a rule of the commands works: one volume for all, with file names of its own. */
interface Place {
  readonly lab: Lab
  readonly mountArgs: readonly string[]
  readonly prefix: string
}

type Rule = (place: Place) => Promise<void>

const CLIENT = fileURLToPath(new URL('./fuse-driver-client.py', import.meta.url))
const CLIENT_TIMEOUT_MS = 120_000
const CLIENT_RULES_MIN = 40
const NEEDS = requires('root', '/dev/fuse', 'e2fsck', 'python3')

export function fuseDriverContract({ driver, knownFailures }: DriverContract): void {
  const known = new Map(knownFailures.map(({ rule, reason }) => [rule, reason]))
  const seen = new Set<string>()
  const judge = (t: Assertion, { rule, failure }: Verdict): void => {
    seen.add(rule)
    const reason = known.get(rule)
    if (reason === undefined) t.is(failure, null, rule)
    else t.ok(failure !== null, `${rule}: fails, as is known (${reason})`)
  }
  const mountArgs = ['--driver', driver]

  test(`${driver}: what programs do`, NEEDS, async (t) => {
    const lab = await makeLab(t, '1G')
    const mounted = await lab.mount([...mountArgs, '--allow-other'])
    const verdicts = await clientVerdicts(lab.dir)
    t.ok(verdicts.length >= CLIENT_RULES_MIN, `${verdicts.length} rules were tried`)
    for (const verdict of verdicts) judge(t, verdict)
    await mounted.unmount()
  })

  test(`${driver}: what the commands do`, NEEDS, async (t) => {
    const lab = await makeLab(t, '256M')
    for (const [index, [rule, body]] of Object.entries(RULES).entries()) {
      const place = { lab, mountArgs, prefix: `rule-${index}-` }
      const failure = await body(place).then(
        () => null,
        (error: Error) => error.message,
      )
      judge(t, { rule, failure })
      // One that broke off leaves the next a volume that is not mounted.
      if (isMountPoint(lab.dir)) await umbra(['unmount', '--force', lab.dir])
    }
  })

  test(`${driver}: every known failure is a rule`, NEEDS, (t) => {
    t.alike(
      [...known.keys()].filter((rule) => !seen.has(rule)),
      [],
    )
  })
}

async function clientVerdicts(folder: string): Promise<Verdict[]> {
  const { stdout } = await run('python3', [CLIENT, folder], { timeoutMs: CLIENT_TIMEOUT_MS })
  const lines = stdout.split('\n').filter((line) => line !== '')
  return lines.map((line) => JSON.parse(line) as Verdict)
}

function same(found: unknown, wanted: unknown, what: string): void {
  const [shown, expected] = [JSON.stringify(found), JSON.stringify(wanted)]
  if (shown !== expected) throw new Error(`${what}: ${shown} is not ${expected}`)
}

/** What is written and not synced. */
function writeAnd<T>(path: string, text: string, work: (fd: number) => Promise<T>): Promise<T> {
  const fd = openSync(path, 'w+')
  writeSync(fd, text)
  return work(fd).finally(() => closeSync(fd))
}

async function fails(args: readonly string[]): Promise<number> {
  return (await umbra(args, { check: false })).code
}

/** What a rule has at the root, and what nobody has asked for there; without the prefix. */
function contents({ lab, prefix }: Place): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of readdirSync(lab.dir)) {
    if (name === 'lost+found' || (/^rule-\d+-/.test(name) && !name.startsWith(prefix))) continue
    found[name.replace(prefix, '')] = readFileSync(join(lab.dir, name), 'utf8')
  }
  return found
}

function at({ lab, prefix }: Place, name: string): string {
  return join(lab.dir, prefix + name)
}

const RULES: Readonly<Record<string, Rule>> = {
  'a snapshot holds every write that had returned': async (place) => {
    const { lab, mountArgs: args } = place
    const mounted = await lab.mount(args)
    await writeAnd(at(place, 'a'), 'then', async (fd) => {
      for (const round of ['one', 'two', 'three']) {
        writeSync(fd, round)
        const before = readFileSync(at(place, 'a'), 'utf8')
        await umbra(['snapshot', 'create', lab.dir, round])
        writeSync(fd, 'later')
        same(readFileSync(join(lab.dir, '.snapshots', round, `${place.prefix}a`), 'utf8'), before, round)
      }
    })
    await umbra(['sync', lab.dir])
    await umbra(['snapshot', 'delete', lab.dir, 'two'])
    same(readdirSync(join(lab.dir, '.snapshots')), ['one', 'three'], '.snapshots after a deletion')
    await mounted.unmount()
  },

  'the table of mounts says what is mounted': async (place) => {
    const { lab, mountArgs: args } = place
    const mounted = await lab.mount(args)
    const line = readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .find((text) => text.split(' ')[1] === lab.dir)
    same(line?.split(' ').slice(0, 3), [lab.volume, lab.dir, 'fuse.umbra'], 'mount table')
    same(line?.includes('default_permissions'), true, 'default_permissions')
    await mounted.unmount()
  },

  'unmount waits for a file in use, and ends the daemon': async (place) => {
    const { lab, mountArgs: args } = place
    const mounted = await lab.mount(args)
    await writeAnd(at(place, 'a'), 'x', async () => {
      same((await fails(['unmount', lab.dir])) !== 0, true, 'a busy unmount fails')
      same(readFileSync(at(place, 'a'), 'utf8'), 'x', 'the mount after a refused unmount')
    })
    await mounted.unmount()
    same([isMountPoint(lab.dir), isAlive(mounted.pid)], [false, false], 'mount and daemon')
    await umbra(['check', lab.volume])
  },

  'umount(8) and SIGTERM end it as cleanly': async (place) => {
    const { lab, mountArgs: args } = place
    for (const end of ['umount', 'SIGTERM'] as const) {
      const mounted = await lab.mount(args)
      writeFileSync(at(place, end), end)
      if (end === 'umount') await run('umount', [lab.dir], { timeoutMs: 120_000 })
      else process.kill(mounted.pid, end)
      await until('the daemon ends', () => !isAlive(mounted.pid))
      same(isMountPoint(lab.dir), false, `mounted after ${end}`)
    }
    const mounted = await lab.mount(args)
    same(contents(place), { SIGTERM: 'SIGTERM', umount: 'umount' }, 'what was written')
    await mounted.unmount()
  },

  'a killed daemon leaves what was synced, and a mount that can be taken again': async (place) => {
    const { lab, mountArgs: args } = place
    const mounted = await lab.mount(args)
    const file = await open(at(place, 'synced'), 'w')
    await file.write('synced')
    await file.sync()
    const held = await open(at(place, 'unlinked'), 'w')
    await run('rm', [at(place, 'unlinked')], { timeoutMs: 120_000 })
    await umbra(['sync', lab.dir])
    process.kill(mounted.pid, 'SIGKILL')
    await until('the daemon is gone', () => !isAlive(mounted.pid))
    await Promise.allSettled([file.close(), held.close()])
    const again = await lab.mount(args)
    same(contents(place), { synced: 'synced' }, 'after the kill')
    await again.unmount()
  },

  'inode numbers stay over mounts': async (place) => {
    const { lab, mountArgs: args } = place
    const inodes = async () => (await run('stat', ['-c', '%i', at(place, 'a'), lab.dir])).stdout
    let mounted = await lab.mount(args)
    writeFileSync(at(place, 'a'), '')
    const before = await inodes()
    await mounted.unmount()
    mounted = await lab.mount(args)
    same(await inodes(), before, 'inode numbers')
    await mounted.unmount()
  },

  'a read-only mount, and one of a snapshot, refuse changes': async (place) => {
    const { lab, mountArgs: args } = place
    let mounted = await lab.mount(args)
    writeFileSync(at(place, 'a'), 'then')
    await umbra(['snapshot', 'create', lab.dir, 'shot'])
    writeFileSync(at(place, 'a'), 'now')
    await mounted.unmount()
    for (const [option, text] of [
      [['--read-only'], 'now'],
      [['--snapshot', 'shot'], 'then'],
    ] as const) {
      mounted = await mountSaying(lab, [...args, ...option])
      same(readFileSync(at(place, 'a'), 'utf8'), text, option.join(' '))
      same(
        refusal(() => writeFileSync(at(place, 'b'), '')),
        'EROFS',
        option.join(' '),
      )
      await umbra(['unmount', lab.dir])
    }
  },

  'what is asked by a wrong command line is refused, with nothing mounted': async (place) => {
    const { lab, mountArgs: args } = place
    same((await fails(['mount', lab.volume, lab.at('missing'), ...args])) !== 0, true, 'a missing folder')
    const mounted = await lab.mount(args)
    same((await fails(['mount', lab.volume, lab.dir, ...args])) !== 0, true, 'a second mount')
    const status = await umbraJson<{ mountPoint: string }>(['status', lab.volume])
    same(status.mountPoint, lab.dir, 'mount point')
    await mounted.unmount()
  },
}

function isAlive(pid: number): boolean {
  try {
    // A zombie that nobody has waited for yet has ended.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

/** A mount whose volume's status may name no daemon, as a snapshot's has one of its own. */
async function mountSaying(lab: Lab, args: readonly string[]) {
  const { daemon } = await umbraJson<{ daemon: { pid: number } }>(['mount', lab.volume, lab.dir, ...args])
  return { volume: lab.volume, folder: lab.dir, pid: daemon.pid, unmount: async () => {} }
}

function refusal(work: () => void): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return (error as NodeJS.ErrnoException).code
  }
}
