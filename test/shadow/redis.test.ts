// The Redis writer beside real servers that are written to all the time: what is restored is exactly
// what was in the shadow copy, a server loads it, and it holds what was acknowledged and nothing later.

// deadline 300

import { randomBytes } from 'node:crypto'
import { cpSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { EXIT_CODES } from '../../src/cli/exit-codes.ts'
import type { BackupType } from '../../src/shadow/documents/vocabulary.ts'
import { umbra } from '../support/umbra.ts'
import { holdFreeze, removeHook, writerProcess } from './frozen-writer.ts'
import { rebuildFiles } from './rebuild-files.ts'
import { checkRedisFiles, type Persistence, type RedisServer, startRedis } from './redis-lab.ts'
import { Ledger, type Point, type ServerLab, serverLab, treeDifferences, type Window } from './server-lab.ts'

const isLong = process.env['UMBRA_LONG'] === '1'
const ROUNDS = isLong ? 5 : 1
const WRITER_FAILED = EXIT_CODES.find(({ errors }) => errors.includes('WRITER_FAILED'))?.code

interface RedisLab extends ServerLab {
  readonly server: RedisServer
  readonly name: string
}

async function redisLab(
  t: Assertion,
  persistence: Persistence,
  options: Readonly<Record<string, unknown>> = {},
): Promise<RedisLab> {
  const lab = await serverLab(t, '512M')
  const server = await startRedis(t, join(lab.mountPoint, 'redis'), lab.at('redis.sock'), persistence)
  const name = `redis-${randomBytes(4).toString('hex')}`
  await lab.addWriter(name, { kind: 'redis', client: ['redis-cli', '-s', server.socket], ...options })
  return { ...lab, server, name }
}

/** Connections that write keys of the ledger, each with a counter and some bulk in the same pipeline. */
async function startLoad(server: RedisServer, ledger: Ledger, count: number): Promise<() => void> {
  const connections = await Promise.all(Array.from({ length: count }, () => server.connect()))
  for (const [i, connection] of connections.entries()) {
    ledger.add(`key:${i}`, (key) =>
      Promise.all([
        connection.ask('SET', key, randomBytes(200).toString('hex')),
        connection.ask('INCR', `counter:${i}`),
        connection.ask('SET', `bulk:${i}`, randomBytes(2000).toString('hex')),
      ]),
    )
  }
  return () => {
    for (const connection of connections) connection.close()
  }
}

async function keysOf(server: RedisServer): Promise<string[]> {
  return (await server.cli('KEYS', 'key:*')).split('\n').filter((line) => line !== '')
}

/** Starts a server on a copy of the files, and judges what it has. */
async function judge(
  t: Assertion,
  what: string,
  files: string,
  persistence: Persistence,
  ledger: Ledger,
  window: Window,
): Promise<void> {
  const copy = `${files}.copy`
  cpSync(files, copy, { recursive: true })
  t.alike(await checkRedisFiles(copy), [], `${what}: Redis's checkers find nothing`)
  const server = await startRedis(t, copy, `${files}.sock`, persistence)
  const keys = await keysOf(server)
  t.ok(keys.length > 0, `${what}: a server loads it (${keys.length} keys)`)
  t.alike(ledger.judge(keys, window), [], `${what}: everything acknowledged, nothing later`)
  const perWorker = new Map<string, number>()
  for (const key of keys) {
    const worker = key.split('-')[0]?.slice('key:'.length) ?? ''
    perWorker.set(worker, (perWorker.get(worker) ?? 0) + 1)
  }
  for (const [worker, count] of perWorker) {
    const counter = Number(await server.cli('GET', `counter:${worker}`))
    // The three requests of a line are not a transaction: the last line may be there in part.
    t.ok(counter === count || counter === count - 1, `${what}: counter ${worker} is ${counter} of ${count}`)
  }
  await server.stop('SIGKILL')
}

async function judgePoint(
  t: Assertion,
  lab: RedisLab,
  point: Point,
  persistence: Persistence,
  ledger: Ledger,
): Promise<void> {
  const image = join(await lab.imageOf(point), 'redis')
  const rebuilt = lab.at(`rebuilt-${point.id}`)
  mkdirSync(rebuilt)
  rebuildFiles(lab.repository, point.id, 'data', { [lab.server.dir]: rebuilt })
  const what = `${point.type} ${point.id}`
  t.alike(await treeDifferences(image, rebuilt, ['/temp-*']), [], `${what}: files are the shadow copy's`)
  const restored = lab.at(`restored-${point.id}`)
  await umbra([...restoreWords(lab, point), '--to-folder', `${lab.server.dir}=${restored}`])
  t.alike(await treeDifferences(image, restored, ['/temp-*']), [], `${what}: and so are restored ones`)
  await judge(t, what, restored, persistence, ledger, point.window)
}

function restoreWords(lab: RedisLab, point: Point): string[] {
  return ['restore', lab.repository, point.id, '--all-components']
}

async function history(t: Assertion, persistence: Persistence, rounds: number): Promise<void> {
  t.timeout(280_000)
  const lab = await redisLab(t, persistence)
  const ledger = new Ledger()
  const closeLoad = await startLoad(lab.server, ledger, 4)
  const middle = Math.ceil(rounds / 2)
  const points: Point[] = []
  const take = async (type: BackupType): Promise<void> => {
    await lab.server.cli('BGREWRITEAOF').catch(() => '')
    points.push(await lab.backup(type))
  }
  await take('full')
  for (let round = 1; round <= rounds; round++) {
    await take('incremental')
    await take('differential')
    if (round === middle) await take('copy')
  }
  await take('incremental')
  const without = await lab.backup('copy', ['--without-writers'])
  await ledger.stop()
  closeLoad()
  plantFault(t, ledger, points)
  for (const { type, isPartial, writers } of points) {
    const types = writers.flatMap((writer) => writer.components.map((component) => component.type))
    t.alike([isPartial, types], [false, [type]], `${type} is whole, of its own type`)
  }
  const chosen = isLong ? points : points.filter(({ type }) => type !== 'copy').slice(rounds > 0 ? -2 : -1)
  for (const point of chosen) await judgePoint(t, lab, point, persistence, ledger)
  await judgeWithoutWriters(t, lab, without, persistence, ledger)
  t.comment(`${ledger.acknowledged} lines, held ${points.map(({ times }) => times.heldMs).join(', ')} ms`)
}

/** The judge itself: a ledger of another second does not fit. */
function plantFault(t: Assertion, ledger: Ledger, points: readonly Point[]): void {
  const [first, last] = [points[0], points.at(-1)]
  if (!first || !last) throw new Error('no points')
  const none = { fromMs: Number.MAX_SAFE_INTEGER, toMs: Number.MAX_SAFE_INTEGER }
  t.ok(ledger.judge([], last.window).length > 0, 'planted: missing lines are seen')
  t.ok(ledger.judge(['key:9-1'], first.window).length > 0, 'planted: lines from nowhere are seen')
  t.ok(ledger.judge([], none).length > 0, 'planted: the ledger is not empty')
}

/** What Redis had written when the flush began is there, and it loads. */
async function judgeWithoutWriters(
  t: Assertion,
  lab: RedisLab,
  point: Point,
  persistence: Persistence,
  ledger: Ledger,
): Promise<void> {
  const copy = lab.at('without')
  cpSync(join(await lab.imageOf(point), 'redis'), copy, { recursive: true })
  if (persistence === 'dump' && !existsSync(join(copy, 'dump.rdb'))) return
  const server = await startRedis(t, copy, lab.at('without.sock'), persistence)
  const keys = await keysOf(server)
  // Redis holds writes back for up to two seconds while an fsync runs; a dump is as old as it is.
  const slackMs = { always: 0, everysec: 3000, dump: Infinity }[persistence]
  const fromMs = point.window.fromMs - point.times.heldMs - slackMs
  const { toMs } = point.window
  t.alike(ledger.judge(keys, { fromMs, toMs }), [], `without writers: a server loads ${keys.length} keys`)
  await server.stop('SIGKILL')
}

test('Redis with an append-only file, synced each second, rewritten meanwhile', (t) =>
  history(t, 'everysec', ROUNDS))

test('Redis with an append-only file, synced always', (t) => history(t, 'always', isLong ? 5 : 0))

test('Redis with dumps alone: each is made while writes wait', (t) => history(t, 'dump', isLong ? 5 : 0))

test('Redis files are not restored below a server that runs', async (t) => {
  t.timeout(280_000)
  const lab = await redisLab(t, 'everysec', { dataFolder: '/nowhere' })
  const ledger = new Ledger()
  const closeLoad = await startLoad(lab.server, ledger, 2)
  await lab.backup('full')
  const point = await lab.backup('incremental')
  await ledger.stop()
  closeLoad()
  const before = await keysOf(lab.server)
  const refused = await umbra(restoreWords(lab, point), { check: false })
  t.is(refused.code, WRITER_FAILED, refused.stderr.trim())
  t.ok(/stop it, or restore to another place/.test(refused.stderr), 'says what to do')
  t.is((await keysOf(lab.server)).length, before.length, 'the server goes on as it was')
  await lab.server.stop()
  await umbra(restoreWords(lab, point))
  const copy = lab.at('in-place')
  cpSync(lab.server.dir, copy, { recursive: true })
  await judge(t, 'in place', copy, 'everysec', ledger, point.window)
})

/** A backup fails while all writers are frozen: with the right code, and nothing of it is left. */
async function failFrozen(
  t: Assertion,
  lab: RedisLab,
  what: string,
  disturb: () => Promise<unknown>,
  message: RegExp,
): Promise<void> {
  const freeze = holdFreeze(lab)
  const failing = lab.tryBackup('full')
  await freeze.reached()
  await disturb()
  freeze.goOn()
  const { code, stderr } = await failing
  t.is(code, WRITER_FAILED, `${what}: exit code`)
  t.ok(message.test(stderr), `${what}: ${stderr.trim()}`)
  await nothingLeft(t, lab, what)
}

async function nothingLeft(t: Assertion, lab: RedisLab, what: string): Promise<void> {
  const { stdout } = await umbra(['snapshot', 'list', lab.volume, '--json'])
  t.alike(JSON.parse(stdout), [], `${what}: no shadow copy is left`)
  t.absent(existsSync(lab.repository), `${what}: no backup is left, nor an empty repository`)
}

test('Redis does not stay paused until Thaw: no shadow copy', async (t) => {
  t.timeout(280_000)
  const lab = await redisLab(t, 'everysec', { dataFolder: '/nowhere' })
  const start = () => startRedis(t, lab.server.dir, lab.server.socket, 'everysec')
  await failFrozen(
    t,
    lab,
    'unpaused',
    async () => {
      await lab.server.cli('CLIENT', 'UNPAUSE')
      await lab.server.cli('SET', 'key:0-0', 'x')
    },
    /Somebody ended the pause/,
  )
  let server = lab.server
  const restart = async (): Promise<void> => {
    await server.stop('SIGKILL')
    server = await start()
  }
  await failFrozen(t, lab, 'restarted', restart, /restarted|redis-cli has ended/)
  await failFrozen(t, lab, 'died', () => server.stop('SIGKILL'), /redis-cli has ended|Could not connect/)
  const { code, stderr } = await lab.tryBackup('full')
  t.is(code, WRITER_FAILED, `while it is down: ${stderr.trim()}`)
  await nothingLeft(t, lab, 'down')
  const again = await start()
  t.is(await again.cli('GET', 'key:0-0'), 'x', 'it starts again')
  removeHook(lab)
  t.absent((await lab.backup('full')).isPartial, 'and the next backup is whole')
})

test('the Redis writer is killed while frozen: the pause ends by itself', async (t) => {
  t.timeout(280_000)
  const lab = await redisLab(t, 'everysec', { freezeTimeoutMs: 4000 })
  const connection = await lab.server.connect()
  let heldMs = 0
  const disturb = async (): Promise<void> => {
    const startedAtMs = Date.now()
    const pending = connection.ask('SET', 'key:0-0', 'x')
    process.kill(writerProcess(lab.name), 'SIGKILL')
    t.is(await pending, 'OK', 'a write that waits is answered')
    heldMs = Date.now() - startedAtMs
  }
  await failFrozen(t, lab, 'killed', disturb, /went away while it was frozen/)
  t.ok(heldMs < 10_000, `held for ${heldMs} ms`)
  connection.close()
  removeHook(lab)
  t.absent((await lab.backup('full')).isPartial, 'a new process makes the next backup')
})
