// The functions that fuse-native calls, one a file-system call of libfuse 2.9, as a table of its shape.
//
// Always true: each ends in exactly one call of its callback; read and write give the count in the place
// of the error, as fuse-native has it. access is left out: the kernel checks modes
// (default_permissions). What fuse-native would answer wrongly by its public callbacks is replaced in
// native-corrections.ts.

import type { Answers, Reply } from './answers.ts'
import { fromByteString, fromBytes } from './byte-names.ts'
import { requestedTimes } from './native-times.ts'
import type { PathOperations } from './path-operations.ts'
import type { ShortInodeNumbers } from './stat-words.ts'

/** What the handlers share. */
export interface NativeContext {
  readonly paths: PathOperations
  readonly answers: Answers
  readonly inodeNumbers: ShortInodeNumbers
  /** The native record of the request that is being handed over now. */
  readonly locals: () => Uint8Array | undefined
}

type Done = Reply<unknown>
type Count = (countOrError: number) => void

/** The table for fuse-native's constructor. */
export function nativeOperations(context: NativeContext): object {
  return {
    ...attributeOperations(context),
    ...nameOperations(context),
    ...fileOperations(context),
    ...folderOperations(context),
    // Their corrections are in native-corrections.ts; fuse-native looks here for what there is.
    getattr: () => {},
    fgetattr: () => {},
    getxattr: () => {},
    listxattr: () => {},
  }
}

function attributeOperations({ paths, answers, locals }: NativeContext) {
  return {
    statfs: (path: string, done: Reply<object>) =>
      answers.run('statfs', done, () => statfsOf(paths.statfs(path))),
    truncate: (path: string, sizeBytes: number, done: Done) =>
      answers.run('truncate', done, () => paths.truncate(path, sizeBytes)),
    ftruncate: (_path: string, handle: number, sizeBytes: number, done: Done) =>
      answers.run('ftruncate', done, () => paths.ftruncate(handle, sizeBytes)),
    utimens: (path: string, atimeMs: number, _wrongMs: number, done: Done) => {
      const record = locals()
      answers.run('utimens', done, () => paths.change(path, requestedTimes(record, atimeMs)))
    },
    chown: (path: string, uid: number, gid: number, done: Done) =>
      answers.run('chown', done, () => paths.chown(path, uid, gid)),
    chmod: (path: string, mode: number, done: Done) =>
      answers.run('chmod', done, () => paths.change(path, { mode })),
    setxattr: (
      path: string,
      name: string,
      value: Uint8Array,
      _position: number,
      flags: number,
      done: Done,
    ) => {
      // The memory is libfuse's, and gone after the answer.
      const copy = Uint8Array.from(value)
      answers.run('setxattr', done, () => paths.setxattr(path, name, copy, flags))
    },
    removexattr: (path: string, name: string, done: Done) =>
      answers.run('removexattr', done, () => paths.removexattr(path, name)),
  }
}

function statfsOf(found: ReturnType<PathOperations['statfs']>): object {
  return {
    bsize: found.blockSizeBytes,
    frsize: found.blockSizeBytes,
    blocks: found.blockCount,
    bfree: found.freeBlockCount,
    bavail: found.availableBlockCount,
    files: found.inodeCount,
    ffree: found.freeInodeCount,
    favail: found.freeInodeCount,
    namemax: found.nameLengthMax,
  }
}

function nameOperations({ paths, answers }: NativeContext) {
  return {
    readlink: (path: string, done: Reply<string>) =>
      answers.run('readlink', done, () => fromBytes(paths.readlink(path))),
    mknod: (path: string, mode: number, deviceNumber: number, done: Done) =>
      answers.run('mknod', done, () => paths.mknod(path, mode, deviceNumber)),
    mkdir: (path: string, mode: number, done: Done) =>
      answers.run('mkdir', done, () => paths.mkdir(path, mode)),
    symlink: (target: string, path: string, done: Done) =>
      answers.run('symlink', done, () => paths.symlink(target, path)),
    link: (path: string, newPath: string, done: Done) =>
      answers.run('link', done, () => paths.link(path, newPath)),
    unlink: (path: string, done: Done) => answers.run('unlink', done, () => paths.unlink(path)),
    rmdir: (path: string, done: Done) => answers.run('rmdir', done, () => paths.rmdir(path)),
    rename: (path: string, newPath: string, done: Done) =>
      answers.run('rename', done, () => paths.rename(path, newPath)),
  }
}

function fileOperations({ paths, answers }: NativeContext) {
  return {
    open: (path: string, flags: number, done: Reply<number>) =>
      answers.run('open', done, () => paths.open(path, flags)),
    create: (path: string, mode: number, done: Reply<number>) =>
      answers.run('create', done, () => paths.create(path, mode)),
    read: (_path: string, handle: number, target: Buffer, length: number, offset: number, done: Count) =>
      answers.run('read', counted(done), () => paths.read(handle, target, length, offset)),
    write: (_path: string, handle: number, source: Buffer, length: number, offset: number, done: Count) =>
      answers.run('write', counted(done), () => paths.write(handle, source, length, offset)),
    flush: (_path: string, handle: number, done: Done) =>
      answers.run('flush', done, () => paths.flush(handle)),
    fsync: (_path: string, dataOnly: number, handle: number, done: Done) =>
      answers.run('fsync', done, () => paths.fsync(handle, dataOnly !== 0)),
    // The flush marker's must follow the writes that were here before it.
    release: (_path: string, handle: number, done: Done) =>
      answers.runInTurn('release', done, () => paths.release(handle)),
  }
}

function counted(done: Count): Reply<number> {
  return (error, count) => done(error === 0 ? (count ?? 0) : error)
}

function folderOperations({ paths, answers, inodeNumbers }: NativeContext) {
  return {
    opendir: (path: string, _flags: number, done: Reply<number>) =>
      answers.run('opendir', done, () => paths.opendir(path)),
    readdir: (path: string, done: (error: number, names?: string[], stats?: object[]) => void) => {
      const reply: Reply<{ names: string[]; stats: object[] }> = (error, found) =>
        done(error, found?.names, found?.stats)
      answers.run('readdir', reply, () => {
        const names: string[] = []
        const stats: object[] = []
        paths.readdir(path, ({ name, ino, type }) => {
          names.push(fromByteString(name))
          // Of a listing libfuse keeps these two; a time spares fuse-native the asking for one.
          stats.push({ ino: inodeNumbers.shortened(ino), mode: type << 12, atime: 1, mtime: 1, ctime: 1 })
        })
        return { names, stats }
      })
    },
    fsyncdir: (_path: string, dataOnly: number, handle: number, done: Done) =>
      answers.run('fsyncdir', done, () => paths.fsyncdir(handle, dataOnly !== 0)),
    releasedir: (_path: string, handle: number, done: Done) =>
      answers.run('releasedir', done, () => paths.releasedir(handle)),
  }
}
