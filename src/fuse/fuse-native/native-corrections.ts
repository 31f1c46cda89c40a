// What fuse-native's public interface gets wrong, put right on the object before it mounts: fgetattr
// forgets the handle, nlink 0 becomes 1, an xattr that does not fit reads past its buffer, a list of
// xattrs has a wrong length, and mount options of libfuse's cannot be given.
//
// Always true: the answers have the form that the native code takes (checked against fuse-native 2.2.6,
// the last there is); a value that does not fit is ERANGE, never cut.

import type Fuse from 'fuse-native'
import type { Signal } from 'fuse-native'
import { posixError } from '../../base/errors.ts'
import type { Attributes } from '../attributes.ts'
import type { Reply } from './answers.ts'
import { splitPath } from './byte-names.ts'
import { HiddenFiles } from './hidden-files.ts'
import type { NativeContext } from './native-operations.ts'
import { statWords } from './stat-words.ts'

/** @param options "-o" and libfuse's mount options; @param setLocals told of each request's record */
export function correct(
  fuse: Fuse,
  context: NativeContext,
  options: string,
  setLocals: (locals: Uint8Array) => void,
): void {
  const { paths, answers } = context
  fuse._fuseOptions = () => options
  fuse._handlers = fuse._handlers.map(
    (handler) =>
      handler &&
      ((locals, ...rest) => {
        setLocals(locals)
        return handler(locals, ...rest)
      }),
  )
  const words = (path: string, attributes: Attributes) => {
    // libfuse takes one link off a file that it has hidden, for the hidden name; here that name is none.
    if (HiddenFiles.isHiddenName(splitPath(path).name)) attributes.linkCount++
    return statWords(attributes, context.inodeNumbers)
  }
  fuse._op_getattr = (signal, path) => {
    answers.run('getattr', withWords(signal), () => words(path, paths.getattr(path)))
  }
  fuse._op_fgetattr = (signal, path, handle) => {
    answers.run('fgetattr', withWords(signal), () => words(path, paths.fgetattr(handle)))
  }
  fuse._op_getxattr = (signal, path, name, room) => {
    answers.run('getxattr', counted(signal, room), () => fitted(paths.getxattr(path, name), room))
  }
  fuse._op_listxattr = (signal, path, room) => {
    answers.run('listxattr', counted(signal, room), () => fitted(paths.listxattr(path), room))
  }
}

function withWords(signal: Signal): Reply<Uint32Array> {
  return (error, words) => (error === 0 ? signal(0, words) : signal(error))
}

function counted(signal: Signal, room: Buffer): Reply<number> {
  return (error, count) => signal(error === 0 ? (count ?? 0) : error, room.buffer)
}

/** Copies the value, unless only its length is asked for. @returns its length @throws ERANGE */
function fitted(value: Uint8Array, room: Buffer): number {
  if (room.length === 0) return value.length
  if (value.length > room.length) throw posixError('ERANGE')
  room.set(value)
  return value.length
}
