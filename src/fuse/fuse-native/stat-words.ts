// Attributes in the form in which fuse-native's native code takes a struct stat: 18 words of 32 bits.
//
// Always true: times are milliseconds and none is before 1970 (the native code divides them without a
// sign). An st_ino has 32 bits here, so a snapshot's are moved above all that the live tree can have: a
// file and its shadow copy never look like one file, and files of two snapshots only where there are
// more snapshots than 32 bits have room for.

import type { Attributes } from '../attributes.ts'
import { SLOT_SPAN, slotOf } from '../node-ids.ts'

const WORD = 2 ** 32
const WORD_COUNT = 18

/** How st_ino of 53 bits become 32, given how many inodes the live tree can have. */
export class ShortInodeNumbers {
  readonly #spanBits: number

  constructor(inodeCount: number) {
    let bits = 1
    while (bits < 31 && 2 ** bits <= inodeCount) bits++
    this.#spanBits = bits
  }

  shortened(ino: number): number {
    const slot = slotOf(ino)
    if (slot === 0) return ino
    const places = 2 ** (32 - this.#spanBits) - 1
    const low = (ino % SLOT_SPAN) % 2 ** this.#spanBits
    return (1 + ((slot - 1) % places)) * 2 ** this.#spanBits + low
  }
}

/** A record for the answer to a getattr; new each time, for it is read after the handler has returned. */
export function statWords(attributes: Attributes, numbers: ShortInodeNumbers): Uint32Array {
  const words = new Uint32Array(WORD_COUNT)
  words[0] = attributes.mode
  words[1] = attributes.uid
  words[2] = attributes.gid
  putDouble(words, 3, attributes.sizeBytes)
  words[6] = attributes.linkCount
  words[7] = numbers.shortened(attributes.ino)
  words[8] = attributes.deviceNumber
  words[9] = attributes.blockSizeBytes
  putDouble(words, 10, attributes.sectorCount)
  putDouble(words, 12, milliseconds(attributes.atimeSec, attributes.atimeNsec))
  putDouble(words, 14, milliseconds(attributes.mtimeSec, attributes.mtimeNsec))
  putDouble(words, 16, milliseconds(attributes.ctimeSec, attributes.ctimeNsec))
  return words
}

function milliseconds(sec: number, nsec: number): number {
  return Math.max(0, sec * 1000 + Math.floor(nsec / 1_000_000))
}

function putDouble(words: Uint32Array, index: number, value: number): void {
  words[index] = value % WORD
  words[index + 1] = Math.floor(value / WORD)
}
