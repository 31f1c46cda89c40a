// Random changes of a tree: every kind of file, attribute and rename that a restore has to bring back.
//
// Always true: the same random numbers make the same tree, but for times.

import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Random } from '../support/random.ts'
import { run } from '../support/run.ts'

export class RandomTree {
  readonly #folder: string
  readonly #random: Random

  constructor(folder: string, random: Random) {
    this.#folder = folder
    this.#random = random
  }

  async change(count: number): Promise<void> {
    for (let done = 0; done < count; done++) await this.#changeOnce()
    await run('sync', ['-f', this.#folder])
  }

  async #changeOnce(): Promise<void> {
    const random = this.#random
    const what = random.below(20)
    const files = this.#all('file')
    const file = files.length > 0 ? random.pick(files) : undefined
    if (what < 4 || file === undefined) return this.#create()
    if (what < 7) return overwrite(file, random)
    if (what === 7) return truncateSync(file, random.below(60_000))
    if (what === 8) return appendFileSync(file, random.bytes(1 + random.below(9000)))
    if (what === 9) return rmSync(file)
    if (what === 10) return this.#rename()
    if (what === 11) return linkSync(file, this.#free())
    if (what === 12)
      return symlinkSync(random.pick(['nowhere', '/etc', `../${'x'.repeat(70)}`]), this.#free())
    if (what === 13) return mkdirSync(this.#free())
    if (what === 14) return chmodSync(file, random.below(0o1000) | random.pick([0, 0o4000]))
    if (what === 15) return chownSync(file, random.below(3000), random.below(3000))
    if (what === 16) return this.#removeFolder()
    if (what === 17) return this.#special()
    if (what === 18) return replaceKind(file, random)
    const value = `0s${Buffer.from(random.bytes(1 + random.below(40))).toString('base64')}`
    await run('setfattr', ['-n', `user.n${random.below(3)}`, '-v', value, file])
    if (random.below(3) === 0) await run('setfacl', ['-m', `u:${random.below(5)}:r`, file])
  }

  #create(): void {
    const path = this.#free()
    writeFileSync(path, this.#random.bytes(this.#random.below(30_000)))
    // A hole, now and then.
    if (this.#random.below(4) === 0) truncateSync(path, 200_000 + this.#random.below(100_000))
  }

  #rename(): void {
    const all = [...this.#all('file'), ...this.#all('folder')]
    const from = this.#random.pick(all)
    const isOnto = this.#random.below(2) === 0 && lstatSync(from).isFile()
    const to = isOnto ? this.#random.pick(this.#all('file')) : this.#free(from)
    if (!to.startsWith(`${from}/`)) renameSync(from, to)
  }

  #removeFolder(): void {
    const folders = this.#all('folder')
    if (folders.length > 3) rmSync(this.#random.pick(folders), { recursive: true })
  }

  async #special(): Promise<void> {
    const kind = this.#random.pick([['p'], ['b', '7', '300'], ['c', '1', '3']])
    await run('mknod', [this.#free(), ...kind])
  }

  /** A path where nothing is, in the tree and not below `not`. */
  #free(not?: string): string {
    const folders = [this.#folder, ...this.#all('folder')].filter(
      (folder) => not === undefined || (folder !== not && !folder.startsWith(`${not}/`)),
    )
    for (;;) {
      // Few names, so that what was deleted comes again as something else.
      const path = join(this.#random.pick(folders), `n${this.#random.below(25)}`)
      try {
        lstatSync(path)
      } catch {
        return path
      }
    }
  }

  #all(kind: 'file' | 'folder', folder = this.#folder): string[] {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return [...(kind === 'folder' ? [path] : []), ...this.#all(kind, path)]
      return entry.isFile() && kind === 'file' ? [path] : []
    })
  }
}

function overwrite(path: string, random: Random): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, random.bytes(1 + random.below(5000)), 0, undefined, random.below(40_000))
  closeSync(fd)
}

/** A file becomes a folder with something in it. */
function replaceKind(path: string, random: Random): void {
  rmSync(path)
  if (existsSync(path)) return
  mkdirSync(path)
  writeFileSync(join(path, 'n1'), random.bytes(random.below(3000)))
}
