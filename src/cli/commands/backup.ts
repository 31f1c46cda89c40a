// umbra backup: one backup of volumes and of what writers have, into a repository.

import { Command, Option } from 'commander'
import { formatSize } from '../../base/units.ts'
import { volumeAccess } from '../../daemon/backup-surroundings.ts'
import { LazyCoordinator } from '../../daemon/lazy-coordinator.ts'
import { BACKUP_TYPES, type BackupType } from '../../shadow/documents/vocabulary.ts'
import type { Manifest } from '../../shadow/repository/manifest.ts'
import { type BackupResult, backup } from '../../shadow/requester/backup.ts'
import { type BackupOptions, DEFAULT_RETRIES } from '../../shadow/requester/backup-options.ts'
import { EXIT_PARTIAL } from '../exit-codes.ts'
import { withLongWork } from '../long-work.ts'
import { countText, type JsonOption, printResult, visibleText } from '../output.ts'
import { wholeNumber } from '../whole-number.ts'

interface BackupCommandOptions extends JsonOption {
  readonly to: string
  readonly type: BackupType
  readonly images?: boolean
  readonly components?: string[] | false
  readonly allComponents?: boolean
  readonly format: 'qcow2' | 'raw'
  readonly withoutWriters?: boolean
  readonly excludeWriter?: string[]
  readonly requireWriter?: string[]
  readonly continueWithoutFailedWriters?: boolean
  readonly orFull?: boolean
  readonly resumable?: boolean
  readonly changedRanges?: boolean
  readonly autoRetry?: number
  readonly retries: number
  readonly retryWait: number
}

export function backupCommand(): Command {
  return new Command('backup')
    .description('back volumes and components of writers up into a repository')
    .argument('[VOLUME...]', 'volume files or mount points whose images are taken')
    .requiredOption('--to <REPOSITORY>', 'folder of the repository; a new or empty one becomes one')
    .addOption(
      new Option('--type <TYPE>', 'what to save; copy leaves no trace in any chain')
        .choices([...BACKUP_TYPES])
        .default('full'),
    )
    .option('--images', 'take block images of the volumes (default where volumes are named, but for log)')
    .option('--no-images', 'take no images, save component files alone')
    .option(
      '--components <WRITER[:PATH/NAME]>',
      'save the files of these components; may be repeated',
      collect,
    )
    .option('--all-components', 'save the files of all components (default without images)')
    .option('--no-components', 'save no files; writers take part as a whole (default with images)')
    .addOption(new Option('--format <FORMAT>', 'format of images').choices(['qcow2', 'raw']).default('qcow2'))
    .option('--without-writers', 'ask no writer; images are as after a power cut')
    .option('--exclude-writer <WRITER>', 'leave this writer out; may be repeated', collect)
    .option('--require-writer <WRITER>', 'give up unless this writer is there; may be repeated', collect)
    .option('--continue-without-failed-writers', 'leave out what failed writers have, and say so')
    .option('--or-full', 'take a full backup where there is nothing to build on')
    .option('--resumable', 'keep the shadow copies when interrupted; the next such run goes on with them')
    .option('--changed-ranges', 'save only changed ranges of files for writers that cannot tell them')
    .option('--auto-retry <MINUTES>', 'wait so long while another shadow copy is being made', wholeNumber)
    .option('--retries <N>', 'tries after a failure that may pass', wholeNumber, DEFAULT_RETRIES.count)
    .option('--retry-wait <SECONDS>', 'wait before each', wholeNumber, DEFAULT_RETRIES.waitMs / 1000)
    .option('--json', 'print as JSON')
    .action(async (volumes: string[], options: BackupCommandOptions) => {
      using coordinator = new LazyCoordinator()
      const surroundings = { coordinator, volumes: volumeAccess }
      const result = await withLongWork('backup', (work) =>
        backup(surroundings, options.to, { ...backupOptions(volumes, options), ...work, onNote: printNote }),
      )
      printResult(options, summary(result), () => summaryText(result))
      if (result.manifest.isPartial) process.exitCode = EXIT_PARTIAL
    })
}

function backupOptions(volumes: readonly string[], options: BackupCommandOptions): BackupOptions {
  const components = options.allComponents
    ? 'all'
    : options.components === false
      ? 'none'
      : options.components
  return {
    type: options.type,
    volumes,
    images: options.images,
    components,
    format: options.format,
    withoutWriters: options.withoutWriters,
    excludeWriters: options.excludeWriter,
    requireWriters: options.requireWriter,
    continueWithoutFailedWriters: options.continueWithoutFailedWriters,
    orFull: options.orFull,
    resumable: options.resumable,
    changedRanges: options.changedRanges,
    autoRetryMs: options.autoRetry === undefined ? undefined : options.autoRetry * 60_000,
    retries: { count: options.retries, waitMs: options.retryWait * 1000 },
  }
}

function collect(value: string, before: string[] | false | undefined): string[] {
  return [...(before || []), value]
}

function printNote(note: string): void {
  process.stderr.write(`umbra: ${visibleText(note)}\n`)
}

function summary({ manifest, folder }: BackupResult) {
  const { id, type, baseBackupId, chain, isPartial, notes, images, writers, startedAtMs, finishedAtMs } =
    manifest
  return {
    id,
    type,
    folder,
    base: baseBackupId,
    chain,
    isPartial,
    tookMs: finishedAtMs - startedAtMs,
    images: images.map((image) => ({
      volume: image.volumePath,
      uuid: image.volumeUuid,
      file: image.file,
      base: image.baseBackupId,
      dataBytes: image.dataBytes,
      fileBytes: image.sizeBytes,
    })),
    writers: writers.map((writer) => ({
      name: writer.name,
      instanceName: writer.instanceName,
      type: writer.type,
      reason: writer.reason,
      result: writer.result,
      components: writer.components.map(
        ({ logicalPath, name, type: own, succeeded, failure, fileCount, bytes }) => ({
          logicalPath,
          name,
          type: own,
          succeeded,
          failure,
          fileCount,
          bytes,
        }),
      ),
    })),
    notes,
    restoreCommands: manifest.restoreCommands,
  }
}

function summaryText({ manifest }: BackupResult): string {
  const { id, isPartial, images, writers } = manifest
  const lines = [`${id}${isPartial ? ' (in part)' : ''}: ${builtOn(manifest)}`]
  for (const image of images) lines.push(`  ${image.volumePath}: ${formatSize(image.dataBytes)} of data`)
  for (const { name, components } of writers) {
    for (const component of components) {
      const { logicalPath, name: own, succeeded, failure, fileCount, bytes, type } = component
      const path = logicalPath === '' ? own : `${logicalPath}/${own}`
      const what = succeeded
        ? `${type}, ${countText(fileCount, 'file')}, ${formatSize(bytes)}`
        : `failed: ${failure}`
      lines.push(`  ${name}: ${path}: ${what}`)
    }
  }
  return lines.map(visibleText).join('\n')
}

function builtOn({ type, baseBackupId }: Manifest): string {
  return baseBackupId === null ? type : `${type}, on ${baseBackupId}`
}
