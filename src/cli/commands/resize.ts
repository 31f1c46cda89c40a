// umbra resize: makes a volume and the file system in it larger.

import { Command } from 'commander'
import { formatSize, parseSize } from '../../base/units.ts'
import { resizeVolume } from '../../daemon/resize-volume.ts'
import { type JsonOption, printResult } from '../output.ts'

export function resizeCommand(): Command {
  return new Command('resize')
    .description('make a volume and its file system larger, mounted or not; snapshots keep their size')
    .argument('<VOLUME>', 'volume file or mount point')
    .requiredOption('--size <SIZE>', 'the new size, up to 16T; never smaller than it is')
    .option('--json', 'print as JSON')
    .action(async (argument: string, options: JsonOption & { size: string }) => {
      const resized = await resizeVolume(argument, parseSize(options.size))
      printResult(options, resized, () => `${argument}: ${formatSize(resized.fileSystemBytes)}`)
    })
}
