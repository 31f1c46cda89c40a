// Copies the tree of a file system that cannot be served in place into a fresh one: every name, link,
// byte, hole and attribute, with blocks of 4 KiB.
//
// Always true: the source is only read; files keep names, hard links, modes, owners, all four times,
// extended attributes, ACLs, device numbers, holes, preallocation past the end and the flags of
// chattr; inode numbers are new. A directory gets its attributes after its contents, so that nothing
// is inherited that was not so in the source.

import { hasCode, UmbraError } from '../../base/errors.ts'
import { BLOCK_SIZE_BYTES, MIB } from '../../base/units.ts'
import { uuidText } from '../../base/uuid.ts'
import type { BlockDevice } from '../../storage/block-device.ts'
import { decodeDiskAcl, encodeInterfaceAcl } from '../acl.ts'
import { loadDeviceNumber } from '../device-number.ts'
import { Ext4 } from '../ext4.ts'
import { type Caller, FALLOC } from '../file-system.ts'
import { type Inode, ROOT_INO, S_IFMT } from '../inode.ts'
import { formatExt4 } from '../mkfs.ts'
import type { Xattr } from '../xattr-block.ts'
import type { SourceFileSystem } from './source-file-system.ts'

const ROOT: Caller = { uid: 0, gid: 0, pid: 0 }
const WORKING_MODE = 0o700
const COMMIT_BYTES = 64 * MIB
const COMMIT_INODES = 2000
const DEFAULT_INODE_RATIO_BYTES = 16_384
const PREFIXES: Readonly<Record<number, string>> = { 1: 'user.', 4: 'trusted.', 6: 'security.' }
const ACCESS_ACL = 2
const CRTIME_EXTRA_BYTES = 24
const DEFAULT_ACL = 3

export interface ConversionOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: { doneBytes: number; totalBytes: number }) => void) | undefined
}

/** Bytes that a volume for a converted file system should have: never too few, often a little more. */
export function convertedSizeBytes(files: SourceFileSystem): number {
  const { geometry } = files
  const usedBytes = usedSourceBytes(files)
  const usedInodes = geometry.inodeCount - geometry.value.freeInodesCount
  // A file's last block and a directory's are up to 4 KiB larger, and so is a block of attributes.
  const needed = (usedBytes + usedInodes * (2 * BLOCK_SIZE_BYTES + 256)) * 1.03 + 16 * MIB
  const imageBytes = geometry.blockCount * geometry.blockSizeBytes
  return Math.ceil(Math.max(needed, imageBytes) / BLOCK_SIZE_BYTES) * BLOCK_SIZE_BYTES
}

function usedSourceBytes({ geometry }: SourceFileSystem): number {
  const { value, blockSizeBytes } = geometry
  const free =
    value.freeBlocksHigh * 2 ** 32 * (geometry.descriptorSizeBytes >= 64 ? 1 : 0) + value.freeBlocksLow
  return Math.max(0, geometry.blockCount - free) * blockSizeBytes
}

/** Formats the device and fills it. @throws UmbraError OUT_OF_SPACE, CORRUPT, CHECKSUM_MISMATCH, ABORTED */
export async function convertFileSystem(
  files: SourceFileSystem,
  device: BlockDevice,
  options: ConversionOptions = {},
): Promise<void> {
  const { value, inodeCount } = files.geometry
  const usedInodes = inodeCount - value.freeInodesCount
  const perInode = Math.floor((device.blockCount * BLOCK_SIZE_BYTES) / (usedInodes * 1.25 + 64))
  formatExt4(device, {
    label: value.label,
    ...(value.uuid.some((byte) => byte !== 0) ? { uuid: uuidText(value.uuid) } : {}),
    inodeRatioBytes: Math.max(1024, Math.min(DEFAULT_INODE_RATIO_BYTES, perInode)),
  })
  try {
    await new Conversion(files, device, options).run()
  } catch (error) {
    // What our own file system refuses to take cannot have been in a sound one.
    const isUnsound = (
      ['EEXIST', 'EINVAL', 'ENAMETOOLONG', 'ENOENT', 'EPERM', 'EACCES', 'EMLINK'] as const
    ).some((code) => hasCode(error, code))
    if (isUnsound)
      throw corrupt(`it has a name or an attribute that cannot be (${(error as UmbraError).message})`)
    if (!hasCode(error, 'ENOSPC') && !hasCode(error, 'OUT_OF_SPACE')) throw error
    throw new UmbraError(
      'OUT_OF_SPACE',
      'The file system does not fit when its blocks are 4 KiB: give a larger --size',
      {},
      error,
    )
  }
}

interface Pair {
  readonly source: Inode
  readonly target: Inode
}

/** A directory to be copied; by number, for there may be more of them than inodes are kept in memory. */
interface Pending {
  readonly source: number
  readonly target: number
}

class Conversion {
  readonly #files: SourceFileSystem
  readonly #device: BlockDevice
  readonly #fs: Ext4
  readonly #options: ConversionOptions
  readonly #totalBytes: number
  /** Target inode numbers of sources with several links. */
  readonly #linked = new Map<number, number>()
  /** Directories already entered: one that is met twice is damage. */
  readonly #entered = new Set<number>([ROOT_INO])
  readonly #buffer = new Uint8Array(MIB)
  #doneBytes = 0
  #uncommittedBytes = 0
  #uncommittedInodes = 0

  constructor(files: SourceFileSystem, device: BlockDevice, options: ConversionOptions) {
    this.#files = files
    this.#device = device
    this.#options = options
    this.#fs = Ext4.open(device)
    this.#totalBytes = usedSourceBytes(files)
  }

  async run(): Promise<void> {
    await this.#copyTree({ source: ROOT_INO, target: ROOT_INO })
    for (const [source, target] of this.#linked) {
      this.#setAttributes({ source: this.#files.inode(source), target: this.#fs.inode(target) })
      await this.#pause()
    }
    await this.#device.commit()
  }

  /** Contents first, on a stack of its own: trees may be deeper than ours. */
  async #copyTree(root: Pending): Promise<void> {
    const stack: { at: Pair; children: Iterator<Pending> }[] = []
    const enter = async (pending: Pending): Promise<void> => {
      const at = { source: this.#files.inode(pending.source), target: this.#fs.inode(pending.target) }
      // In use: its attributes come last, and the cache must not let go of it meanwhile.
      this.#fs.open(at.target)
      stack.push({ at, children: (await this.#copyEntries(at))[Symbol.iterator]() })
    }
    await enter(root)
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const next = top.children.next()
      if (next.done !== true) {
        await enter(next.value)
        continue
      }
      this.#setAttributes(top.at)
      this.#fs.close(top.at.target)
      stack.pop()
    }
  }

  /** @returns the directories among the entries, empty yet */
  async #copyEntries({ source, target }: Pair): Promise<Pending[]> {
    const directories: Pending[] = []
    for (const { name, ino } of this.#files.entries(source)) {
      const inode = this.#files.inode(ino)
      if (inode.mode === 0 || inode.linkCount === 0)
        throw corrupt(`a name leads to inode ${ino}, which is not in use`)
      if (inode.isDirectory) {
        if (this.#entered.has(ino)) throw corrupt(`directory ${ino} has two names`)
        this.#entered.add(ino)
        const isThere = source.ino === ROOT_INO && name === 'lost+found'
        const there = isThere ? this.#fs.lookup(target, name) : undefined
        const made = there ?? this.#fs.makeDirectory(target, name, WORKING_MODE, ROOT)
        directories.push({ source: ino, target: made.ino })
      } else await this.#copyOther(inode, target, name)
      await this.#pause()
    }
    return directories
  }

  async #copyOther(source: Inode, parent: Inode, name: string): Promise<void> {
    const known = this.#linked.get(source.ino)
    if (known !== undefined) {
      this.#fs.link(this.#fs.inode(known), parent, name)
      return
    }
    const target = this.#make(source, parent, name)
    this.#fs.open(target)
    if (source.isRegular) await this.#copyData(source, target)
    // Another link changes the time of change, and an immutable file takes none: those come last.
    if (source.linkCount > 1) this.#linked.set(source.ino, target.ino)
    else this.#setAttributes({ source, target })
    this.#fs.close(target)
  }

  #make(source: Inode, parent: Inode, name: string): Inode {
    if (source.isSymlink) return this.#fs.makeSymlink(parent, name, this.#files.symlinkTarget(source), ROOT)
    const device = source.isRegular ? 0 : loadDeviceNumber(source)
    return this.#fs.makeNode(parent, name, (source.mode & S_IFMT) | 0o600, device, ROOT)
  }

  async #copyData(source: Inode, target: Inode): Promise<void> {
    const size = this.#files.geometry.blockSizeBytes
    const runs = this.#files.runs(source)
    for (const run of runs) {
      if (run.unwritten) continue
      const end = Math.min((run.fileBlock + run.blockCount) * size, source.sizeBytes)
      const shiftBytes = (run.deviceBlock - run.fileBlock) * size
      for (let at = run.fileBlock * size; at < end; ) {
        const count = Math.min(end - at, this.#buffer.length)
        this.#files.source.readSync(at + shiftBytes, count, this.#buffer, 0)
        this.#writeAll(target, at, count)
        at += count
        this.#doneBytes += count
        this.#uncommittedBytes += count
        await this.#pause()
      }
    }
    if (target.sizeBytes !== source.sizeBytes) {
      this.#fs.setAttributes(target, { sizeBytes: source.sizeBytes }, ROOT)
    }
    for (const run of runs) {
      if (!run.unwritten) continue
      this.#fs.allocate(target, FALLOC.KEEP_SIZE, run.fileBlock * size, run.blockCount * size)
    }
  }

  #writeAll(target: Inode, at: number, count: number): void {
    for (let done = 0; done < count; ) {
      done += this.#fs.write(target, at + done, count - done, this.#buffer, done, false)
    }
  }

  #setAttributes({ source, target }: Pair): void {
    const { mode, uid, gid, atime, mtime, ctime } = source
    // Attributes before the owner: nobody else's limits apply; capabilities after it, which takes them.
    this.#fs.setAttributes(target, { uid, gid }, ROOT)
    for (const xattr of this.#files.xattrs(source)) this.#setXattr(target, xattr)
    if (!source.isSymlink) this.#fs.setAttributes(target, { mode: mode & 0o7777 }, ROOT)
    // Inodes of 128 bytes do not know when they were made.
    if (source.extraIsize >= CRTIME_EXTRA_BYTES) target.crtime = source.crtime
    this.#fs.setAttributes(target, { atime, mtime, inodeFlags: source.flags, ctime }, ROOT)
    this.#uncommittedInodes++
  }

  #setXattr(target: Inode, { nameIndex, name, value }: Xattr): void {
    if (nameIndex === ACCESS_ACL || nameIndex === DEFAULT_ACL) {
      const full = nameIndex === ACCESS_ACL ? 'system.posix_acl_access' : 'system.posix_acl_default'
      this.#fs.setXattr(target, full, encodeInterfaceAcl(decodeDiskAcl(value, target.ino)), 0)
      return
    }
    const prefix = PREFIXES[nameIndex]
    if (prefix === undefined) {
      throw new UmbraError(
        'UNSUPPORTED_FEATURE',
        `Cannot take in the extended attribute ${name} of kind ${nameIndex}`,
      )
    }
    this.#fs.setXattr(target, prefix + name, value, 0)
  }

  /** Bounds what a commit has to hold, and lets others run. @throws UmbraError ABORTED */
  async #pause(): Promise<void> {
    if (this.#uncommittedBytes < COMMIT_BYTES && this.#uncommittedInodes < COMMIT_INODES) return
    this.#uncommittedBytes = 0
    this.#uncommittedInodes = 0
    if (this.#options.signal?.aborted) throw new UmbraError('ABORTED', 'The conversion was interrupted')
    const doneBytes = Math.min(this.#doneBytes, this.#totalBytes)
    this.#options.onProgress?.({ doneBytes, totalBytes: this.#totalBytes })
    await this.#device.commit()
  }
}

function corrupt(what: string): UmbraError {
  return new UmbraError('CORRUPT', `Cannot take in the file system: ${what}; run e2fsck on the image`)
}
