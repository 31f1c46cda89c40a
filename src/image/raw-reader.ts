// A raw image as a layer. Holes are found with SEEK_DATA where the addon is loaded; without it every
// byte counts as data, which costs time and changes nothing.

import { loadAddon } from '../base/addon.ts'
import type { HostFile } from './host-file.ts'
import type { ImageIdentity } from './identity.ts'
import type { ImageLayer, LayerRun } from './layer.ts'

const SEEK_DATA = 3
const SEEK_HOLE = 4

export class RawReader implements ImageLayer {
  readonly format = 'raw'
  readonly backing = null
  readonly identity: ImageIdentity | null
  readonly #file: HostFile

  constructor(file: HostFile, identity: ImageIdentity | null) {
    this.#file = file
    this.identity = identity
  }

  get path(): string {
    return this.#file.path
  }

  get sizeBytes(): number {
    return this.#file.sizeBytes
  }

  mapAt(offsetBytes: number, maxLengthBytes: number): LayerRun {
    const whole: LayerRun = { kind: 'data', lengthBytes: maxLengthBytes }
    const addon = loadAddon()
    if (!addon) return whole
    const data = addon.lseek(this.#file.fd, offsetBytes, SEEK_DATA)
    // ENXIO: no data up to the end. Any other failure: this file system cannot tell.
    if (data < 0) return data === -6 ? { kind: 'zero', lengthBytes: maxLengthBytes } : whole
    if (data > offsetBytes) return { kind: 'zero', lengthBytes: Math.min(maxLengthBytes, data - offsetBytes) }
    const hole = addon.lseek(this.#file.fd, offsetBytes, SEEK_HOLE)
    if (hole <= offsetBytes) return whole
    return { kind: 'data', lengthBytes: Math.min(maxLengthBytes, hole - offsetBytes) }
  }

  readData(offsetBytes: number, lengthBytes: number, target: Buffer, targetOffset: number): void {
    this.#file.read(offsetBytes, lengthBytes, target, targetOffset)
  }

  close(): void {
    this.#file.close()
  }
}
