// What this project uses of sparse-bitfield 3's interface; the package ships no types.
declare module 'sparse-bitfield' {
  export interface Page {
    readonly buffer: Uint8Array
  }
  export interface Pages {
    /** Number of pages up to the last one that exists. */
    readonly length: number
    get(index: number, noAllocate: true): Page | undefined
  }
  export default class Bitfield {
    constructor(options?: { pageSize?: number })
    /** Bits up to the last byte that was set; a multiple of 8. */
    readonly length: number
    readonly byteLength: number
    readonly pageSize: number
    readonly pages: Pages
    get(index: number): boolean
    set(index: number, value: boolean): boolean
    /** Bit i lies in byte i >> 3 under the mask 128 >> (i & 7). */
    getByte(index: number): number
    setByte(index: number, value: number): boolean
  }
}
