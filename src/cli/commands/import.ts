// umbra import: a chain of images back into a volume of its own, or into a raw file.

import { Command, Option } from 'commander'
import { formatSize } from '../../base/units.ts'
import { importChain } from '../../daemon/import-images.ts'
import { importToRaw } from '../../image/import.ts'
import { withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'

interface ImportOptions extends JsonOption {
  readonly output: string
  readonly format: 'volume' | 'raw'
}

export function importCommand(): Command {
  return new Command('import')
    .description('rebuild a volume from a chain of images')
    .argument('<FILE...>', 'images, oldest first; what the first names as its backing file comes before it')
    .requiredOption('-o, --output <VOLUME>', 'file to be made')
    .addOption(new Option('--format <FORMAT>', 'what to make').choices(['volume', 'raw']).default('volume'))
    .option('--json', 'print as JSON')
    .action(async (files: string[], options: ImportOptions) => {
      const result = await withLongWork('import', async (work) => {
        if (options.format === 'volume') return importChain(files, options.output, work)
        const { sizeBytes, dataBytes, identity } = await importToRaw(files, options.output, work)
        return { sizeBytes, dataBytes, point: identity?.point ?? null }
      })
      const name = result.point ? ` at ${result.point.name}` : ''
      printResult(
        options,
        result,
        () =>
          `${options.output}${name}: ${formatSize(result.dataBytes)} of data, size ${formatSize(result.sizeBytes)}`,
      )
    })
}
