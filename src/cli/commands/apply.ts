// umbra apply: brings a volume or a raw file forward by incremental or differential images.

import { Command } from 'commander'
import { formatSize } from '../../base/units.ts'
import { applyImages } from '../../daemon/import-images.ts'
import { withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'

export function applyCommand(): Command {
  return new Command('apply')
    .description('bring a target forward by images that start where it is')
    .argument('<TARGET>', 'unmounted volume that was imported, or raw file that was exported or imported')
    .argument('<IMAGE...>', 'incremental or differential images, oldest first')
    .option('--json', 'print as JSON')
    .action(async (target: string, images: string[], options: JsonOption) => {
      const result = await withLongWork('apply', (work) => applyImages(target, images, work))
      printResult(
        options,
        { point: result.identity.point, dataBytes: result.dataBytes, zeroBytes: result.zeroBytes },
        () =>
          `${target} is at ${result.identity.point.name}: ${formatSize(result.dataBytes)} written, ${formatSize(result.zeroBytes)} zeroed`,
      )
    })
}
