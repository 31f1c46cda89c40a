// Mounts by fuse-native, serves the mount, and notices its end.
//
// Always true: the volume's own options are libfuse's as they must be for the kernel to see what is
// there (no attribute is cached, since libfuse 2 has one kernel inode for each name of a file); the
// mount is never touched from here, nor unmounted: who wants its end unmounts it from another process,
// and the end shows in the descriptor of /dev/fuse, which libfuse closes then.
//
// Source: mount.fuse(8) and lib/fuse.c, lib/mount.c of libfuse 2.9.

import { readdirSync, readlinkSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import type Fuse from 'fuse-native'
import { UmbraError } from '../../base/errors.ts'
import { escapeOption } from '../device/mount.ts'
import { canonicalMountPoint } from '../device/mount-table.ts'
import { type InodeOperations, NotReady } from '../operations.ts'
import { ROOT_NODE_ID } from '../protocol.ts'
import { Answers, type NativeErrorReport } from './answers.ts'
import { loadFuseNative } from './load.ts'
import { correct } from './native-corrections.ts'
import { type NativeContext, nativeOperations } from './native-operations.ts'
import { PathOperations } from './path-operations.ts'
import { ShortInodeNumbers } from './stat-words.ts'

export interface NativeMountOptions {
  /** An existing folder. */
  readonly mountPoint: string
  /** What df and the mount table show as the source: the volume's path. */
  readonly fsName: string
  readonly readOnly: boolean
  /** Other users may enter. Default false, for root too: who makes a file here is not known. */
  readonly allowOther?: boolean
  readonly onError?: NativeErrorReport
  /** The mount is gone. */
  readonly onEnded?: () => void
}

export interface NativeMount {
  readonly mountPoint: string
  /** Requests are ENOTCONN from now on; onEnded is not called any more. */
  close(): void
}

/** What the native code copies of the options and of the mount point, its NUL included. */
const NATIVE_TEXT_BYTES = 1024
const END_POLL_MS = 100
const FUSE_DEVICE = '/dev/fuse'

/** @throws UmbraError UNAVAILABLE, NOT_FOUND, INVALID_ARGUMENT, NOT_PERMITTED */
export async function mountFuseNative(
  operations: InodeOperations,
  options: NativeMountOptions,
): Promise<NativeMount> {
  const FuseClass = await loadFuseNative()
  // It would run "fusermount -uz"; by the time that we ask it to let go, the mount is gone.
  FuseClass.unmount = (_mountPoint, callback) => callback(null)
  const mountPoint = await checkedMountPoint(options.mountPoint)
  const paths = new PathOperations(operations, ownIdentity())
  const answers = new Answers(options.onError ?? (() => {}), () => paths.resolver.clear())
  let current: Uint8Array | undefined
  const context: NativeContext = {
    paths,
    answers,
    inodeNumbers: new ShortInodeNumbers(await inodeCount(operations)),
    locals: () => current,
  }
  const fuse = new FuseClass(mountPoint, nativeOperations(context), { timeout: false })
  correct(fuse, context, mountOptions(options), (locals) => {
    current = locals
  })
  const before = fuseDescriptors()
  await mounted(fuse, mountPoint, options.allowOther ?? false)
  const descriptor = [...fuseDescriptors()].find((fd) => !before.has(fd))
  return watch(fuse, answers, mountPoint, descriptor, options.onEnded ?? (() => {}))
}

async function inodeCount(operations: InodeOperations): Promise<number> {
  for (;;) {
    try {
      return operations.statfs(ROOT_NODE_ID).inodeCount
    } catch (reason) {
      if (!(reason instanceof NotReady)) throw reason
      await reason.ready
    }
  }
}

function ownIdentity() {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, pid: 0, umask: 0 }
}

async function checkedMountPoint(path: string): Promise<string> {
  const mountPoint = await canonicalMountPoint(path)
  const isFolder = await stat(mountPoint).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (!isFolder) throw new UmbraError('NOT_FOUND', `Cannot mount on ${path}: there is no such directory`)
  if (Buffer.byteLength(mountPoint) >= NATIVE_TEXT_BYTES) throw tooLong('mount point', mountPoint)
  return mountPoint
}

/** The one argument that libfuse gets. @throws INVALID_ARGUMENT when it is too long */
export function mountOptions(options: NativeMountOptions): string {
  const isRoot = process.geteuid?.() === 0
  const list = [
    'default_permissions',
    'use_ino',
    'big_writes',
    'attr_timeout=0',
    'entry_timeout=0',
    'negative_timeout=0',
    ...(options.allowOther ? ['allow_other'] : []),
    ...(options.readOnly ? ['ro'] : []),
    // As any file system of root's has them.
    ...(isRoot ? ['dev', 'suid'] : []),
    'subtype=umbra',
    `fsname=${escapeOption(options.fsName)}`,
  ].join(',')
  const argument = `-o${list}`
  if (Buffer.byteLength(argument) >= NATIVE_TEXT_BYTES) throw tooLong('volume path', options.fsName)
  return argument
}

function tooLong(what: string, path: string): UmbraError {
  return new UmbraError('INVALID_ARGUMENT', `The ${what} is too long for fuse-native: ${path}`)
}

function mounted(fuse: Fuse, mountPoint: string, allowOther: boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    fuse.mount((cause) => {
      if (!cause) return resolve()
      const conf = allowOther ? ' and "user_allow_other" in /etc/fuse.conf' : ''
      const message = `Cannot mount on ${mountPoint} by fuse-native: ${cause.message} (it needs /dev/fuse and, without root, fusermount${conf})`
      reject(new UmbraError('NOT_PERMITTED', message, { mountPoint }, cause))
    })
  })
}

/** Descriptors of this process that are /dev/fuse. */
function fuseDescriptors(): Set<string> {
  return new Set(readdirSync('/proc/self/fd').filter(isFuseDevice))
}

function isFuseDevice(fd: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === FUSE_DEVICE
  } catch {
    return false
  }
}

function watch(
  fuse: Fuse,
  answers: Answers,
  mountPoint: string,
  descriptor: string | undefined,
  onEnded: () => void,
): NativeMount {
  const close = (): void => {
    clearInterval(timer)
    answers.end()
    // Lets the event loop end; the native code keeps what its threads may still use.
    fuse.unmount(() => {})
  }
  const timer = setInterval(() => {
    if (descriptor !== undefined && isFuseDevice(descriptor)) return
    clearInterval(timer)
    onEnded()
  }, END_POLL_MS)
  return { mountPoint, close }
}
