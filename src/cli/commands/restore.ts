// umbra restore: a volume, or the files of components, out of the repository that their backups are in.

import { Command, Option } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { isBlockDevice, type RestoredImage, restoreImage } from '../../daemon/restore-images.ts'
import { Repository } from '../../shadow/repository/repository.ts'
import { withLongWork } from '../long-work.ts'
import { countText, printResult } from '../output.ts'
import { type ComponentOptions, restoreComponentFiles, wantsComponents } from './restore-components.ts'

interface RestoreOptions extends ComponentOptions {
  readonly to?: string
  readonly as: 'volume' | 'raw' | 'device'
  readonly volume?: string
}

export function restoreCommand(): Command {
  return new Command('restore')
    .description('rebuild what a backup holds; every digest is verified before anything is written')
    .argument('<REPOSITORY>', 'folder of the repository')
    .argument(
      '[BACKUP]',
      "a backup's name or its beginning; the newest that holds what is asked for if it is left out",
    )
    .option('--to <PATH>', 'the volume or file to be made, or the device to be overwritten')
    .addOption(
      new Option('--as <KIND>', 'a fresh volume, a raw file, or a block device')
        .choices(['volume', 'raw', 'device'])
        .default('volume'),
    )
    .option('--volume <VOLUME>', 'UUID, path or mount point of the volume, where the backup holds several')
    .option(
      '--components <WRITER[:PATH/NAME]>',
      'restore the files of these components to their places; may be repeated',
      collect,
    )
    .option('--all-components', 'restore the files of all components of the backup')
    .option(
      '--to-folder <OLD=NEW>',
      'put what was in folder OLD into NEW, where the writer allows it; may be repeated',
      collect,
    )
    .option('--restore-options <TEXT>', 'options for the writers: "SUB":"NAME"="VALUE",...')
    .option('--roll-forward <POINT>', '`all`, a time or a log position, for writers that can')
    .option('--without-writers', 'restore files without telling the writers, who need not be there')
    .option(
      '--service-command <COMMAND>',
      'run as COMMAND stop|start NAME where a writer asks for it (default: systemctl)',
    )
    .option('--dry-run', 'verify everything and say what would be done')
    .option('--json', 'print as JSON')
    .action(async (folder: string, backup: string | undefined, options: RestoreOptions) => {
      if (wantsComponents(options)) {
        if (options.to !== undefined || options.volume !== undefined)
          throw new UmbraError('INVALID_ARGUMENT', 'Component files go to their places, or with --to-folder')
        return restoreComponentFiles(Repository.open(folder), backup, options)
      }
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

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value]
}

/** A device is overwritten only where that was said. */
function checkedTarget({ to, as }: RestoreOptions): string {
  if (to === undefined)
    throw new UmbraError('INVALID_ARGUMENT', 'Say where to restore an image (--to PATH), or which components')
  if (as !== 'device' && isBlockDevice(to))
    throw new UmbraError('INVALID_ARGUMENT', `${to} is a block device: --as device overwrites it`)
  return to
}

function restoreText({ backup, chain, to, sizeBytes, dataBytes }: RestoredImage): string {
  return `${to} is at ${backup}: ${formatSize(dataBytes)} of data from ${countText(chain.length, 'image')}, size ${formatSize(sizeBytes)}`
}
