// Checking a volume wherever it is: all of its structures when it is not in use, and what its snapshots
// and its present hold when a daemon serves it (its other structures change under the reader).
//
// Always true: the result says what was looked at and what was not; nothing is written to an unmounted
// volume unless it is to be repaired; of a mounted one a temporary snapshot is taken and gone afterwards; damage is a finding, not a failure, once a superblock was found.

import { spawnSync } from 'node:child_process'
import { hasCode, UmbraError } from '../base/errors.ts'
import type { LongWork } from '../image/pace.ts'
import { writeRaw } from '../image/raw-writer.ts'
import { FileStorage } from '../storage/file-storage.ts'
import { checkVolume } from '../volume/check.ts'
import { repairVolume } from '../volume/check-repair.ts'
import type { CheckReport } from '../volume/check-report.ts'
import type { Snapshot } from '../volume/points.ts'
import type { ControlClient } from './control-client.ts'
import { statusRequest } from './control-protocol.ts'
import { isTemporary } from './hosted-volume.ts'
import { locateVolume } from './locate.ts'
import { openControl } from './open-control.ts'
import { imageSource, type PointAccess, withPoints, withPresent } from './point-access.ts'

export interface Problem {
  readonly code: string
  readonly where: string
  readonly message: string
  readonly action: string
}

export interface CheckResult {
  readonly volume: string
  /** `snapshots`: of a mounted volume, see `checked` and `notChecked`. */
  readonly scope: 'volume' | 'snapshots'
  /** What was looked at, one phrase each. */
  readonly checked: readonly string[]
  readonly notChecked: readonly string[]
  readonly problems: readonly Problem[]
  /** All that were found; not all need be listed. */
  readonly problemCount: number
  readonly leakedBlocks: number
  readonly notes: readonly string[]
  /** What --repair did, one sentence each; the problems are those found after it. */
  readonly repaired: readonly string[]
}

const WHOLE_CHECKED = [
  'superblocks',
  'every node of every tree by its checksum',
  'births',
  'dead lists',
  'points of the history',
  'allocation bitmaps against what the trees reach',
]
/** No entry has a checksum of its data yet. */
const NEVER_CHECKED = ["the bytes of files (their blocks' places and births are)"]
const UNMOUNTED_ONLY = ['superblocks', 'dead lists', 'allocation bitmaps']
const LIST_ATTEMPTS = 5

/**
 * @param options.repair mend what can be mended without guessing; unmounted volumes only
 * @throws UmbraError as locateVolume(), BUSY for repair while it is mounted, and where no superblock
 *   can be used
 */
export async function checkVolumeAt(argument: string, options: { repair: boolean }): Promise<CheckResult> {
  const { volumePath, client } = await locateVolume(argument)
  if (client && options.repair) {
    client.close()
    throw new UmbraError('BUSY', `${argument} is mounted; unmount it before it is repaired`)
  }
  if (client) return checkServed(argument, volumePath, client)
  const storage = await FileStorage.open(volumePath, { readOnly: !options.repair })
  try {
    const { report, repaired } = await (options.repair ? repair(storage) : look(storage))
    return {
      volume: volumePath,
      scope: 'volume',
      checked: WHOLE_CHECKED,
      notChecked: NEVER_CHECKED,
      problems: report.errors,
      problemCount: report.errorCount,
      leakedBlocks: report.leaks.blockCount,
      notes: report.notes,
      repaired,
    }
  } finally {
    await storage.close()
  }
}

async function look(storage: FileStorage): Promise<{ report: CheckReport; repaired: readonly string[] }> {
  return { report: checkVolume(storage), repaired: [] }
}

async function repair(storage: FileStorage): Promise<{ report: CheckReport; repaired: readonly string[] }> {
  const { after, repaired } = await repairVolume(storage)
  return { report: after, repaired }
}

async function checkServed(
  argument: string,
  volumePath: string,
  client: ControlClient,
): Promise<CheckResult> {
  const status = await client.call(statusRequest).finally(() => client.close())
  const problems: Problem[] = []
  if (status.reason !== null) {
    const action = 'Unmount the volume, check it as a whole, and mount it again'
    problems.push({ code: 'FAILED', where: 'the daemon', message: status.reason, action })
  }
  const isShut = status.state === 'failed' || status.readOnly
  const names = await readTrees(argument, !isShut, problems)
  const notes = isShut ? ['The present was not looked at: no snapshot of it can be taken (read-only)'] : []
  return {
    volume: volumePath,
    scope: 'snapshots',
    checked: [
      `what the daemon says of the volume: ${status.state}`,
      `every node of the trees of ${names.length} ${names.length === 1 ? 'snapshot' : 'snapshots'}${isShut ? '' : ' and of the present'}, by its checksum`,
    ],
    notChecked: [...UNMOUNTED_ONLY, ...NEVER_CHECKED],
    problems,
    problemCount: problems.length,
    leakedBlocks: 0,
    notes,
    repaired: [],
  }
}

/** @returns the names of the snapshots that were read */
async function readTrees(argument: string, withTemporary: boolean, problems: Problem[]): Promise<string[]> {
  for (let attempt = 1; ; attempt++) {
    const names = await snapshotNames(argument)
    try {
      if (withTemporary) {
        await withPresent(argument, names, async (access, present) =>
          readEverything(access, [...names.map((name) => access.snapshot(name)), present], problems),
        )
      } else {
        await withPoints(argument, names, async (access) =>
          readEverything(
            access,
            names.map((name) => access.snapshot(name)),
            problems,
          ),
        )
      }
      return names
    } catch (error) {
      // One of them was deleted between the look and the lease.
      if (!hasCode(error, 'NOT_FOUND') || attempt === LIST_ATTEMPTS) throw error
    }
  }
}

async function snapshotNames(argument: string): Promise<string[]> {
  await using control = await openControl(argument, { write: false })
  return (await control.volume.listSnapshots()).map(({ snapshot }) => snapshot.name)
}

/** Reads every node of every tree: each is verified against its parent's checksum. */
function readEverything(access: PointAccess, snapshots: readonly Snapshot[], problems: Problem[]): void {
  let before: Snapshot | null = null
  for (const snapshot of snapshots) {
    try {
      // Each against the one before: what they share was read already.
      for (const _ of access.delta(before, snapshot));
    } catch (error) {
      if (!(error instanceof UmbraError) || error.code === 'EVICTED') throw error
      const action = 'Unmount the volume and check it as a whole'
      problems.push({ code: error.code, where: whereIs(snapshot), message: error.message, action })
    }
    before = snapshot
  }
}

function whereIs(snapshot: Snapshot): string {
  return isTemporary(snapshot.name) ? 'the present' : `snapshot ${snapshot.name}`
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
