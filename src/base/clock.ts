// The clock that files are stamped with: the kernel's own, which moves by ticks.
//
// Always true: a stamp taken here and one that the kernel takes in the same tick are equal, so a time
// that the kernel holds back because nothing seems to have changed is the time that is stored.

import { loadAddon } from './addon.ts'

const words = new Float64Array(2)
const bytes = new Uint8Array(words.buffer)

/** Seconds and nanoseconds since 1970; without the addon in whole milliseconds. */
export function coarseTime(): { sec: number; nsec: number } {
  if (loadAddon()?.coarseTime(bytes, 0, bytes.length) === 0) {
    return { sec: words[0] as number, nsec: words[1] as number }
  }
  const ms = Date.now()
  const sec = Math.floor(ms / 1000)
  return { sec, nsec: (ms - sec * 1000) * 1_000_000 }
}
