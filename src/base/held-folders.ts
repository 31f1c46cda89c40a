// Folders of the host held by descriptors, for work in a tree that other users may change at the same
// moment: every name is looked up in a folder that was opened once, not along a path that may lead
// elsewhere by now.
//
// Always true: symbolic links are followed only where the caller says so (above the tree that it works
// in), and there only those that nobody but root and this user could have put there, and those that belong
// to the owner of what they lead to; a folder that is
// open stays the one that it is, whatever is done to its names; paths are byte strings (one char a byte),
// absolute and without `.` and `..`.

import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs'
import { constants as system } from 'node:os'
import { basename, dirname } from 'node:path'
import { systemError, UmbraError } from './errors.ts'

/** open(2): only a place in the tree; needs no right to read. Node.js has no name for it. */
const O_PATH = 0o10000000
const FOLDER = O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW
const NODE = O_PATH | constants.O_NOFOLLOW
const FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
/** Descriptors kept open between two calls. */
const HELD_MAX = 128
/** On the way to one folder; as the kernel's MAXSYMLINKS. */
const LINKS_MAX = 40

/** What is at a path, held: the handle is a path for system calls that follow links, and stays that node. */
export interface HeldNode {
  readonly handle: Buffer
  readonly stat: BigIntStats
}

export class HeldFolders implements Disposable {
  readonly #mayFollow: (path: string) => boolean
  /** The least recently used first. */
  readonly #held = new Map<string, number>()
  readonly #pinned = new Set<string>()

  /** @param mayFollow whether a link at this path is followed: never below the tree that is worked in */
  constructor(mayFollow: (path: string) => boolean) {
    this.#mayFollow = mayFollow
  }

  /**
   * The path as system calls are to be given it: a name in its folder's descriptor. Good until the next call.
   * @throws UmbraError ENOENT, ENOTDIR: its folder is none, or a link that is not followed
   */
  at(path: string): Buffer {
    this.#trim()
    return this.#entry(path)
  }

  /** @throws the system's error, as renameSync() */
  rename(from: string, to: string): void {
    renameSync(...this.pair(from, to))
    this.forget(from)
    this.forget(to)
  }

  /** Two such paths at once, for link(2). */
  pair(from: string, to: string): readonly [Buffer, Buffer] {
    this.#trim()
    return [this.#entry(from), this.#entry(to)]
  }

  /** The folder itself, as it is held. Good until the next call. @throws UmbraError as at() */
  folder(path: string): HeldNode {
    this.#trim()
    const fd = this.#open(path)
    return { handle: handleOf(fd), stat: fstatSync(fd, { bigint: true }) }
  }

  /** Keeps a folder open until the end, so that it is found though somebody renames it. */
  pin(path: string): void {
    this.#trim()
    this.#open(path)
    this.#pinned.add(path)
  }

  /** The names at and below the path are about to mean something else. */
  forget(path: string): void {
    for (const [folder, fd] of this.#held) {
      if (this.#pinned.has(folder) || (folder !== path && !folder.startsWith(`${path}/`))) continue
      closeSync(fd)
      this.#held.delete(folder)
    }
  }

  /** Undefined: nothing is there, or nothing that is reached without following a link. */
  withNode<T>(path: string, use: (node: HeldNode) => T): T | undefined {
    this.#trim()
    let fd: number
    try {
      fd = this.#openNode(path)
    } catch (error) {
      if (error instanceof UmbraError && isNothing(error)) return undefined
      throw error
    }
    try {
      return use({ handle: handleOf(fd), stat: fstatSync(fd, { bigint: true }) })
    } finally {
      closeSync(fd)
    }
  }

  /** Opens a regular file for reading. @throws UmbraError ENOENT, INVALID_ARGUMENT: it is no regular file */
  openFile(path: string): number {
    const fd = this.#call(path, () => openSync(this.at(path), FILE))
    if (fstatSync(fd).isFile()) return fd
    closeSync(fd)
    throw new UmbraError('INVALID_ARGUMENT', `Not a regular file: ${textOf(path)}`)
  }

  /** Makes a file or folder durable. */
  sync(path: string): void {
    this.withNode(path, ({ handle, stat }) => {
      const fd = this.#call(path, () =>
        openSync(handle, stat.isDirectory() ? constants.O_RDONLY : FILE & ~constants.O_NOFOLLOW),
      )
      try {
        this.#call(path, () => fsyncSync(fd))
      } finally {
        closeSync(fd)
      }
    })
  }

  /** Removes what is there with all that is in it; nothing there will do. */
  removeTree(path: string): void {
    const isFolder = this.withNode(path, ({ stat }) => stat.isDirectory())
    if (isFolder === undefined) return
    if (isFolder) for (const name of this.names(path)) this.removeTree(`${path}/${name}`)
    this.forget(path)
    this.#call(path, () => (isFolder ? rmdirSync(this.at(path)) : unlinkSync(this.at(path))))
  }

  /** What a folder holds; nothing where there is none. */
  names(path: string): string[] {
    const list = ({ handle, stat }: HeldNode): string[] =>
      stat.isDirectory() ? readdirSync(handle, 'latin1' as BufferEncoding) : []
    return this.#call(path, () => this.withNode(path, list) ?? [])
  }

  [Symbol.dispose](): void {
    for (const fd of this.#held.values()) closeSync(fd)
    this.#held.clear()
  }

  #openNode(path: string): number {
    if (path === '/') return this.#call(path, () => openSync('/', FOLDER))
    const entry = this.#entry(path)
    const fd = this.#call(path, () => openSync(entry, NODE))
    if (!fstatSync(fd).isSymbolicLink() || !this.#mayFollow(path)) return fd
    closeSync(fd)
    const folder = this.#open(path)
    return this.#call(path, () => openSync(Buffer.concat([handleOf(folder), Buffer.from('/.')]), FOLDER))
  }

  #entry(path: string): Buffer {
    if (path === '/') return Buffer.from('/')
    return entryOf(this.#open(dirname(path)), basename(path))
  }

  #open(path: string): number {
    const known = this.#held.get(path)
    if (known !== undefined) {
      this.#held.delete(path)
      this.#held.set(path, known)
      return known
    }
    const fd =
      path === '/'
        ? this.#call(path, () => openSync('/', FOLDER))
        : this.#call(path, () =>
            step(this.#open(dirname(path)), basename(path), this.#mayFollow(path), { links: 0 }),
          )
    this.#held.set(path, fd)
    return fd
  }

  /** Between two calls only: what one call uses stays open until it ends. */
  #trim(): void {
    for (const [folder, fd] of this.#held) {
      if (this.#held.size <= HELD_MAX) return
      if (this.#pinned.has(folder)) continue
      closeSync(fd)
      this.#held.delete(folder)
    }
  }

  #call<T>(path: string, call: () => T): T {
    try {
      return call()
    } catch (error) {
      const errno = (error as { errno?: unknown }).errno
      if (error instanceof UmbraError || typeof errno !== 'number') throw error
      throw systemError(Math.abs(errno), `Cannot open ${textOf(path)}`, { path: textOf(path) })
    }
  }
}

/** What says that there is nothing, or a link where none is followed. */
function isNothing({ code }: UmbraError): boolean {
  return code === 'ENOENT' || code === 'NOT_FOUND' || code === 'ENOTDIR' || code === 'ELOOP'
}

/**
 * The same file as long as this is the same, also after its number was used again. Without the device, whose
 * number changes from mount to mount.
 */
export function identityOf({ ino, birthtimeNs }: BigIntStats): string {
  return `${ino}:${birthtimeNs}`
}

/** How many links were followed on the way to one folder, all in all: a few could lead to each other without end. */
interface Followed {
  links: number
}

/** A folder below an open one. */
function step(parent: number, name: string, mayFollow: boolean, seen: Followed): number {
  const entry = entryOf(parent, name)
  if (mayFollow && lstatSync(entry).isSymbolicLink()) return followed(parent, entry, seen)
  return openSync(entry, FOLDER)
}

function followed(parent: number, entry: Buffer, seen: Followed): number {
  const link = lstatSync(entry, { bigint: true })
  const target = readlinkSync(entry, 'latin1')
  const again = lstatSync(entry, { bigint: true })
  if (++seen.links > LINKS_MAX)
    throw systemError(system.errno.ELOOP, `Too many links on the way to ${textOf(target)}`)
  let fd = openSync(target.startsWith('/') ? '/' : handleOf(parent), FOLDER & ~constants.O_NOFOLLOW)
  try {
    for (const part of target.split('/')) {
      if (part === '' || part === '.') continue
      const next = part === '..' ? openSync(entryOf(fd, '..', true), FOLDER) : step(fd, part, true, seen)
      closeSync(fd)
      fd = next
    }
    const isSame = identityOf(link) === identityOf(again) && link.ctimeNs === again.ctimeNs
    if (!isSame || !mayLead(link, fstatSync(parent, { bigint: true }), fstatSync(fd, { bigint: true })))
      throw new UmbraError(
        'EACCES',
        `A link to ${textOf(target)} could have been put there by somebody to whom that does not belong: it is not followed`,
      )
    return fd
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** A link that root made is still not trusted where others may have moved it to. */
function mayLead(link: BigIntStats, folder: BigIntStats, target: BigIntStats): boolean {
  if (!isTrusted(link)) return link.uid === target.uid
  return isTrusted(folder) && ((folder.mode & 0o022n) === 0n || (folder.mode & 0o1000n) !== 0n)
}

function isTrusted({ uid }: BigIntStats): boolean {
  return uid === 0n || uid === BigInt(process.geteuid?.() ?? 0)
}

function entryOf(folder: number, name: string, mayBeParent = false): Buffer {
  if (name === '' || name === '.' || (name === '..' && !mayBeParent))
    throw new UmbraError('INVALID_ARGUMENT', `No name of a file: '${name}'`)
  return Buffer.from(`/proc/self/fd/${folder}/${name}`, 'latin1')
}

function handleOf(fd: number): Buffer {
  return Buffer.from(`/proc/self/fd/${fd}`)
}

function textOf(path: string): string {
  return Buffer.from(path, 'latin1').toString('utf8')
}
