// Has the committed view of volumes judged by e2fsck.
//
// Always true: an image that was judged before is not judged again (the same bytes, the same verdict);
// images lie sparse in a temporary folder and are overwritten.

import { createHash } from 'node:crypto'
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { BLOCK_SIZE_BYTES } from '../../src/base/units.ts'
import { walkDelta } from '../../src/volume/delta.ts'
import type { Volume } from '../../src/volume/volume.ts'
import { e2fsck } from '../support/e2fsck.ts'

export class ImageJudge {
  readonly #path: string
  readonly #verdicts = new Map<string, string[]>()
  /** Images that e2fsck saw. */
  judgedCount = 0

  constructor(t: Pick<Assertion, 'teardown'>) {
    const parent = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
    const folder = mkdtempSync(join(parent, 'umbra-crash-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    this.#path = join(folder, 'image')
  }

  /** What e2fsck has against the last committed state. */
  judge(volume: Volume, name: string): string[] {
    const pieces: { readonly at: number; readonly bytes: Uint8Array }[] = []
    const hash = createHash('sha1')
    for (const extent of walkDelta(volume.nodes, null, volume.liveRoot(), volume.blockCount)) {
      const at = extent.blockIndex * BLOCK_SIZE_BYTES
      const bytes = new Uint8Array(extent.blockCount * BLOCK_SIZE_BYTES)
      volume.readSync(at, bytes.length, bytes, 0)
      hash.update(`${at} `).update(bytes)
      pieces.push({ at, bytes })
    }
    const digest = hash.digest('hex')
    const known = this.#verdicts.get(digest)
    if (known) return known
    const fd = openSync(this.#path, 'w')
    for (const { at, bytes } of pieces) writeSync(fd, bytes, 0, bytes.length, at)
    ftruncateSync(fd, volume.blockCount * BLOCK_SIZE_BYTES)
    closeSync(fd)
    this.judgedCount++
    const verdict = e2fsck(this.#path)
    const problems = verdict.clean ? [] : [`e2fsck of ${name}: ${verdict.output.slice(0, 1500)}`]
    this.#verdicts.set(digest, problems)
    return problems
  }
}
