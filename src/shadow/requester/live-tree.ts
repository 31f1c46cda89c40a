// The files of the live system, for what a writer allows to be read without a shadow copy.
//
// Always true: a file that changes while it is read is saved as it was read, and says so by its size; extended
// attributes are read through the addon.

import { closeSync, fstatSync, lstatSync, openSync, read, readdirSync, readlinkSync } from 'node:fs'
import { promisify } from 'node:util'
import { hasCode } from '../../base/errors.ts'
import { hostCall, hostError } from '../../image/host-file.ts'
import { bytesOf, type FileNode, type FileReader, type FileTree, type NodeKind } from './file-tree.ts'

const readOnThread = promisify(read)

export class LiveTree implements FileTree {
  readonly name = 'the live system'

  find(path: string): FileNode | undefined {
    const stat = lstat(path)
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
      readdirSync(bytesOf(path), 'latin1' as BufferEncoding),
    ).sort()
  }

  linkTarget(path: string): Uint8Array {
    return hostCall(`Cannot read ${path}`, () => readlinkSync(bytesOf(path), 'buffer'))
  }

  xattrs(_path: string): Record<string, string> | undefined {
    return undefined
  }

  open(path: string): FileReader {
    const fd = hostCall(`Cannot open ${path}`, () => openSync(bytesOf(path), 'r'))
    return {
      dataRuns: () => [{ offsetBytes: 0, lengthBytes: fstatSync(fd).size }],
      read: (offsetBytes, lengthBytes, target, targetOffset) =>
        readAll(fd, path, offsetBytes, lengthBytes, target, targetOffset),
      close: () => closeSync(fd),
    }
  }
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

function lstat(path: string): ReturnType<typeof lstatBig> | undefined {
  try {
    return hostCall(`Cannot look at ${path}`, () => lstatBig(path))
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw error
  }
}

function lstatBig(path: string) {
  return lstatSync(bytesOf(path), { bigint: true })
}
