// umbra check: walks a volume and names what is wrong with it.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { type CheckResult, checkVolumeAt, runE2fsck } from '../../daemon/check-volume.ts'
import { withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'

interface CheckOptions extends JsonOption {
  readonly e2fsck?: boolean
  readonly repair?: boolean
}

export function checkCommand(): Command {
  return new Command('check')
    .description('check a volume; exits with 7 when something is wrong')
    .argument(
      '<VOLUME>',
      'volume file or mount point; of a mounted volume, what its snapshots and its present hold',
    )
    .option(
      '--repair',
      'mend what can be mended without guessing: a superblock copy, the allocation bitmaps (unmounted volumes)',
    )
    .option('--e2fsck', 'also have e2fsck judge the file system, on a temporary image of the present')
    .option('--json', 'print the findings as JSON')
    .action(async (volume: string, options: CheckOptions) => {
      const result = await checkVolumeAt(volume, { repair: options.repair ?? false })
      const judged = options.e2fsck ? await judge(volume) : null
      printResult(options, { ...result, e2fsck: judged }, () => checkText(result, judged?.output ?? null))
      if (result.problems.length > 0 || (judged && !judged.isClean)) {
        throw new UmbraError(
          'CORRUPT',
          `${volume}: ${problemCount(result.problemCount)}${judged?.isClean === false ? ', and e2fsck objects' : ''}`,
        )
      }
    })
}

async function judge(volume: string): Promise<{ isClean: boolean; output: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-check-'))
  try {
    return await withLongWork('export', (work) => runE2fsck(volume, join(folder, 'present.img'), work))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function problemCount(count: number): string {
  return count === 1 ? '1 problem' : `${count} problems`
}

function checkText(result: CheckResult, e2fsck: string | null): string {
  const lines = result.problems.map(
    ({ code, where, message, action }) => `${code} in ${where}: ${message}. ${action}`,
  )
  const more = result.problemCount - result.problems.length
  if (more > 0) lines.push(`and ${more} more`)
  lines.push(...result.notes.map((note) => `note: ${note}`))
  if (result.leakedBlocks > 0)
    lines.push(`note: ${result.leakedBlocks} blocks are allocated and nothing uses them`)
  lines.push(...result.repaired.map((sentence) => `repaired: ${sentence}`))
  lines.push(`checked: ${result.checked.join('; ')}`)
  lines.push(
    `not checked${result.scope === 'volume' ? '' : ' while it is mounted'}: ${result.notChecked.join('; ')}`,
  )
  lines.push(result.problemCount === 0 ? 'no problem found' : problemCount(result.problemCount))
  if (e2fsck !== null) lines.push(e2fsck.trimEnd())
  return lines.join('\n')
}
