// umbra verify: whether the backups of a repository are whole, and with --restore whether they can be rebuilt.

import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { LazyCoordinator } from '../../daemon/lazy-coordinator.ts'
import { type RebuiltVolume, rebuildVolumes } from '../../daemon/rebuild-check.ts'
import { type RebuiltComponents, rebuildComponents } from '../../shadow/repository/rebuild-components.ts'
import { Repository } from '../../shadow/repository/repository.ts'
import { recordVerification, type VerifyReport, verifyRepository } from '../../shadow/repository/verify.ts'
import { type Work, withLongWork } from '../long-work.ts'
import { countText, type JsonOption, printResult, visibleText } from '../output.ts'

interface VerifyOptions extends JsonOption {
  readonly restore?: boolean
  readonly scratch?: string
}

/** What a rebuild of one backup came to. */
interface Rebuilt {
  readonly id: string
  readonly isGood: boolean
  readonly message: string
  readonly volumes: readonly RebuiltVolume[]
  readonly components: RebuiltComponents | null
  readonly failure: { readonly code: string; readonly message: string } | null
}

interface VerifyResult extends VerifyReport {
  readonly isGood: boolean
  readonly rebuilt: readonly Rebuilt[]
}

export function verifyCommand(): Command {
  return new Command('verify')
    .description(
      'check every digest of backups and of what they build on; damage is told with all that it spoils',
    )
    .argument('<REPOSITORY>', 'folder of the repository')
    .argument('[BACKUP...]', "backups' names or their beginnings; all of them if none is given")
    .option('--restore', 'also rebuild each of them in scratch space, judged by e2fsck and by its writers')
    .option('--scratch <DIR>', 'where there is room for that; default $TMPDIR or /tmp')
    .option('--json', 'print as JSON')
    .action(async (folder: string, names: string[], options: VerifyOptions) => {
      const scratch = scratchFolder(options)
      const repository = Repository.open(folder)
      const report = await withLongWork('verify', (work) => verifyRepository(repository, names, work))
      // Nothing to check is nothing that could be restored.
      if (report.backups.length === 0) throw new UmbraError('NOT_FOUND', `${folder} holds no backups`)
      const rebuilt: Rebuilt[] = []
      if (options.restore)
        for (const { id, isGood } of report.backups)
          if (isGood)
            rebuilt.push(
              await withLongWork(`rebuild ${id}`, (work) => rebuild(repository, id, scratch, work)),
            )
      recordVerification(repository, report, new Map(rebuilt.map((one) => [one.id, one])))
      const isGood = report.backups.every((backup) => backup.isGood) && rebuilt.every((one) => one.isGood)
      printResult(options, { isGood, ...report, rebuilt }, verifyText)
      if (!isGood) throw failure(report, rebuilt)
    })
}

function scratchFolder({ scratch }: VerifyOptions): string {
  const folder = scratch ?? tmpdir()
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return folder
  throw new UmbraError('NOT_FOUND', `No folder at ${folder}`)
}

async function rebuild(repository: Repository, id: string, scratch: string, work: Work): Promise<Rebuilt> {
  let volumes: readonly RebuiltVolume[] = []
  let components: RebuiltComponents | null = null
  try {
    const { manifest } = repository.get(id)
    volumes = await rebuildVolumes(repository, manifest, scratch, work)
    components = await componentsOf(repository, id, scratch, work)
    const objections = [
      ...volumes
        .filter(({ e2fsck }) => e2fsck === 'objects')
        .map(({ volumePath }) => `e2fsck objects to what was rebuilt of ${volumePath}`),
      ...components.objections,
    ]
    const message = objections.length > 0 ? objections.join('; ') : rebuiltText(volumes, components)
    return { id, isGood: objections.length === 0, message, volumes, components, failure: null }
  } catch (error) {
    if (!(error instanceof UmbraError) || error.code === 'ABORTED' || error.code === 'OUT_OF_SPACE')
      throw error
    const { code, message } = error
    return { id, isGood: false, message, volumes, components, failure: { code, message } }
  }
}

async function componentsOf(
  repository: Repository,
  id: string,
  scratch: string,
  work: Work,
): Promise<RebuiltComponents> {
  const folder = mkdtempSync(join(scratch, 'umbra-verify-'))
  using coordinator = new LazyCoordinator()
  try {
    const { manifest } = repository.get(id)
    const done = await rebuildComponents(coordinator, repository, manifest, folder, work)
    const { comparedCount, checkedBy, objections, notes } = done
    return { comparedCount, checkedBy, objections, notes }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function rebuiltText(
  volumes: readonly RebuiltVolume[],
  { comparedCount, checkedBy, notes }: RebuiltComponents,
): string {
  const clean = volumes.filter(({ e2fsck }) => e2fsck === 'clean').length
  const unjudged = volumes.filter(({ e2fsck }) => e2fsck === 'not installed').length
  const parts = [`${countText(volumes.length, 'volume')} rebuilt, ${clean} of them clean to e2fsck`]
  if (unjudged > 0) parts.push(`${unjudged} not judged, as e2fsck is not installed`)
  if (comparedCount > 0) parts.push(`${countText(comparedCount, 'file')} rebuilt and compared`)
  if (checkedBy.length > 0) parts.push(`checked by ${checkedBy.join(', ')}`)
  return [...parts, ...notes].join('; ')
}

/** The first damage decides the exit code. */
function failure({ damages }: VerifyReport, rebuilt: readonly Rebuilt[]): UmbraError {
  const [first] = damages
  if (first) {
    const spoilt = new Set(damages.flatMap(({ backupId, spoils }) => [backupId, ...spoils]))
    return new UmbraError(first.code, `${spoilt.size} backups cannot be restored as they were made`)
  }
  const bad = rebuilt.filter(({ isGood }) => !isGood)
  const message = `${countText(bad.length, 'backup')} not rebuilt as it should be: ${bad[0]?.message}`
  return new UmbraError(bad.some((one) => one.failure) ? 'BAD_IMAGE' : 'CORRUPT', message)
}

function verifyText({ backups, damages, rebuilt, checkedBytes }: VerifyResult): string {
  const lines = damages.map(({ backupId, message, spoils }) => {
    const also = spoils.length > 0 ? `; it spoils ${spoils.join(', ')}` : ''
    return `${backupId}: ${message}${also}`
  })
  for (const { id, message } of rebuilt) lines.push(`${id}: ${message}`)
  const good = backups.filter(({ isGood }) => isGood).length
  lines.push(
    `${good} of ${countText(backups.length, 'backup')} ${good === 1 ? 'is' : 'are'} whole; ${formatSize(checkedBytes)} read`,
  )
  return lines.map(visibleText).join('\n')
}
