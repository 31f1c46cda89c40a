// Checking a volume wherever it is: all of its structures when it is not in use, and what its snapshots
// and its present hold when a daemon serves it (its other structures change under the reader).
//
// Always true: nothing is written to an unmounted volume; of a mounted one a temporary snapshot is
// taken and gone afterwards; damage is a finding, not a failure, once a superblock was found.

import { spawnSync } from 'node:child_process'
import { UmbraError } from '../base/errors.ts'
import type { LongWork } from '../image/pace.ts'
import { writeRaw } from '../image/raw-writer.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { checkVolume } from '../volume/check.ts'
import { locateVolume } from './locate.ts'
import { imageSource, withPresent } from './point-access.ts'
import { RemoteVolume } from './volume-control.ts'

export interface Problem {
  readonly code: string
  readonly where: string
  readonly message: string
  readonly action: string
}

export interface CheckResult {
  readonly volume: string
  /** What was looked at. */
  readonly scope: 'the whole volume' | 'its snapshots and its present'
  readonly problems: readonly Problem[]
  /** All that were found; not all need be listed. */
  readonly problemCount: number
  readonly leakedBlocks: number
  readonly notes: readonly string[]
}

/** @throws UmbraError as locateVolume(), and where no superblock can be used */
export async function checkVolumeAt(argument: string): Promise<CheckResult> {
  const { volumePath, client } = await locateVolume(argument)
  if (client) {
    const names = await snapshotNames(new RemoteVolume(client))
    return {
      volume: volumePath,
      scope: 'its snapshots and its present',
      ...(await readEverything(argument, names)),
    }
  }
  const storage = await FileStorage.open(volumePath, { readOnly: true })
  try {
    const report = checkVolume(storage)
    return {
      volume: volumePath,
      scope: 'the whole volume',
      problems: report.errors,
      problemCount: report.errorCount,
      leakedBlocks: report.leaks.blockCount,
      notes: report.notes,
    }
  } finally {
    await storage.close()
  }
}

async function snapshotNames(volume: RemoteVolume): Promise<string[]> {
  try {
    return (await volume.listSnapshots()).map(({ snapshot }) => snapshot.name)
  } finally {
    await volume.close()
  }
}

/** Reads every node of every tree: each is verified against its parent's checksum. */
function readEverything(
  argument: string,
  names: readonly string[],
): Promise<Pick<CheckResult, 'problems' | 'problemCount' | 'leakedBlocks' | 'notes'>> {
  return withPresent(argument, names, async (access, present) => {
    const problems: Problem[] = []
    let before: typeof present | null = null
    for (const snapshot of [...names.map((name) => access.snapshot(name)), present]) {
      try {
        // Each against the one before: what they share was read already.
        for (const _ of access.delta(before, snapshot));
      } catch (error) {
        if (!(error instanceof UmbraError)) throw error
        const where = snapshot === present ? 'the present' : `snapshot ${snapshot.name}`
        const action = 'Unmount the volume and check it as a whole'
        problems.push({ code: error.code, where, message: error.message, action })
      }
      before = snapshot
    }
    return { problems, problemCount: problems.length, leakedBlocks: 0, notes: [] }
  })
}

/** Has e2fsck judge the present. @throws UmbraError UNAVAILABLE when it is not installed */
export async function runE2fsck(
  argument: string,
  imagePath: string,
  work: LongWork,
): Promise<{ isClean: boolean; output: string }> {
  await withPresent(argument, [], (access, present) =>
    writeRaw(imageSource(access, present.name, null), imagePath, work),
  )
  const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' }
  const done = spawnSync('e2fsck', ['-fn', imagePath], { encoding: 'utf8', env, maxBuffer: 64 << 20 })
  if (done.error) throw new UmbraError('UNAVAILABLE', `e2fsck cannot be run: ${done.error.message}`)
  return { isClean: done.status === 0, output: `${done.stdout}${done.stderr}` }
}
