// An ext4 file system in an image file, opened by the structure layer alone, for tests that need no
// directories: files are linked by hand into the root directory's first block so that e2fsck finds
// every inode connected.

import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { crc32c } from '../../src/base/crc32c.ts'
import { FileData } from '../../src/ext4/file-data.ts'
import { type Inode, S_IFREG } from '../../src/ext4/inode.ts'
import { type FormatOptions, formatExt4 } from '../../src/ext4/mkfs.ts'
import { Ext4Structure, type StructureOptions } from '../../src/ext4/structure.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { e2fsck } from './e2fsck.ts'
import { tempFolder } from './temp.ts'

export interface Ext4Image {
  readonly path: string
  readonly device: PlainDevice
  readonly core: Ext4Structure
  readonly data: FileData
  /** Commits, then demands that e2fsck find nothing. */
  check(t: Assertion, comment: string): Promise<void>
  /** Commits, closes and opens again. */
  reopen(): Promise<Ext4Image>
  close(): Promise<void>
}

export function sparseFile(t: Pick<Assertion, 'teardown'>, sizeBytes: number): string {
  const path = join(tempFolder(t), 'image')
  writeFileSync(path, '')
  truncateSync(path, sizeBytes)
  t.teardown(() => rmSync(path, { force: true }))
  return path
}

export async function openImage(path: string, options: StructureOptions = {}): Promise<Ext4Image> {
  const storage = await FileStorage.open(path, { lock: 'none' })
  const device = new PlainDevice(storage)
  const core = Ext4Structure.open(device, options)
  let open = true
  const close = async (): Promise<void> => {
    if (!open) return
    open = false
    await device.commit()
    await storage.close()
  }
  return {
    path,
    device,
    core,
    data: new FileData(core),
    async check(t, comment) {
      await device.commit()
      assertClean(t, path, comment)
    },
    async reopen() {
      await close()
      return openImage(path, options)
    },
    close,
  }
}

/** Demands that e2fsck find nothing in an image. */
export function assertClean(t: Assertion, path: string, comment: string): void {
  const verdict = e2fsck(path)
  t.ok(verdict.clean, `e2fsck finds nothing: ${comment}`)
  if (!verdict.clean) t.comment(verdict.output.slice(0, 4000))
}

/** A freshly formatted image file; removed at teardown. */
export async function formattedFile(
  t: Pick<Assertion, 'teardown'>,
  sizeBytes: number,
  format: FormatOptions = {},
): Promise<string> {
  const path = sparseFile(t, sizeBytes)
  const storage = await FileStorage.open(path, { lock: 'none' })
  const device = new PlainDevice(storage)
  formatExt4(device, format)
  await device.commit()
  await storage.close()
  return path
}

export async function makeImage(
  t: Pick<Assertion, 'teardown'>,
  sizeBytes: number,
  format: FormatOptions = {},
  options: StructureOptions = {},
): Promise<Ext4Image> {
  const path = await formattedFile(t, sizeBytes, format)
  return openImage(path, options)
}

const TAIL_BYTES = 12

function rootBlock(core: Ext4Structure, edit: (bytes: Uint8Array, view: DataView) => void): void {
  const root = core.inode(2)
  const block = core.metadata(core.mapBlock(root, 0), () => undefined)
  edit(block.bytes, block.view)
  core.markDirty(block, (bytes) => {
    const tail = bytes.length - TAIL_BYTES
    const crc = crc32c(core.inodeSeed(root), bytes, 0, tail)
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(tail + 8, crc, true)
  })
}

/** Gives a file a name in the root directory's first block, and its link. */
export function linkInRoot(core: Ext4Structure, inode: Inode, name: string): void {
  rootBlock(core, (bytes, view) => {
    let at = 0
    const end = bytes.length - TAIL_BYTES
    for (;;) {
      const length = view.getUint16(at + 4, true)
      const used = view.getUint32(at, true) === 0 ? 0 : 8 + Math.ceil((bytes[at + 6] as number) / 4) * 4
      if (length - used >= 8 + Math.ceil(name.length / 4) * 4) {
        if (used > 0) view.setUint16(at + 4, used, true)
        const next = at + used
        view.setUint32(next, inode.ino, true)
        view.setUint16(next + 4, length - used, true)
        bytes[next + 6] = name.length
        bytes[next + 7] = 1
        for (let i = 0; i < name.length; i++) bytes[next + 8 + i] = name.charCodeAt(i)
        return
      }
      at += length
      if (at >= end) throw new Error('The root directory is full')
    }
  })
  inode.linkCount++
  core.markInodeDirty(inode)
}

export function unlinkFromRoot(core: Ext4Structure, inode: Inode): void {
  rootBlock(core, (_bytes, view) => {
    let before = -1
    for (let at = 0; ; at += view.getUint16(at + 4, true)) {
      if (view.getUint32(at, true) === inode.ino) {
        view.setUint16(before + 4, view.getUint16(before + 4, true) + view.getUint16(at + 4, true), true)
        break
      }
      before = at
    }
  })
  inode.linkCount--
  core.markInodeDirty(inode)
  if (inode.linkCount === 0) core.dropInode(inode)
}

export function makeFile(core: Ext4Structure, name: string): Inode {
  core.begin(8)
  const inode = core.allocateInode(core.inode(2), S_IFREG | 0o644, 0, 0)
  linkInRoot(core, inode, name)
  return inode
}

export async function readAll(image: Ext4Image, inode: Inode): Promise<Uint8Array> {
  const bytes = new Uint8Array(inode.sizeBytes)
  const count = await image.data.read(inode, 0, bytes.length, bytes, 0)
  if (count !== bytes.length) throw new Error(`${count} of ${bytes.length} bytes were read`)
  return bytes
}
