// What this project uses of random-access-file 4's interface; the package ships no types.
declare module 'random-access-file' {
  import type { Stats } from 'node:fs'

  type Callback = (error: NodeJS.ErrnoException | null) => void
  export default class RandomAccessFile {
    constructor(path: string, options?: { readable?: boolean; writable?: boolean; lock?: boolean })
    /** The open descriptor; 0 while closed. */
    readonly fd: number
    /** Opens without creating as long as nothing was written through this object. */
    open(done: Callback): void
    stat(done: (error: NodeJS.ErrnoException | null, stats: Stats) => void): void
    close(done: Callback): void
  }
}
