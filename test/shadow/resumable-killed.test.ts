// umbra backup --resumable, killed at the steps of its protocol, once or twice in a row: the next run goes on
// with it or starts anew from the last complete backup, and nothing of it is left over.
//
// The long mode kills at every step, the ordinary one at a few that the seed chooses.

// deadline 900

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { mountLoop } from '../support/loop.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra, umbraJson } from '../support/umbra.ts'
import { componentOf, type Point, type ServerLab, serverLab } from './server-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const NEEDS = {
  ...requires('root', '/dev/fuse', 'e2fsck'),
  timeout: isLong ? 7_200_000 : 590_000,
}
const CHILD = fileURLToPath(new URL('resumable-child.ts', import.meta.url))
const BYTES = 1 << 20

interface Work {
  readonly lab: ServerLab
  readonly repository: string
  readonly type: 'full' | 'incremental'
}

async function stage(t: Assertion): Promise<ServerLab> {
  const lab = await serverLab(t, '128M')
  const app = join(lab.mountPoint, 'app')
  mkdirSync(app)
  writeFileSync(join(app, 'data'), Buffer.alloc(BYTES, 1))
  writeFileSync(join(app, 'mark'), 'first')
  await lab.addWriter('app', {
    kind: 'script',
    name: 'App',
    backupSchema: ['incremental'],
    components: [{ name: 'app', files: [{ path: app, changedRanges: true }] }],
  })
  return lab
}

/** @returns how many steps there were; null: it was killed */
async function runChild({ lab, repository, type }: Work, killAt: number): Promise<number | null> {
  const options = {
    type,
    volumes: [lab.volume],
    images: true,
    components: 'all',
    resumable: true,
    orFull: true,
    autoRetryMs: 60_000,
    retries: { count: 0, waitMs: 0 },
  }
  const argument = JSON.stringify({ repository, options, killAt })
  const result = await run(process.execPath, ['--import', 'tsx', CHILD, argument], {
    check: false,
    timeoutMs: 120_000,
  })
  if (result.code === 0) return Number(result.stdout)
  if (result.code < 128) throw new Error(`exit code ${result.code}: ${result.stderr}`)
  whereKilled = /killed at (.*)/.exec(result.stderr)?.[1] ?? '?'
  return null
}

let whereKilled = ''

async function nextRun({ lab, repository, type }: Work): Promise<Point & { chain: readonly string[] }> {
  const what = ['--images', '--all-components', '--resumable', '--or-full', '--auto-retry', '1', '--json']
  const args = ['backup', lab.mountPoint, '--to', repository, '--type', type, ...what]
  const result = await umbra(args, { check: false, timeoutMs: 120_000 })
  // What was gone on with is a backup in part: its writers had been told that it failed.
  if (result.code !== 0 && result.code !== 16) throw new Error(`exit code ${result.code}: ${result.stderr}`)
  return JSON.parse(result.stdout) as Point & { chain: readonly string[] }
}

function completeIds(repository: string): string[] {
  const folder = join(repository, 'backups')
  return existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => !name.startsWith('.'))
        .sort()
    : []
}

async function judgeState(t: Assertion, { lab, repository }: Work, what: string): Promise<void> {
  const names = readdirSync(join(repository, 'backups')).filter((name) => name.startsWith('.'))
  t.alike(names, [], `${what}: nothing half made`)
  t.alike(await lab.snapshots(), [], `${what}: no shadow copy is left`)
  t.is((await umbra(['verify', repository], { check: false })).code, 0, `${what}: the repository verifies`)
}

/** What an image and a component's files hold: the same, as it was at one of the marks. */
async function judgeBackup(
  t: Assertion,
  { lab, repository }: Work,
  id: string,
  marks: readonly string[],
  data: Buffer,
): Promise<void> {
  const image = lab.at(`${id}.img`)
  await umbra(['restore', repository, id, '--to', image, '--as', 'raw'])
  const loop = await mountLoop(t, image, 'ro')
  const app = join(lab.mountPoint, 'app')
  const files = lab.at(`${id}.files`)
  const args = ['--components', 'App', '--without-writers', '--to-folder', `${app}=${files}`]
  await umbra(['restore', repository, id, ...args])
  const found = [join(loop.folder, 'app'), files].map((folder) => ({
    mark: readFileSync(join(folder, 'mark'), 'utf8'),
    isWhole: readFileSync(join(folder, 'data')).equals(data),
  }))
  const [mark = ''] = found.map((one) => one.mark)
  t.ok(marks.includes(mark), `${id} was cut at ${mark}, one of ${marks.join(', ')}`)
  t.alike(
    found,
    [0, 1].map(() => ({ mark, isWhole: true })),
    `${id}: image and files are whole`,
  )
  await loop.unmount()
  await run('rm', ['-rf', image, files])
}

async function round(t: Assertion, work: Work, steps: readonly number[], title: string): Promise<void> {
  const { lab, repository } = work
  const app = join(lab.mountPoint, 'app')
  const before = new Set(completeIds(repository))
  const killed: string[] = []
  const data = readFileSync(join(app, 'data'))
  data.fill(Math.floor(steps[0] ?? 0) & 0xff, 4096 * 3, 4096 * 7)
  writeFileSync(join(app, 'data'), data)
  const begun: string[] = []
  for (const [index, killAt] of steps.entries()) {
    begun.push(`${title} ${index}`)
    writeFileSync(join(app, 'mark'), `${title} ${index}`)
    const left = await runChild(work, killAt)
    killed.push(left === null ? `${killAt}: ${whereKilled}` : `${killAt}: not`)
  }
  const what = `${title}, killed at ${killed.join(' and ')}`
  begun.push(`${title} last`)
  writeFileSync(join(app, 'mark'), `${title} last`)
  const last = await nextRun(work)
  t.ok(componentOf(last, 'app').succeeded, `${what}: its component is there`)
  await judgeState(t, work, what)
  const isResumed = last.notes.some((told) => told.includes('It was resumed'))
  t.is(last.isPartial, isResumed, `${what}: it says whether its writers were told`)
  // What was adopted and what was gone on with was cut by one of the runs before.
  for (const id of completeIds(repository)) {
    if (before.has(id)) continue
    const cut = id === last.id && !isResumed ? [begun.at(-1) as string] : begun
    await judgeBackup(t, work, id, cut, data)
  }
  t.comment(`${what}: ${isResumed ? 'gone on with' : 'anew'}, chain of ${last.chain.length}`)
}

test('killed at the steps of a resumable backup', NEEDS, async (t) => {
  const random = new Random(chosenSeed(t))
  const lab = await stage(t)
  const main: Work = { lab, repository: lab.at('repository'), type: 'incremental' }
  t.ok(await runChild({ ...main, type: 'full' }, 0), 'the first one is not killed')
  const count = (await runChild(main, 0)) ?? 0
  t.comment(`${count} steps`)
  t.ok(count > 50, 'its calls are counted')
  await judgeState(t, main, 'not killed')
  const steps = isLong
    ? Array.from({ length: count }, (_, index) => index + 1)
    : Array.from({ length: 3 }, (_, part) => 1 + Math.floor(((part + random.next()) * count) / 3))
  for (const killAt of steps) {
    const again = random.chance(0.3) ? [1 + random.below(count)] : []
    await round(t, main, [killAt, ...again], `incremental ${killAt}`)
  }
  const fresh = isLong ? steps.filter((step) => step % 5 === 0) : [1 + random.below(count)]
  for (const killAt of fresh) {
    const work: Work = { lab, repository: lab.at(`repository-${killAt}`), type: 'full' }
    await round(t, work, [killAt], `first full ${killAt}`)
  }
  t.alike(await umbraJson(['snapshot', 'list', lab.volume]), [], 'no shadow copy of any of them')
})
