// The dispatcher and the file system behind a real mount, used by the kernel and by plain programs. The
// server is always a child process.

import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { OPCODE } from '../../src/fuse/protocol.ts'
import { type Child, startChild } from '../support/child.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'

const SERVER = new URL('./tree-server.ts', import.meta.url)
const needs = requires('root', '/dev/fuse')

async function mounted(t: Assertion, options: object = {}): Promise<{ folder: string; server: Child }> {
  const folder = join(tempFolder(t), 'mount')
  fs.mkdirSync(folder)
  t.teardown(() => spawnSync('umount', ['-l', folder]))
  const server = startChild(t, SERVER, { args: [folder, JSON.stringify(options)] })
  await server.message('ready')
  return { folder, server }
}

/** Nothing went wrong inside, and the mount goes away cleanly. */
async function finish(t: Assertion, server: Child): Promise<void> {
  server.send({ type: 'errors' })
  t.alike((await server.message('errors'))['errors'], [])
  server.send({ type: 'unmount' })
  t.is((await server.message('ended'))['reason'], 'unmounted')
  await server.exit()
}

/** Where data are, asked by Python: Node has no lseek. */
async function seek(path: string, code: string): Promise<string> {
  const program = `import os,sys\nfd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT)\n${code}`
  const { stdout } = await run('python3', ['-c', program, path])
  return stdout.trim()
}

for (const writeBack of [true, false]) {
  const mode = writeBack ? 'write-back' : 'write-through'

  test(`${mode}: files, links, renames, attributes and xattrs behave as POSIX says`, needs, async (t) => {
    const { folder, server } = await mounted(t, { writeBack })
    const at = (...names: string[]) => join(folder, ...names)
    fs.mkdirSync(at('d'))
    fs.writeFileSync(at('d', 'f'), 'hello')
    fs.appendFileSync(at('d', 'f'), ' world')
    t.is(fs.readFileSync(at('d', 'f'), 'utf8'), 'hello world')
    fs.linkSync(at('d', 'f'), at('d', 'g'))
    t.is(fs.statSync(at('d', 'g')).nlink, 2)
    fs.symlinkSync('f', at('d', 's'))
    t.is(fs.readlinkSync(at('d', 's')), 'f')
    fs.renameSync(at('d', 'g'), at('h'))
    t.alike(fs.readdirSync(at('d')).sort(), ['f', 's'])
    t.is(fs.statSync(at('h')).ino, fs.statSync(at('d', 'f')).ino)
    fs.truncateSync(at('h'), 3)
    t.is(fs.readFileSync(at('d', 's'), 'utf8'), 'hel', 'one file, one cache')
    fs.utimesSync(at('h'), 1_000_000_000.5, new Date(-1250))
    const { atimeMs, mtimeMs } = fs.statSync(at('h'))
    t.alike([atimeMs, mtimeMs], [1_000_000_000_500, -1250])
    fs.chmodSync(at('h'), 0o640)
    fs.chownSync(at('h'), 12, 34)
    const { mode: bits, uid, gid } = fs.statSync(at('h'))
    t.alike([bits & 0o7777, uid, gid], [0o640, 12, 34])
    const fd = fs.openSync(at('gone'), 'w+')
    fs.writeSync(fd, 'still here')
    fs.unlinkSync(at('gone'))
    const text = Buffer.alloc(10)
    fs.readSync(fd, text, 0, 10, 0)
    t.is(text.toString(), 'still here')
    fs.closeSync(fd)
    await run('setfattr', ['-n', 'user.colour', '-v', 'blue', at('h')])
    t.ok((await run('getfattr', ['-d', at('h')])).stdout.includes('user.colour="blue"'))
    fs.rmSync(at('d'), { recursive: true })
    t.alike(fs.readdirSync(folder).sort(), ['h', 'lost+found'])
    await finish(t, server)
  })
}

test('many files: listed whole, statted, removed, and none is left in memory', needs, async (t) => {
  const { folder, server } = await mounted(t)
  const names = Array.from({ length: 2000 }, (_, i) => `a file with a name of some length ${i}`)
  for (const name of names) fs.writeFileSync(join(folder, name), name)
  const expected = [...names, 'lost+found'].sort()
  t.alike(fs.readdirSync(folder).sort(), expected)
  t.alike(fs.readdirSync(folder).sort(), expected, "also from the kernel's cache")
  for (const name of names) if (fs.readFileSync(join(folder, name), 'utf8') !== name) t.fail(name)
  for (const name of names) fs.unlinkSync(join(folder, name))
  t.alike(fs.readdirSync(folder), ['lost+found'])
  await finish(t, server)
})

test("SEEK_DATA and SEEK_HOLE see what is still in the kernel's cache", needs, async (t) => {
  const { folder, server } = await mounted(t)
  const path = join(folder, 'sparse')
  const asked = await seek(
    path,
    `os.pwrite(fd,b"x"*4096,8192); os.pwrite(fd,b"y",100000)
print(os.lseek(fd,0,os.SEEK_DATA), os.lseek(fd,8192,os.SEEK_HOLE), os.lseek(fd,12288,os.SEEK_DATA), os.lseek(fd,98304,os.SEEK_HOLE))`,
  )
  t.is(asked, '8192 12288 98304 100001')
  const fd = fs.openSync(join(folder, 'open'), 'w')
  fs.writeSync(fd, 'z'.repeat(100_000))
  await run('cp', [join(folder, 'open'), join(folder, 'copy')])
  t.is(fs.readFileSync(join(folder, 'copy'), 'utf8'), 'z'.repeat(100_000), 'cp trusts SEEK_DATA')
  fs.closeSync(fd)
  await finish(t, server)
})

test('without a flush the kernel answers SEEK_DATA by itself, never wrongly', needs, async (t) => {
  const { folder, server } = await mounted(t, { flushes: false })
  const asked = await seek(
    join(folder, 'f'),
    'os.write(fd,b"x"*5000); print(os.lseek(fd,0,os.SEEK_DATA), os.lseek(fd,0,os.SEEK_HOLE))',
  )
  t.is(asked, '0 5000')
  await finish(t, server)
})

test("the marker's RELEASE comes after every WRITE queued before it, however slow", needs, async (t) => {
  const { folder, server } = await mounted(t, { writeDelayMs: 500, flushes: false })
  server.send({ type: 'arm' })
  const { name } = await server.message('armed')
  // Starts writing the pages back without waiting, then knocks: WRITEs are under way and queued. All in
  // one process, for a descriptor that a fork closes makes the kernel write back and wait.
  const program = `import ctypes,os,sys
fd=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT)
os.write(fd,b"w"*(4<<20))
assert ctypes.CDLL(None,use_errno=True).sync_file_range(fd,ctypes.c_long(0),ctypes.c_long(0),2)==0
os.close(os.open(sys.argv[2],os.O_RDONLY))`
  await run('python3', ['-c', program, join(folder, 'slow'), join(folder, String(name))])
  const { written } = await server.message('released')
  server.send({ type: 'requests' })
  const requests = (await server.message('requests'))['requests'] as Record<string, number>
  t.is(written, requests[OPCODE.WRITE], 'every WRITE is done, and none came later')
  t.ok(Number(written) >= 4)
  t.absent(fs.existsSync(join(folder, String(name))))
  await finish(t, server)
})

test('.snapshots through the mount: mkdir, ls, enter, rmdir', needs, async (t) => {
  const { folder, server } = await mounted(t)
  const snapshots = join(folder, '.snapshots')
  t.absent(fs.readdirSync(folder).includes('.snapshots'))
  t.alike(fs.readdirSync(snapshots), [])
  fs.mkdirSync(join(snapshots, 'one'))
  fs.mkdirSync(join(snapshots, 'two'))
  t.alike(fs.readdirSync(snapshots), ['one', 'two'])
  t.alike(fs.readdirSync(join(snapshots, 'one')), ['lost+found'])
  t.not(fs.statSync(join(snapshots, 'one')).ino, fs.statSync(join(snapshots, 'two')).ino)
  const code = (act: () => void) => {
    try {
      act()
      return 'none'
    } catch (error) {
      return (error as NodeJS.ErrnoException).code
    }
  }
  t.is(
    code(() => fs.writeFileSync(join(snapshots, 'one', 'x'), '')),
    'EROFS',
  )
  t.is(
    code(() => fs.renameSync(join(snapshots, 'one'), join(snapshots, 'three'))),
    'EPERM',
  )
  t.is(
    code(() => fs.renameSync(join(snapshots, 'one'), join(folder, 'three'))),
    'EXDEV',
  )
  t.is(
    code(() => fs.mkdirSync(join(snapshots, 'one'))),
    'EEXIST',
  )
  fs.rmdirSync(join(snapshots, 'one'))
  t.is(
    code(() => fs.statSync(join(snapshots, 'one'))),
    'ENOENT',
  )
  t.alike(fs.readdirSync(snapshots), ['two'])
  const xattr = await run('getfattr', ['--only-values', '-n', 'user.umbra.control', folder])
  t.is(xattr.stdout, '/run/control')
  await finish(t, server)
})

test('ACLs, attributes of chattr and O_TMPFILE reach the file system', needs, async (t) => {
  const { folder, server } = await mounted(t)
  const at = (name: string) => join(folder, name)
  fs.mkdirSync(at('d'))
  await run('setfacl', ['-d', '-m', 'u:1234:rw', at('d')])
  await run('sh', ['-c', `umask 077; touch ${at('d')}/f`])
  t.ok(
    (await run('getfacl', ['-cp', at('d/f')])).stdout.includes('user:1234:rw-'),
    'a default ACL is inherited',
  )
  await run('chmod', ['g=', at('d/f')])
  t.ok((await run('getfacl', ['-cp', at('d/f')])).stdout.includes('mask::---'), 'chmod sets the mask')
  fs.writeFileSync(at('log'), 'one\n')
  await run('chattr', ['+a', at('log')])
  fs.appendFileSync(at('log'), 'two\n')
  for (const act of [() => fs.writeFileSync(at('log'), ''), () => fs.unlinkSync(at('log'))]) {
    let code = ''
    try {
      act()
    } catch (error) {
      code = (error as NodeJS.ErrnoException).code ?? ''
    }
    t.is(code, 'EPERM')
  }
  t.is(fs.readFileSync(at('log'), 'utf8'), 'one\ntwo\n')
  await run('chattr', ['-a', at('log')])
  const program = `import os,sys
fd=os.open(sys.argv[1],os.O_TMPFILE|os.O_RDWR,0o600)
os.write(fd,b"from nowhere")
os.link("/proc/self/fd/%d"%fd,sys.argv[1]+"/named",src_dir_fd=os.open("/",os.O_RDONLY),follow_symlinks=True)`
  await run('python3', ['-c', program, folder])
  t.is(fs.readFileSync(at('named'), 'utf8'), 'from nowhere')
  await finish(t, server)
})

test('file handles survive a dropped cache: open_by_handle_at', needs, async (t) => {
  const { folder, server } = await mounted(t)
  fs.writeFileSync(join(folder, 'f'), 'by handle')
  const program = `import ctypes,os,sys
libc=ctypes.CDLL(None,use_errno=True)
class H(ctypes.Structure): _fields_=[('bytes',ctypes.c_uint),('type',ctypes.c_int),('data',ctypes.c_ubyte*128)]
h=H(); h.bytes=128; m=ctypes.c_int()
assert libc.name_to_handle_at(-100,(sys.argv[1]+'/f').encode(),ctypes.byref(h),ctypes.byref(m),0)==0, ctypes.get_errno()
root=os.open(sys.argv[1],os.O_RDONLY)
open('/proc/sys/vm/drop_caches','w').write('2')
fd=libc.open_by_handle_at(root,ctypes.byref(h),os.O_RDONLY)
assert fd>=0, ctypes.get_errno()
print(os.read(fd,100).decode())`
  const { stdout } = await run('python3', ['-c', program, folder])
  t.is(stdout.trim(), 'by handle')
  await finish(t, server)
})
