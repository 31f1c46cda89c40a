// deadline 600
// A random history of a repository: backups of all types, prune and consolidate, some of them killed, bookmarks that
// are lost. Each backup builds on what its type says, consolidated ones being fulls, as far as bookmarks are there;
// after each step every backup that is there is restored bit for bit.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { Calendar } from '../../src/shadow/repository/calendar-period.ts'
import { consolidate } from '../../src/shadow/repository/consolidate.ts'
import { basesOf } from '../../src/shadow/repository/dependencies.ts'
import { prune } from '../../src/shadow/repository/prune.ts'
import { planRetention } from '../../src/shadow/repository/retention.ts'
import { verifyRepository } from '../../src/shadow/repository/verify.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import { type BackupLab, backupLab, LabWriter, openRepository } from './backup-lab.ts'
import { type Saved, savedOf, wrongRestores } from './care-judge.ts'
import { runCare } from './care-run.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = { ...requires('/dev/fuse', 'root', 'qemu-img'), ...(isLong ? { timeout: 590_000 } : {}) }
const TYPES: readonly BackupType[] = [
  'full',
  'incremental',
  'incremental',
  'incremental',
  'differential',
  'copy',
]

class History {
  readonly lab: BackupLab
  readonly data: string
  readonly saved: Saved[] = []
  readonly #t: Assertion
  readonly #random: Random
  #step = 0

  constructor(t: Assertion, lab: BackupLab, data: string, random: Random) {
    this.#t = t
    this.lab = lab
    this.data = data
    this.#random = random
  }

  /** @returns what was done */
  async step(): Promise<string> {
    const random = this.#random
    if (this.#step++ < 2 || random.chance(0.55)) return this.#backUp()
    if (random.chance(0.15)) return this.#loseBookmark()
    return random.chance(0.5) ? this.#prune() : this.#consolidate()
  }

  async #backUp(): Promise<string> {
    const type = this.saved.length === 0 ? 'full' : this.#random.pick(TYPES)
    await this.#change()
    const expected = await this.#baseOf(type)
    const result = await this.lab.backup({ type, orFull: true, images: true, components: 'all' })
    this.saved.push(await savedOf(result, this.data))
    const base = result.manifest.images[0]?.baseBackupId ?? null
    this.#t.is(base, expected, `${type} ${result.manifest.id} builds on ${expected ?? 'nothing'}`)
    return `${type} ${result.manifest.id}`
  }

  /** What an image of this type has to build on, as the bookmarks and qemu-img tell. */
  async #baseOf(type: BackupType): Promise<string | null> {
    if (type !== 'incremental' && type !== 'differential') return null
    const bookmarks = await this.#bookmarks()
    for (const { id, folder, manifest } of openRepository(this.lab).list().reverse()) {
      if (!/-(full|incremental)-/.test(id) || !bookmarks.some((name) => name.endsWith(id))) continue
      if (type === 'incremental') return id
      const image = join(folder, manifest?.images[0]?.file ?? '')
      const { stdout } = await run('qemu-img', ['info', '--output=json', image])
      if (!('backing-filename' in (JSON.parse(stdout) as object))) return id
    }
    return null
  }

  async #bookmarks(): Promise<string[]> {
    const all = await umbraJson<{ name: string }[]>(['bookmark', 'list', this.lab.at('v.umbra')])
    return all.map(({ name }) => name)
  }

  async #loseBookmark(): Promise<string> {
    const bookmarks = await this.#bookmarks()
    if (bookmarks.length === 0) return 'no bookmark to lose'
    const name = this.#random.pick(bookmarks)
    await umbra(['bookmark', 'delete', this.lab.at('v.umbra'), name])
    return `lost bookmark ${name}`
  }

  async #change(): Promise<void> {
    const random = this.#random
    const commands: string[] = []
    for (let i = 0; i < 4; i++) {
      const name = `f${random.below(8)}`
      const other = `f${random.below(8)}`
      commands.push(
        random.pick([
          `dd if=/dev/urandom of=${name} bs=1000 seek=${random.below(100)} count=${random.between(1, 30)} conv=notrunc status=none`,
          `truncate -s ${random.below(150_000)} ${name}`,
          `rm -f ${name}`,
          `mv -f ${name} ${other} 2>/dev/null`,
          `ln -f ${name} ${other} 2>/dev/null`,
          `mkdir -p d${random.below(3)} && date +%N > d${random.below(3)}/x`,
          `rm -rf d${random.below(3)}`,
          `ln -sfn ${name} s${random.below(2)}`,
        ]),
      )
    }
    // What fails finds nothing to work on.
    await run('sh', ['-c', `cd ${this.data} || exit 1; { ${commands.join('; ')}; } 2>/dev/null; true`])
  }

  async #prune(): Promise<string> {
    const keepLast = this.#random.between(1, 4)
    const killAt = this.#killAt(12)
    if (killAt > 0) {
      const end = await runCare(this.lab.repository, { work: 'prune', keepLast, killAt })
      return `prune to ${keepLast}, ${end === null ? `killed at ${killAt}` : 'to its end'}`
    }
    const repository = openRepository(this.lab)
    using _lock = repository.lock()
    const removed = prune(
      repository,
      planRetention(repository.list(), { last: keepLast }, new Calendar('UTC')),
    )
    return `prune to ${keepLast}: ${removed.length} gone`
  }

  async #consolidate(): Promise<string> {
    const repository = openRepository(this.lab)
    const deltas = repository
      .list()
      .flatMap(({ id, manifest }) => (manifest && basesOf(manifest).size > 0 ? [id] : []))
    if (deltas.length === 0) return 'nothing to consolidate'
    const backup = this.#random.pick(deltas)
    const killAt = this.#killAt(80)
    if (killAt > 0) {
      const end = await runCare(this.lab.repository, { work: 'consolidate', backup, killAt })
      return `consolidate ${backup}, ${end === null ? `killed at ${killAt}` : 'to its end'}`
    }
    using _lock = repository.lock()
    await consolidate(repository, backup)
    return `consolidate ${backup}`
  }

  /** 0: not at all. */
  #killAt(limit: number): number {
    return this.#random.chance(0.5) ? this.#random.between(1, limit) : 0
  }
}

async function history(t: Assertion): Promise<History> {
  const random = new Random(chosenSeed(t))
  const lab = backupLab(t)
  const { mountPoint } = await lab.volume('v', { size: '16M' })
  const data = join(mountPoint, 'data')
  mkdirSync(data)
  lab.writers.push(
    new LabWriter('files', ['incremental', 'differential', 'copy'], (builder) => {
      builder.addFileGroup({ name: 'files' }).addFiles({ path: data, changedRanges: true })
    }),
  )
  return new History(t, lab, data, random)
}

test('whatever is done to a repository, what is there is restored bit for bit', NEEDS, async (t) => {
  const made = await history(t)
  const { lab, saved, data } = made
  for (let i = 0; i < (isLong ? 120 : 14); i++) {
    const done = await made.step()
    const count = openRepository(lab).list().length
    t.alike(await wrongRestores(t, saved, data, lab.repository), [], `${done}; ${count} backups are right`)
  }
  const { damages } = await verifyRepository(openRepository(lab), [])
  t.alike(damages, [], 'and verify finds nothing')
})

test('planted: a base that is gone is noticed by the judge and by verify', NEEDS, async (t) => {
  const { lab, saved, data } = await history(t)
  for (const type of ['full', 'incremental', 'incremental'] as const) {
    await run('sh', ['-c', `date +%N > ${data}/now`])
    saved.push(await savedOf(await lab.backup({ type, images: true, components: 'all' }), data))
  }
  t.alike(await wrongRestores(t, saved, data, lab.repository), [])
  const repository = openRepository(lab)
  repository.remove(saved[1]?.id ?? '')
  t.is((await wrongRestores(t, saved, data, lab.repository)).length, 1, 'the last one cannot be restored')
  t.ok((await verifyRepository(repository, [])).damages.every(({ code }) => code === 'BROKEN_CHAIN'))
})
