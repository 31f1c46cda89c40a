// Contents that say what they are: each block is made from where it belongs and when it was written,
// so that a stale, misplaced or torn block is recognised by itself.
//
// Always true: a block of zeros is never made by a pattern; every sector of 512 bytes carries the
// whole identity, so a block torn between two versions shows as such.

const WORDS = 1024
const SECTOR_WORDS = 128
const MAGIC = 0x756d6272

/** Fills one block of 4096 bytes for `blockIndex`, the `sequence`-th write of the test (1 on). */
export function fillBlock(
  target: Uint8Array,
  targetOffset: number,
  blockIndex: number,
  sequence: number,
): void {
  const words = new Uint32Array(target.buffer, target.byteOffset + targetOffset, WORDS)
  for (let at = 0; at < WORDS; at += 4) {
    words[at] = MAGIC + at
    words[at + 1] = blockIndex
    words[at + 2] = sequence
    words[at + 3] = Math.imul(blockIndex ^ 0x5bd1e995, sequence + at)
  }
}

/** Blocks [blockIndex, +blockCount) of one write. */
export function patternBlocks(blockIndex: number, blockCount: number, sequence: number): Uint8Array {
  const bytes = new Uint8Array(blockCount * 4096)
  for (let i = 0; i < blockCount; i++) fillBlock(bytes, i * 4096, blockIndex + i, sequence)
  return bytes
}

const expected = new Uint8Array(4096)

/** Whether a block holds exactly what write `sequence` put there; sequence 0 stands for zeros. */
export function isBlock(
  bytes: Uint8Array,
  offsetBytes: number,
  blockIndex: number,
  sequence: number,
): boolean {
  if (sequence === 0) expected.fill(0)
  else fillBlock(expected, 0, blockIndex, sequence)
  return Buffer.compare(expected, bytes.subarray(offsetBytes, offsetBytes + 4096)) === 0
}

/** What a block holds, sector by sector, for messages: `zeros`, `5@7` (write 5 of block 7), `garbage`. */
export function describeBlock(bytes: Uint8Array, offsetBytes: number): string {
  const words = new Uint32Array(bytes.slice(offsetBytes, offsetBytes + 4096).buffer)
  const sectors: string[] = []
  for (let at = 0; at < WORDS; at += SECTOR_WORDS) {
    const what = describeSector(words.subarray(at, at + SECTOR_WORDS), at)
    if (sectors.at(-1) !== what) sectors.push(what)
  }
  return sectors.join(', ')
}

function describeSector(words: Uint32Array, at: number): string {
  if (words.every((word) => word === 0)) return 'zeros'
  return words[0] === MAGIC + at ? `${words[2]}@${words[1]}` : 'garbage'
}
