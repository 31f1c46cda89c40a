// Unlinked open files, as libfuse 2 has them: it renames a file that is open to ".fuse_hidden" and 16
// hexadecimal digits, and unlinks that name when the last handle is closed. Here such a rename is what
// it stands for: the name is removed, and the hidden name leads to the inode without being on disk. So
// no hidden file is ever listed, exported or left behind by a crash, and st_nlink is right.
//
// Always true: a hidden file holds one lookup of its inode until it is dropped; the digits hold a
// counter of libfuse's, so a name is unique in a mount's life and its folder need not be told apart.

const HIDDEN = /^\.fuse_hidden[0-9a-f]{16}$/

interface HiddenFile {
  readonly nodeId: number
  /** Folder that it was removed from. */
  readonly parent: number
}

export class HiddenFiles {
  readonly #byName = new Map<string, HiddenFile>()

  /** Names that this driver keeps for libfuse: no file on disk is made with one. */
  static isHiddenName(name: string): boolean {
    return name.startsWith('.fuse_hidden') && HIDDEN.test(name)
  }

  add(name: string, nodeId: number, parent: number): void {
    this.#byName.set(name, { nodeId, parent })
  }

  find(name: string): number | undefined {
    return this.#byName.get(name)?.nodeId
  }

  /** @returns the inode whose lookup is the caller's to forget now */
  drop(name: string): number | undefined {
    const nodeId = this.#byName.get(name)?.nodeId
    this.#byName.delete(name)
    return nodeId
  }

  /**
   * Whether libfuse still reaches a hidden file through this folder: it would lose the file's data
   * with the folder.
   */
  isIn(parent: number): boolean {
    for (const hidden of this.#byName.values()) if (hidden.parent === parent) return true
    return false
  }
}
