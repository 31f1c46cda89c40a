// A restore by root into folders of a user who swaps them, at the worst moment, for links to what is not his:
// nothing behind a link is ever changed or read, whatever becomes of the restore.
//
// Always true: the swaps are made exactly between two steps of the change, so each run is the same.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { HeldFolders } from '../../src/base/held-folders.ts'
import { Pace } from '../../src/image/pace.ts'
import type { NodeAttributes } from '../../src/shadow/requester/restore/disk-node.ts'
import { makeFile, wholeContent } from '../../src/shadow/requester/restore/file-content.ts'
import { ChangeFailure, TreeChange } from '../../src/shadow/requester/restore/tree-change.ts'
import { mendAbandoned } from '../../src/shadow/requester/restore/undo-change.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const NEEDS = requires('root')
const USER = 1000
const FOLDER: NodeAttributes = { mode: 0o40755, uid: USER, gid: USER, mtimeNs: '1000000000' }
const FILE: NodeAttributes = { mode: 0o104755, uid: USER, gid: USER, mtimeNs: '2000000000' }
const SECRET = 'nobody but root reads this'

/** Puts something else in the place of what the restore is about. */
type Swap = (lab: Lab) => void

class Lab {
  readonly folder: string
  constructor(t: Assertion) {
    this.folder = tempFolder(t)
    chmodSync(this.folder, 0o755)
    mkdirSync(this.at('victim'), { mode: 0o700 })
    writeFileSync(this.at('victim/old'), SECRET, { mode: 0o600 })
    writeFileSync(this.at('victim/gone'), SECRET, { mode: 0o600 })
    writeFileSync(this.at('victim/kept'), SECRET, { mode: 0o600 })
    mkdirSync(this.at('victim/dir'))
    writeFileSync(this.at('victim/dir/precious'), SECRET)
    writeFileSync(this.at('stored'), 'restored')
    this.#users('target')
    this.#users('target/sub')
    for (const name of ['old', 'gone', 'kept']) this.#users(`target/sub/${name}`, name)
    this.#users('target/sub/dir')
  }

  at(name: string): string {
    return join(this.folder, name)
  }

  #users(name: string, content?: string): void {
    if (content === undefined) mkdirSync(this.at(name))
    else writeFileSync(this.at(name), content)
    chownSync(this.at(name), USER, USER)
  }

  /** Replaces a file, adds one and a folder, removes a file and a folder, gives attributes to what is kept. */
  change(hooks: { onStep?: (path: string) => void; onMake?: () => void }): TreeChange {
    const change = new TreeChange({
      title: 'swapped',
      journalFolder: this.at('journals'),
      roots: [this.at('target')],
      onStep: hooks.onStep,
    })
    const pace = new Pace(0, {})
    const make = async (staged: Uint8Array): Promise<void> => {
      await makeFile(staged, 'new', wholeContent(this.at('stored'), 8), pace)
      hooks.onMake?.()
    }
    change.folder(this.at('target/sub'), FOLDER)
    change.remove(this.at('target/sub/gone'))
    change.remove(this.at('target/sub/dir'))
    change.put(this.at('target/sub/old'), make, FILE, true)
    change.put(this.at('target/sub/new'), make, FILE, true)
    change.folder(this.at('target/sub/fresh'), FOLDER)
    change.put(this.at('target/sub/fresh/file'), make, FILE, true)
    change.attributes(this.at('target/sub/kept'), FILE)
    return change
  }

  staging(): string | undefined {
    const name = readdirSync(this.at('target')).find((one) => one.startsWith('.umbra-restore-'))
    return name === undefined ? undefined : this.at(`target/${name}`)
  }
}

const swaps: Record<string, Swap> = {
  'a folder for a link': (lab) => swapped(lab.at('target/sub'), lab.at('victim')),
  'a new folder for a link': (lab) => swapped(lab.at('target/sub/fresh'), lab.at('victim')),
  'an emptied folder for a link': (lab) => swapped(lab.at('target/sub/dir'), lab.at('victim/dir')),
  'a kept file for a link': (lab) => swapped(lab.at('target/sub/kept'), lab.at('victim/kept')),
  'a file to be replaced for a link': (lab) => swapped(lab.at('target/sub/old'), lab.at('victim/old')),
  'the staging folder for a link': (lab) => swapped(lab.staging(), lab.at('victim')),
  'the staging folder for one of his own': (lab) => {
    const staging = lab.staging()
    if (staging === undefined || !swapped(staging, null)) return
    mkdirSync(staging, { mode: 0o777 })
    chownSync(staging, USER, USER)
    for (const name of ['new-0', 'new-1', 'old-0', 'old-1', 'old-2'])
      symlinkSync(lab.at('victim/kept'), join(staging, name))
  },
}

/** @returns whether there was anything to swap */
function swapped(path: string | undefined, target: string | null): boolean {
  if (path === undefined || !existsSync(path) || lstatSync(path).isSymbolicLink()) return false
  renameSync(path, `${path}.away`)
  if (target !== null) symlinkSync(target, path)
  return true
}

/** Everything that a restore could have changed. */
function victimRecord(lab: Lab): string {
  const paths = [
    lab.at('victim'),
    ...readdirSync(lab.at('victim'), { recursive: true }).map((name) => lab.at(`victim/${name}`)),
  ]
  const lines = paths.sort().map((path) => {
    const { mode, uid, gid, mtimeNs, ino } = lstatSync(path, { bigint: true })
    return [path, mode, uid, gid, mtimeNs, ino, lstatSync(path).isFile() ? readFileSync(path) : ''].join(' ')
  })
  return lines.join('\n')
}

/** @param failAt a step at which the change fails, so that it is taken back */
async function attack(t: Assertion, swap: Swap, swapAt: number, failAt: number): Promise<boolean> {
  const lab = new Lab(t)
  const before = victimRecord(lab)
  let at = 0
  const moment = (): void => {
    if (at === swapAt) swap(lab)
    if (at++ === failAt) throw new Error('made to fail')
  }
  let wasReached = true
  try {
    await lab.change({ onMake: moment, onStep: moment }).apply()
    wasReached = at > swapAt
  } catch (error) {
    if (!(error instanceof ChangeFailure)) throw error
  }
  // What a failed one leaves is seen to by the next.
  mendAbandoned(lab.at('journals'))
  if (victimRecord(lab) !== before) t.fail(`swapped at ${swapAt}, failed at ${failAt}: the victim changed`)
  for (const name of leaves(lab.at('target')))
    if (readFileSync(name, 'utf8') === SECRET) t.fail(`swapped at ${swapAt}: ${name} holds what was secret`)
  rmSync(lab.folder, { recursive: true })
  return wasReached
}

function leaves(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

for (const [name, swap] of Object.entries(swaps)) {
  test(`${name}, at each step`, NEEDS, async (t) => {
    let steps = 0
    while (await attack(t, swap, steps, -1)) steps++
    t.ok(steps > 8, `${steps} steps`)
    for (let at = 0; at < steps; at++) await attack(t, swap, at, Math.min(at + 2, steps - 1))
    for (let at = 0; at < steps; at++) await attack(t, swap, at, at)
    t.pass('the victim is as it was')
  })
}

test('without swaps the restore does what it should', NEEDS, async (t) => {
  const lab = new Lab(t)
  await lab.change({}).apply()
  t.is(readFileSync(lab.at('target/sub/old'), 'utf8'), 'restored')
  t.is(readFileSync(lab.at('target/sub/fresh/file'), 'utf8'), 'restored')
  t.is(readFileSync(lab.at('target/sub/kept'), 'utf8'), 'kept')
  t.is(lstatSync(lab.at('target/sub/kept')).mode, 0o104755)
  t.absent(existsSync(lab.at('target/sub/gone')))
  t.absent(existsSync(lab.at('target/sub/dir')))
  t.is(lab.staging(), undefined)
})

test('a base swapped for a link is not read', NEEDS, async (t) => {
  const lab = new Lab(t)
  const change = lab.change({})
  const pace = new Pace(0, {})
  const base = change.baseFile(lab.at('target/sub/kept'))
  change.put(
    lab.at('target/sub/copy'),
    (staged) => makeFile(staged, 'copy', { base, copies: [], sizeBytes: undefined }, pace),
    FILE,
    true,
  )
  swapped(lab.at('target/sub/kept'), lab.at('victim/kept'))
  await t.exception(change.apply(), /kept/)
  t.absent(existsSync(lab.at('target/sub/copy')))
})

test('a root that is a link of another user to what is not his is refused', NEEDS, async (t) => {
  const lab = new Lab(t)
  const before = victimRecord(lab)
  renameSync(lab.at('target'), lab.at('target.away'))
  symlinkSync(lab.at('victim'), lab.at('target'))
  await run('chown', ['-h', `${USER}:${USER}`, lab.at('target')])
  const change = new TreeChange({ title: 'x', journalFolder: lab.at('journals'), roots: [lab.at('target')] })
  change.folder(lab.at('target'), FOLDER)
  await t.exception(change.apply(), /not followed/)
  t.is(victimRecord(lab), before)
  // Nor one of root's that he may have moved there.
  await run('chown', ['-h', '0:0', lab.at('target')])
  chmodSync(lab.folder, 0o777)
  const moved = new TreeChange({ title: 'x', journalFolder: lab.at('journals'), roots: [lab.at('target')] })
  moved.folder(lab.at('target'), FOLDER)
  await t.exception(moved.apply(), /not followed/)
  t.is(victimRecord(lab), before)
  // The machine's own link is followed.
  chmodSync(lab.folder, 0o755)
  const other = new TreeChange({ title: 'x', journalFolder: lab.at('journals'), roots: [lab.at('target')] })
  other.folder(lab.at('target'), FOLDER)
  await other.apply()
  t.is(lstatSync(lab.at('victim')).uid, USER)
})

test('links that lead to each other without end are given up soon', NEEDS, async (t) => {
  const lab = new Lab(t)
  mkdirSync(lab.at('d0'))
  // Each doubles the way of the one before.
  for (let i = 1; i <= 40; i++) symlinkSync(`d${i - 1}/../d${i - 1}`, lab.at(`d${i}`))
  using held = new HeldFolders(() => true)
  t.ok(held.at(lab.at('d3/x')))
  t.exception(() => held.at(lab.at('d40/x')), /links/)
})

const SWAPPER = `
import os, random, sys, time
sub, away, victim = sys.argv[1:]
print("swapping", flush=True)
while True:
    try:
        os.rename(sub, away)
        os.symlink(victim, sub)
        time.sleep(random.random() * 0.002)
        os.unlink(sub)
        os.rename(away, sub)
        time.sleep(random.random() * 0.04)
    except OSError:
        if os.path.islink(sub): os.unlink(sub)
        if os.path.isdir(away) and not os.path.lexists(sub): os.rename(away, sub)
`

test('a process of the user that swaps without end changes nothing outside', NEEDS, async (t) => {
  const lab = new Lab(t)
  const before = victimRecord(lab)
  const args = ['-c', SWAPPER, lab.at('target/sub'), lab.at('target/away'), lab.at('victim')]
  const swapper = spawn('python3', args, { uid: USER, gid: USER, stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => swapper.kill('SIGKILL'))
  await once(swapper.stdout, 'data')
  const ends = { done: 0, refused: 0 }
  for (let round = 0; round < 60; round++) {
    await lab
      .change({})
      .apply()
      .then(
        () => ends.done++,
        () => ends.refused++,
      )
    mendAbandoned(lab.at('journals'))
  }
  swapper.kill('SIGKILL')
  t.is(victimRecord(lab), before, 'the victim is as it was')
  t.comment(`${ends.done} restores done, ${ends.refused} refused`)
})
