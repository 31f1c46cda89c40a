// What this project uses of fuse-native 2.2's interface; the package ships no types. Names with an
// underscore are not its public ones: the driver replaces them where the public ones answer wrongly.
declare module 'fuse-native' {
  /** Ends one request: 0 or a byte count, or a negated errno; then what the request's answer carries. */
  export type Signal = (result: number, ...values: unknown[]) => void

  export default class Fuse {
    /** `ops` maps names of operations to functions that end with a callback. */
    constructor(mountPoint: string, ops: object, options?: { timeout?: false | number })
    mount(callback: (error: Error | null) => void): void
    unmount(callback: (error: Error | null) => void): void
    /** Runs "fusermount -uz". */
    static unmount(mountPoint: string, callback: (error: Error | null) => void): void

    /** By opcode; called by the native code with its own state of the request first. */
    _handlers: (((locals: Uint8Array, opcode: number, ...args: unknown[]) => unknown) | undefined)[]
    _fuseOptions(): string
    _op_getattr(signal: Signal, path: string): void
    _op_fgetattr(signal: Signal, path: string, handle: number): void
    _op_getxattr(signal: Signal, path: string, name: string, room: Buffer, position: number): void
    _op_listxattr(signal: Signal, path: string, room: Buffer): void
  }
}
