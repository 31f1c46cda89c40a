// The judge of every ext4 image: e2fsck, which must find nothing and propose nothing.
//
// Exit code 0 alone is not enough: with -n it can be 0 while a question such as "Free blocks count
// wrong. Fix? no" was answered for us.

import { spawnSync } from 'node:child_process'

export interface FsckVerdict {
  readonly clean: boolean
  readonly exitCode: number
  /** Lines with questions, answered "no". */
  readonly proposals: readonly string[]
  readonly output: string
}

/** Runs `e2fsck -fn` on an image file. */
export function e2fsck(path: string): FsckVerdict {
  const run = spawnSync('/sbin/e2fsck', ['-fn', path], {
    encoding: 'utf8',
    timeout: 120_000,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, LC_ALL: 'C' },
  })
  const output = `${run.stdout ?? ''}${run.stderr ?? ''}`
  const proposals = output
    .split('\n')
    .filter((line) => /\? (no|yes|\[)/i.test(line) || /\bIGNORED\b/.test(line))
  const exitCode = run.status ?? -1
  return { clean: exitCode === 0 && proposals.length === 0, exitCode, proposals, output }
}
