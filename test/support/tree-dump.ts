// A tree as comparable lines, once through our own reading and once through a mount by the kernel.
//
// One line a path: type and mode, owner, links, size, device, times, symlink target, xattrs (ACLs
// included, in the form of the xattr interface).

import { lstatSync, readdirSync, readlinkSync } from 'node:fs'
import type { Ext4 } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import { run } from './run.ts'

export type TreeDump = Map<string, string>

interface Line {
  mode: number
  uid: number
  gid: number
  links: number
  sizeBytes: number
  device: number
  mtime: string
  ctime: string
  target: string
  xattrs: readonly string[]
}

function format(line: Line): string {
  const { mode, uid, gid, links, sizeBytes, device, mtime, ctime, target, xattrs } = line
  return [
    `${mode.toString(8)} ${uid}:${gid} links=${links} size=${sizeBytes} device=${device}`,
    `mtime=${mtime} ctime=${ctime} target=${target} ${[...xattrs].sort().join(' ')}`,
  ].join(' ')
}

function xattrText(name: string, value: Uint8Array): string {
  return `${Buffer.from(name, 'latin1').toString('hex')}=${Buffer.from(value).toString('hex')}`
}

function timeText(sec: number, nsec: number): string {
  return `${sec}.${String(nsec).padStart(9, '0')}`
}

export function dumpFiles(fs: Ext4): TreeDump {
  const dump: TreeDump = new Map()
  const walk = (inode: Inode, path: string): void => {
    dump.set(path, format(lineOf(fs, inode)))
    if (!inode.isDirectory) return
    const children: [string, number][] = []
    fs.readDirectory(inode, 0, ({ name, ino }) => {
      if (name !== '.' && name !== '..') children.push([name, ino])
      return true
    })
    for (const [name, ino] of children) walk(fs.inode(ino), `${path}/${name}`)
  }
  walk(fs.inode(2), '')
  return dump
}

function lineOf(fs: Ext4, inode: Inode): Line {
  const isDevice = [0o020000, 0o060000].includes(inode.type)
  return {
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    links: inode.linkCount,
    sizeBytes: inode.sizeBytes,
    device: isDevice ? fs.deviceNumber(inode) : 0,
    mtime: timeText(inode.mtime.sec, inode.mtime.nsec),
    ctime: timeText(inode.ctime.sec, inode.ctime.nsec),
    target: inode.isSymlink ? Buffer.from(fs.readSymlink(inode)).toString('hex') : '',
    xattrs: fs
      .listXattrs(inode)
      .map((name) => xattrText(name, fs.getXattr(inode, name) ?? new Uint8Array(0))),
  }
}

/** @param folder where the kernel has mounted it */
export async function dumpMounted(folder: string): Promise<TreeDump> {
  const xattrs = await mountedXattrs(folder)
  const dump: TreeDump = new Map()
  const walk = (path: string): void => {
    const full = Buffer.from(folder + path, 'latin1')
    const stat = lstatSync(full, { bigint: true })
    const mode = Number(stat.mode)
    dump.set(
      path,
      format({
        mode,
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        links: Number(stat.nlink),
        sizeBytes: Number(stat.size),
        device: kernelDevice(stat.rdev),
        mtime: timeText(Number(stat.mtimeNs / 1_000_000_000n), Number(stat.mtimeNs % 1_000_000_000n)),
        ctime: timeText(Number(stat.ctimeNs / 1_000_000_000n), Number(stat.ctimeNs % 1_000_000_000n)),
        target: stat.isSymbolicLink() ? readlinkSync(full, { encoding: 'hex' as BufferEncoding }) : '',
        xattrs: xattrs.get(path) ?? [],
      }),
    )
    if (!stat.isDirectory()) return
    const names = readdirSync(full, { encoding: 'latin1' as BufferEncoding }) as unknown as string[]
    for (const name of names) walk(`${path}/${name}`)
  }
  walk('')
  return dump
}

/** glibc's dev_t (up to 64 bits) to the kernel's 32-bit form. */
function kernelDevice(rdev: bigint): number {
  const major = Number((rdev >> 8n) & 0xfffn)
  const minor = Number((rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n))
  return ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0
}

async function mountedXattrs(folder: string): Promise<Map<string, string[]>> {
  const args = ['-R', '-P', '-h', '-d', '-m', '-', '-e', 'hex', '--absolute-names', folder]
  const { bytes } = await run('getfattr', args)
  const found = new Map<string, string[]>()
  let path = ''
  for (const text of bytes.toString('latin1').split('\n')) {
    if (text.startsWith('# file: ')) {
      path = unquote(text.slice(8)).slice(folder.length)
      found.set(path, [])
    } else if (text !== '') {
      const [name, value] = text.split('=') as [string, string | undefined]
      const bytes = Buffer.from((value ?? '').replace(/^0x/, ''), 'hex')
      found.get(path)?.push(xattrText(unquote(name), bytes))
    }
  }
  return found
}

function unquote(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}

/** Paths and lines that are in one dump only; empty: identical. */
export function differences(ours: TreeDump, theirs: TreeDump): string[] {
  const found: string[] = []
  for (const path of new Set([...ours.keys(), ...theirs.keys()])) {
    if (ours.get(path) !== theirs.get(path)) {
      found.push(`${JSON.stringify(path)}\n  ours   ${ours.get(path)}\n  theirs ${theirs.get(path)}`)
    }
  }
  return found
}
