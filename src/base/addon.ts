// The native addon's typed surface and its lazy loader: the only door between TypeScript and C.
//
// Always true of every function here: arguments were validated by its one TypeScript caller (wrong
// ones give -EINVAL, or a thrown TypeError from a call that ends later); a result below zero is a
// negated errno; buffers are used in place at the given offset and, for calls that end later, are
// kept alive by the addon until the callback has run.
// The addon takes no decision: what to mount, when to flush, how to answer is TypeScript's.

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { UmbraError } from './errors.ts'

/** Called once with a result: at least 0, or a negated errno. */
export type NativeCallback = (result: number) => void

export interface Addon {
  // -- checksums
  crc32c(seed: number, bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number
  /** The same without the processor's instruction, so that a test can compare them. */
  crc32cTable(seed: number, bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number

  // -- time
  /** Writes seconds and nanoseconds since 1970 as two doubles: CLOCK_REALTIME at the kernel's last tick. */
  coarseTime(target: Uint8Array, targetOffset: number, lengthBytes: number): number

  // -- block input and output on a plain descriptor
  /** All of it, less only where the file ends; the number of bytes read. */
  pread(
    fd: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
    offsetBytes: number,
  ): number
  /**
   * Like pread but only from the host's cache (preadv2 RWF_NOWAIT); -EAGAIN when any of it would have
   * to wait (what `target` then holds is undefined). On file systems that cannot tell it is a pread.
   */
  preadNoWait(
    fd: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
    offsetBytes: number,
  ): number
  /** pread on a thread. */
  preadLater(
    fd: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
    offsetBytes: number,
    done: NativeCallback,
  ): void
  /** All of it, or an error. */
  pwrite(
    fd: number,
    source: Uint8Array,
    sourceOffset: number,
    lengthBytes: number,
    offsetBytes: number,
  ): number
  fdatasync(fd: number): number
  /** fdatasync on a thread. */
  fdatasyncLater(fd: number, done: NativeCallback): void
  /** fallocate(2) with the mode's bits as in linux/falloc.h. */
  fallocate(fd: number, mode: number, offsetBytes: number, lengthBytes: number): number
  fallocateLater(
    fd: number,
    mode: number,
    offsetBytes: number,
    lengthBytes: number,
    done: NativeCallback,
  ): void
  /** Zeroed bytes that begin on a page boundary, for O_DIRECT and for page-wise copies; at most 1 GiB. */
  alignedBytes(lengthBytes: number): Uint8Array | number
  /** SEEK_DATA (3) or SEEK_HOLE (4). */
  lseek(fd: number, offsetBytes: number, whence: number): number
  /** Open-file-description lock on the whole file without waiting; 0, or -EAGAIN when held. */
  lock(fd: number, exclusive: boolean): number
  unlock(fd: number): number
  /**
   * A mark is a number that whoever has the file open can see while another holds it: a lock beyond any
   * file's end, gone with its holder however that ends. Beside the whole file's lock; 0 or an errno.
   */
  setMark(fd: number, mark: number): number
  clearMark(fd: number, mark: number): number
  /** 1: through another open of the file somebody holds the mark; 0: nobody does. */
  hasMark(fd: number, mark: number): number

  // -- attributes of the host's files; paths and names are bytes that end in a NUL, links are followed
  /** Four 64-bit numbers in the machine's order: seconds and nanoseconds of access, then of modification. */
  setTimes(
    path: Uint8Array,
    pathOffset: number,
    pathBytes: number,
    times: Uint8Array,
    timesOffset: number,
    timesBytes: number,
  ): number
  /** Names, each with its NUL; how many bytes. */
  listXattrs(
    path: Uint8Array,
    pathOffset: number,
    pathBytes: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
  ): number
  getXattr(
    path: Uint8Array,
    pathOffset: number,
    pathBytes: number,
    name: Uint8Array,
    nameOffset: number,
    nameBytes: number,
    target: Uint8Array,
    targetOffset: number,
    lengthBytes: number,
  ): number
  setXattr(
    path: Uint8Array,
    pathOffset: number,
    pathBytes: number,
    name: Uint8Array,
    nameOffset: number,
    nameBytes: number,
    value: Uint8Array,
    valueOffset: number,
    lengthBytes: number,
  ): number
  removeXattr(
    path: Uint8Array,
    pathOffset: number,
    pathBytes: number,
    name: Uint8Array,
    nameOffset: number,
    nameBytes: number,
  ): number
  /** mknod(2): fifos, sockets, devices. */
  makeNode(
    path: Uint8Array,
    pathOffset: number,
    pathBytes: number,
    mode: number,
    major: number,
    minor: number,
  ): number

  // -- processes and mounting
  openFuseDevice(): number
  /** mount(2); flags as in sys/mount.h. */
  mount(source: string, target: string, type: string, flags: number, data: string): number
  /** umount2(2); flags as in sys/mount.h. It waits for the mount's server: never in that process. */
  umount(target: string, flags: number): number
  /** umount2(2) on a thread. */
  umountLater(target: string, flags: number, done: NativeCallback): void
  /** An AF_UNIX stream pair, both close-on-exec: [ours, theirs]. */
  socketPair(): [number, number] | number
  /** Waits up to timeoutMs for one SCM_RIGHTS descriptor on a socket; the descriptor. */
  receiveDescriptor(socket: number, timeoutMs: number): number
  /** syncfs(2) on a path's file system; for helper processes only, never the serving one. */
  syncfs(path: string): number
  /** prctl(PR_SET_IO_FLUSHER), best effort. */
  setIoFlusher(): number

  // -- the FUSE device
  /**
   * Attaches to a /dev/fuse descriptor. Requests are received without blocking into `slotCount`
   * slots of one arena; `onBatch(count)` is called on the event loop with descriptors of the
   * received requests in `batch` (see FuseChannel in fuse/device/channel.ts).
   */
  fuseOpen(options: FuseOpenOptions): FuseHandle | number
}

export interface FuseOpenOptions {
  readonly fd: number
  /** Bytes of a request's payload area; max_write. A multiple of 4096. */
  readonly maxWriteBytes: number
  /** Requests that one batch can carry. */
  readonly slotCount: number
  /** How long to yield-spin for more requests after a batch before sleeping; 0 turns it off. */
  readonly spinUs: number
  /**
   * Called on the event loop with the number of requests received (at least 1), or with a negated
   * errno when the device has ended (-ENODEV: unmounted, -ECONNABORTED: aborted).
   */
  readonly onBatch: (countOrErrno: number) => void
}

export interface FuseHandle {
  /** All slots, contiguous; slot i's request starts at i * slotStrideBytes + requestOffsetBytes. */
  readonly arena: Uint8Array
  readonly slotStrideBytes: number
  /**
   * Where a request begins within its slot: chosen so that byte 80, the payload of a WRITE, is
   * page aligned.
   */
  readonly requestOffsetBytes: number
  /** Length of the request in each slot of the current batch. */
  readonly lengths: Uint32Array
  /**
   * Writes one reply: `lengthBytes` at `offsetBytes` of `bytes`, which start with fuse_out_header
   * with len already filled in. Returns 0 or a negated errno (-ENOENT: the request was interrupted).
   */
  reply(bytes: Uint8Array, offsetBytes: number, lengthBytes: number): number
  /** Stops or resumes receiving (for when reply buffers have run out). */
  pause(): void
  resume(): void
  /** Detaches and closes the descriptor; no callback follows. */
  close(): void
}

let loaded: Addon | null | undefined
let failures: string[] = []

function candidates(): string[] {
  const root = new URL('../../', import.meta.url)
  const at = (path: string) => fileURLToPath(new URL(path, root))
  const fromEnvironment = process.env['UMBRA_NATIVE']
  return [
    ...(fromEnvironment ? [fromEnvironment] : []),
    at('native/build/Release/umbra.node'),
    at(`prebuilds/${process.platform}-${process.arch}/umbra.node`),
  ]
}

/** The addon, or null where it cannot be loaded. `UMBRA_NATIVE=none` leaves it out on purpose. */
export function loadAddon(): Addon | null {
  if (loaded !== undefined) return loaded
  loaded = null
  failures = []
  if (process.env['UMBRA_NATIVE'] === 'none') {
    failures.push('nothing, as UMBRA_NATIVE is "none"')
    return null
  }
  const require = createRequire(import.meta.url)
  for (const path of candidates()) {
    if (!existsSync(path)) {
      failures.push(`${path}: not there`)
      continue
    }
    try {
      loaded = require(path) as Addon
      return loaded
    } catch (error) {
      failures.push(`${path}: ${(error as Error).message}`)
    }
  }
  return null
}

/** @throws UmbraError UNAVAILABLE, saying what was tried, where the addon cannot be loaded */
export function requireAddon(): Addon {
  const addon = loadAddon()
  if (addon) return addon
  throw new UmbraError(
    'UNAVAILABLE',
    `The native addon is not there; with a C compiler installed, run ${buildCommand()} (tried ${failures.join('; ')})`,
  )
}

/** In a checkout its own script; an installed package has the addon's sources and no scripts. */
function buildCommand(): string {
  const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
  return existsSync(at('scripts/build-native.ts'))
    ? '"npm run build"'
    : `"npx node-gyp rebuild --directory ${at('native')}"`
}
