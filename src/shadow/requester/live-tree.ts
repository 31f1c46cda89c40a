// The files of the live system, for what a writer allows to be read without a shadow copy.
//
// Always true: a file that changes while it is read is saved as it was read, and says so by its size; extended
// attributes are read by getfattr(1), and a component whose attributes cannot be read fails. Every name is looked up in a
// folder that is held open, since other users may own folders above the files: a link of theirs does not lead elsewhere.

import { spawnSync } from 'node:child_process'
import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  read,
  readdirSync,
  readlinkSync,
} from 'node:fs'
import { promisify } from 'node:util'
import { hasCode, UmbraError } from '../../base/errors.ts'
import { HeldFolders } from '../../base/held-folders.ts'
import { hostCall, hostError } from '../../image/host-file.ts'
import { bytesOf, type FileNode, type FileReader, type FileTree, type NodeKind, textOf } from './file-tree.ts'

const readOnThread = promisify(read)

export class LiveTree implements FileTree, Disposable {
  readonly name = 'the live system'
  readonly #held = new HeldFolders(() => true)

  find(path: string): FileNode | undefined {
    const stat = lstat(this.#held, path)
    if (!stat) return undefined
    const kind: NodeKind = stat.isFile()
      ? 'file'
      : stat.isDirectory()
        ? 'directory'
        : stat.isSymbolicLink()
          ? 'symlink'
          : stat.isFIFO()
            ? 'fifo'
            : stat.isSocket()
              ? 'socket'
              : 'device'
    return {
      kind,
      mode: Number(stat.mode),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtimeNs: String(stat.mtimeNs),
      changedAtMs: Math.max(Number(stat.mtimeNs), Number(stat.ctimeNs)) / 1e6,
      sizeBytes: Number(stat.size),
      linkCount: Number(stat.nlink),
      ino: Number(stat.ino),
      generation: null,
      rdev: Number(stat.rdev),
    }
  }

  list(path: string): string[] {
    return hostCall(`Cannot read ${path}`, () =>
      readdirSync(this.#held.folder(path).handle, 'latin1' as BufferEncoding),
    ).sort()
  }

  linkTarget(path: string): Uint8Array {
    return hostCall(`Cannot read ${path}`, () => readlinkSync(this.#held.at(path), 'buffer'))
  }

  /** Read by getfattr(1), as Node.js has no call for it; from a descriptor, so that any name will do. */
  xattrs(path: string): Record<string, string> | undefined {
    const stat = lstat(this.#held, path)
    // Other kinds carry none that a backup could restore, and opening them may wait.
    if (!stat?.isFile() && !stat?.isDirectory()) return undefined
    const fd = hostCall(`Cannot open ${path}`, () => openLive(this.#held, path))
    try {
      const ask = ['-d', '-m', '-', '-e', 'base64', '--absolute-names', '/proc/self/fd/3']
      const asked = spawnSync('getfattr', ask, {
        stdio: ['ignore', 'pipe', 'pipe', fd],
        env: { ...process.env, LC_ALL: 'C' },
      })
      if (asked.error || asked.status !== 0)
        throw new UmbraError(
          'UNAVAILABLE',
          `The extended attributes of ${textOf(path).text} cannot be read: ${asked.error ? 'getfattr (package attr) is not there' : asked.stderr}`,
        )
      return parseXattrs(asked.stdout.toString('latin1'))
    } finally {
      closeSync(fd)
    }
  }

  open(path: string): FileReader {
    const fd = hostCall(`Cannot open ${path}`, () => openLive(this.#held, path))
    return {
      dataRuns: () => [{ offsetBytes: 0, lengthBytes: fstatSync(fd).size }],
      read: (offsetBytes, lengthBytes, target, targetOffset) =>
        readAll(fd, path, offsetBytes, lengthBytes, target, targetOffset),
      close: () => closeSync(fd),
    }
  }

  [Symbol.dispose](): void {
    this.#held[Symbol.dispose]()
  }
}

/** What was a file or folder a moment ago may be a link by now, or a fifo that would keep us waiting. */
function openLive(held: HeldFolders, path: string): number {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const fd = openSync(held.at(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  const stat = fstatSync(fd)
  if (stat.isFile() || stat.isDirectory()) return fd
  closeSync(fd)
  throw new UmbraError('INVALID_ARGUMENT', `${textOf(path).text} is no file any more`)
}

/** Lines of `NAME=0sBASE64`; names have their odd characters as octal escapes. */
function parseXattrs(text: string): Record<string, string> | undefined {
  const values: Record<string, string> = {}
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=')
    if (line.startsWith('#') || equals < 0) continue
    const name = line
      .slice(0, equals)
      .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    values[bytesOf(name).toString('utf8')] = line.slice(equals + 1).replace(/^0s/, '')
  }
  return Object.keys(values).length === 0 ? undefined : values
}

async function readAll(
  fd: number,
  path: string,
  offsetBytes: number,
  lengthBytes: number,
  target: Buffer,
  targetOffset: number,
): Promise<number> {
  let done = 0
  while (done < lengthBytes) {
    try {
      const { bytesRead } = await readOnThread(
        fd,
        target,
        targetOffset + done,
        lengthBytes - done,
        offsetBytes + done,
      )
      if (bytesRead === 0) break
      done += bytesRead
    } catch (error) {
      throw hostError(error, `Cannot read ${path}`)
    }
  }
  return done
}

function lstat(held: HeldFolders, path: string): BigIntStats | undefined {
  try {
    return hostCall(`Cannot look at ${path}`, () => lstatSync(held.at(path), { bigint: true }))
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
}
