// A whole file system in an image file, for tests of names and attributes.

import type { Assertion } from 'brittle'
import { Ext4, type Ext4Options } from '../../src/ext4/ext4.ts'
import type { Inode } from '../../src/ext4/inode.ts'
import type { FormatOptions } from '../../src/ext4/mkfs.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { PlainDevice } from '../../src/storage/plain-device.ts'
import { assertClean, formattedFile } from './ext4-image.ts'

export const ROOT = { uid: 0, gid: 0, pid: 1 } as const

export interface Ext4Files {
  readonly path: string
  readonly device: PlainDevice
  readonly fs: Ext4
  readonly root: Inode
  /** Commits, then demands that e2fsck find nothing. */
  check(t: Assertion, comment: string): Promise<void>
  /** Commits, closes and opens again. */
  reopen(): Promise<Ext4Files>
  close(): Promise<void>
}

export async function openFiles(path: string, options: Ext4Options = {}): Promise<Ext4Files> {
  const storage = await FileStorage.open(path, { lock: 'none' })
  const device = new PlainDevice(storage)
  const fs = Ext4.open(device, options)
  let open = true
  const close = async (): Promise<void> => {
    if (!open) return
    open = false
    if (!fs.readOnly) await device.commit()
    await storage.close()
  }
  return {
    path,
    device,
    fs,
    root: fs.inode(2),
    async check(t, comment) {
      if (!fs.readOnly) await device.commit()
      assertClean(t, path, comment)
    },
    async reopen() {
      await close()
      return openFiles(path, options)
    },
    close,
  }
}

/** A freshly formatted one; closed at teardown. */
export async function makeFiles(
  t: Pick<Assertion, 'teardown'>,
  sizeBytes: number,
  format: FormatOptions = {},
  options: Ext4Options = {},
): Promise<Ext4Files> {
  const path = await formattedFile(t, sizeBytes, format)
  const files = await openFiles(path, options)
  t.teardown(() => files.close(), { order: 1 })
  return files
}

/** Names of a directory but "." and "..", read in pieces of `pieceCount`. */
export function namesOf(fs: Ext4, directory: Inode, pieceCount = 50): string[] {
  const names: string[] = []
  for (let cookie = 0; ; ) {
    let count = 0
    fs.readDirectory(directory, cookie, (entry) => {
      if (count === pieceCount) return false
      count++
      cookie = entry.nextCookie
      if (entry.name !== '.' && entry.name !== '..') names.push(entry.name)
      return true
    })
    if (count < pieceCount) return names
  }
}

/** The code of the error that `act` throws; '' for none. */
export function codeOf(act: () => unknown): string {
  try {
    act()
    return ''
  } catch (error) {
    return (error as { code?: string }).code ?? String(error)
  }
}
