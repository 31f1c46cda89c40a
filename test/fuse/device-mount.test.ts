// Mounting and unmounting for real, judged by the kernel's mount table and by plain file access; the
// server is always a child process.

import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, readFileSync, statfsSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { probeMount } from '../../src/fuse/device/mount-health.ts'
import { mountAt, parseMountTable, readMountTable } from '../../src/fuse/device/mount-table.ts'
import { clearDeadMount, unmountDevice } from '../../src/fuse/device/unmount.ts'
import { type Child, type ChildOptions, startChild } from '../support/child.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const SERVER = new URL('./echo-server.ts', import.meta.url)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const needs = requires('root', '/dev/fuse')

function mountFolder(t: Assertion): string {
  const folder = join(tempFolder(t), 'mount point')
  mkdirSync(folder)
  t.teardown(() => spawnSync('umount', ['-l', folder]))
  return folder
}

function startServer(t: Assertion, folder: string, options: object = {}, child: ChildOptions = {}): Child {
  return startChild(t, SERVER, { ...child, args: [folder, JSON.stringify(options)] })
}

/** What a child that should not have mounted says. */
async function refusal(
  t: Assertion,
  folder: string,
  child: ChildOptions = {},
): Promise<Record<string, unknown>> {
  const server = startServer(t, folder, {}, child)
  const said = await server.message('failed')
  t.is((await server.exit()).code, 0)
  return said
}

test('mount as root: table entry, tuning, files, unmount by the server itself', needs, async (t) => {
  const folder = mountFolder(t)
  const server = startServer(t, folder)
  const ready = await server.message('ready')
  t.is(ready['by'], 'mount')
  t.alike(ready['tuned'], ['read_ahead_kb', 'strict_limit', 'max_ratio'])

  const entry = mountAt(await readMountTable(), folder)
  t.is(entry?.type, 'fuse.umbra')
  t.is(entry?.source, '/volumes/echo, of \\ tests')
  for (const option of ['default_permissions', 'allow_other', 'max_read=1048576'])
    t.ok(entry?.superOptions.includes(option), option)
  t.absent(entry?.options.includes('nodev') || entry?.options.includes('nosuid'))
  const bdi = `/sys/class/bdi/${entry?.deviceMajor}:${entry?.deviceMinor}/read_ahead_kb`
  t.is(readFileSync(bdi, 'utf8').trim(), '1024')

  writeFileSync(join(folder, 'echo'), 'hello')
  t.is(readFileSync(join(folder, 'echo'), 'utf8'), 'hello')

  server.send({ type: 'unmount' })
  t.is((await server.message('ended'))['reason'], 'unmounted')
  t.alike(await server.exit(), { code: 0, signal: null })
  t.absent(mountAt(await readMountTable(), folder))
})

test('umount(8) from outside ends the server as well; read-only mounts refuse writes', needs, async (t) => {
  const folder = mountFolder(t)
  const server = startServer(t, folder, { readOnly: true })
  await server.message('ready')
  t.is(spawnSync('touch', [join(folder, 'echo')], { env: { LC_ALL: 'C', PATH: '/bin' } }).status, 1)
  await run('umount', [folder])
  t.is((await server.message('ended'))['reason'], 'unmounted')
})

test('unmountDevice: busy is said so, lazy ends when the last file is closed', needs, async (t) => {
  const folder = mountFolder(t)
  const server = startServer(t, folder)
  await server.message('ready')
  const holder = startChild(t, new URL('./file-holder.ts', import.meta.url), { args: [join(folder, 'echo')] })
  await holder.message('open')
  await t.exception(unmountDevice(folder), /in use/)
  await unmountDevice(folder, { lazy: true })
  t.absent(mountAt(await readMountTable(), folder))
  holder.kill()
  t.is((await server.message('ended'))['reason'], 'unmounted')
  await t.exception(unmountDevice(folder), /No volume is mounted/)
})

test('a killed server leaves a dead mount: refused, reported as dead, then cleared', needs, async (t) => {
  const folder = mountFolder(t)
  const server = startServer(t, folder, { attrSeconds: 3600 })
  await server.message('ready')
  writeFileSync(join(folder, 'echo'), 'hello')
  t.ok(statSync(folder).isDirectory(), 'the kernel has the attributes of the root now')
  t.is(await probeMount(folder), 'alive')
  const alive = await refusal(t, folder)
  t.is(alive['code'], 'BUSY')
  t.is((alive['context'] as { state: string }).state, 'alive')

  server.kill('SIGKILL')
  await server.exit()
  let code = ''
  try {
    statfsSync(folder)
  } catch (error) {
    code = (error as NodeJS.ErrnoException).code as string
  }
  t.is(code, 'ENOTCONN', 'the kernel says the server is gone')
  const dead = await refusal(t, folder)
  t.is(dead['code'], 'BUSY')
  t.is((dead['context'] as { state: string }).state, 'dead')
  t.ok(/umbra unmount/.test(dead['message'] as string), 'and how to clear it')

  await clearDeadMount(folder)
  t.absent(mountAt(await readMountTable(), folder))
  const again = startServer(t, folder)
  await again.message('ready')
  again.send({ type: 'unmount' })
  await again.message('ended')
})

test(
  'a stopped server does not answer: clearing aborts its connection and frees whoever waits',
  needs,
  async (t) => {
    const folder = mountFolder(t)
    const server = startServer(t, folder)
    await server.message('ready')
    server.kill('SIGSTOP')
    const reader = run('stat', [join(folder, 'echo')], { check: false, timeoutMs: 20_000 }).catch(String)
    t.is(await probeMount(folder), 'hanging')
    await clearDeadMount(folder)
    const read = await reader
    t.is(typeof read === 'string' ? read : read.code, 1, 'the waiting program got an error')
    server.kill('SIGCONT')
    // Which of the two depends on whether the aborted mount could be unmounted at once.
    t.ok(/^(aborted|unmounted)$/.test((await server.message('ended'))['reason'] as string))
  },
)

test('mount points that are missing or no folder are refused by name', needs, async (t) => {
  const folder = tempFolder(t)
  writeFileSync(join(folder, 'file'), '')
  t.is((await refusal(t, join(folder, 'none')))['code'], 'NOT_FOUND')
  t.is((await refusal(t, join(folder, 'none', 'below')))['code'], 'NOT_FOUND')
  t.is((await refusal(t, join(folder, 'file')))['code'], 'ENOTDIR')
})

test('inside a user namespace root mounts by itself', requires('root', '/dev/fuse', 'unshare'), async (t) => {
  const folder = mountFolder(t)
  const probe = spawnSync('unshare', ['-Urm', 'true'])
  if (probe.status !== 0) return t.comment('user namespaces are not allowed here')
  // The mount is visible in the namespace only, so that the shell in it does the looking.
  const script = `
      "$1" --import tsx "$2" "$3" & server=$!
      for i in $(seq 100); do mountpoint -q "$3" && break; sleep 0.1; done
      printf inside > "$3/echo" && cat "$3/echo" && umount "$3" && wait $server && echo " ended"`
  const result = await run(
    'unshare',
    ['-Urmpf', '--mount-proc', 'sh', '-c', script, 'sh', process.execPath, SERVER.pathname, folder],
    { cwd: ROOT, timeoutMs: 30_000 },
  )
  t.is(result.stdout.trim(), 'inside ended', result.stderr)
  t.absent(mountAt(await readMountTable(), folder), 'nothing is mounted outside')
})

/** Everything below happens as this user, who owns nothing. */
const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']

/**
 * Words that run a program as nobody, in a mount namespace whose /dev/fuse is open to everyone, as
 * it is where udev runs.
 */
function asNobody(t: Assertion): string[] {
  const device = join(tempFolder(t), 'fuse')
  spawnSync('mknod', [device, 'c', '10', '229'])
  chmodSync(device, 0o666)
  chmodSync(join(device, '..'), 0o755)
  const script = 'mount --bind "$1" /dev/fuse && shift && exec "$@"'
  return ['unshare', '-m', 'sh', '-c', script, 'sh', device, ...NOBODY]
}

test(
  'without privilege: through fusermount3, which unmounts, too',
  requires('root', '/dev/fuse', 'fusermount3', 'setpriv', 'nsenter'),
  async (t) => {
    const readable = spawnSync(NOBODY[0] as string, [...NOBODY.slice(1), 'test', '-r', SERVER.pathname])
    if (readable.status !== 0) return t.comment('this folder is closed to other users')
    const folder = mountFolder(t)
    chmodSync(join(folder, '..'), 0o755)
    chownSync(folder, 65534, 65534)
    const child = { prefix: asNobody(t), env: { HOME: '/tmp' } }

    const server = startServer(t, folder, {}, child)
    const ready = await server.message('ready')
    t.is(ready['by'], 'fusermount3')
    const table = parseMountTable(readFileSync(`/proc/${server.pid}/mountinfo`, 'latin1'))
    const entry = mountAt(table, folder)
    t.is(entry?.type, 'fuse.umbra')
    t.is(entry?.source, '/volumes/echo, of \\ tests', 'commas and backslashes arrive whole')
    t.ok(entry?.superOptions.includes('user_id=65534'))
    const enter = ['-t', String(server.pid), '-m', ...NOBODY]
    const script = 'printf user > "$1/echo" && cat "$1/echo"'
    t.is((await run('nsenter', [...enter, 'sh', '-c', script, 'sh', folder])).stdout, 'user')
    server.send({ type: 'unmount' })
    t.is((await server.message('ended'))['reason'], 'unmounted')
    t.alike(await server.exit(), { code: 0, signal: null })

    chownSync(folder, 0, 0)
    t.is((await refusal(t, folder, child))['code'], 'NOT_PERMITTED', 'another user’s folder')
    const lost = { ...child, prefix: [...child.prefix, 'env', 'PATH=/nonexistent'] }
    const missing = await refusal(t, folder, lost)
    t.is(missing['code'], 'UNAVAILABLE')
    t.ok(/fuse3/.test(missing['message'] as string), 'it says what to install')
  },
)
