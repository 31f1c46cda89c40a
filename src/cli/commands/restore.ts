// umbra restore: a volume out of the repository that its backups are in.

import { Command, Option } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { isBlockDevice, type RestoredImage, restoreImage } from '../../daemon/restore-images.ts'
import { Repository } from '../../shadow/repository/repository.ts'
import { withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'

interface RestoreOptions extends JsonOption {
  readonly to?: string
  readonly as: 'volume' | 'raw' | 'device'
  readonly volume?: string
}

export function restoreCommand(): Command {
  return new Command('restore')
    .description('rebuild what a backup holds; every digest is verified before anything is written')
    .argument('<REPOSITORY>', 'folder of the repository')
    .argument('[BACKUP]', "a backup's name or its beginning; the newest with images if it is left out")
    .option('--to <PATH>', 'the volume or file to be made, or the device to be overwritten')
    .addOption(
      new Option('--as <KIND>', 'a fresh volume, a raw file, or a block device')
        .choices(['volume', 'raw', 'device'])
        .default('volume'),
    )
    .option('--volume <VOLUME>', 'UUID, path or mount point of the volume, where the backup holds several')
    .option('--json', 'print as JSON')
    .action(async (folder: string, backup: string | undefined, options: RestoreOptions) => {
      const to = checkedTarget(options)
      const repository = Repository.open(folder)
      const result = await withLongWork('restore', (work) =>
        restoreImage(repository, { ...work, backup, volume: options.volume, to, as: options.as }),
      )
      repository.record({
        atMs: Date.now(),
        operation: 'restore',
        backupId: result.backup,
        outcome: 'ok',
        message: `volume ${result.volumeUuid} into ${to}`,
      })
      printResult(options, result, restoreText)
    })
}

/** A device is overwritten only where that was said. */
function checkedTarget({ to, as }: RestoreOptions): string {
  if (to === undefined) throw new UmbraError('INVALID_ARGUMENT', 'Say where to restore: --to PATH')
  if (as !== 'device' && isBlockDevice(to))
    throw new UmbraError('INVALID_ARGUMENT', `${to} is a block device: --as device overwrites it`)
  return to
}

function restoreText({ backup, chain, to, sizeBytes, dataBytes }: RestoredImage): string {
  return `${to} is at ${backup}: ${formatSize(dataBytes)} of data from ${chain.length} images, size ${formatSize(sizeBytes)}`
}
