// umbra consolidate: a full backup made of an incremental one and its chain, in its place.

import { Command } from 'commander'
import { formatSize } from '../../base/units.ts'
import { type Consolidated, consolidate } from '../../shadow/repository/consolidate.ts'
import { Repository } from '../../shadow/repository/repository.ts'
import { withLongWork } from '../long-work.ts'
import { countText, type JsonOption, printResult } from '../output.ts'

export function consolidateCommand(): Command {
  return new Command('consolidate')
    .description(
      'make an incremental or differential backup whole in its place, from its chain; the volume is not touched, later backups stay good, and older ones can be pruned',
    )
    .argument('<REPOSITORY>', 'folder of the repository')
    .argument(
      '[BACKUP]',
      "a backup's name or its beginning; the newest that builds on another if it is left out",
    )
    .option('--json', 'print as JSON')
    .action(async (folder: string, backup: string | undefined, options: JsonOption) => {
      const repository = Repository.open(folder)
      using _lock = repository.lock()
      const startedAtMs = Date.now()
      try {
        const done = await withLongWork('consolidate', (work) => consolidate(repository, backup, work))
        repository.record({
          atMs: Date.now(),
          operation: 'consolidate',
          backupId: done.manifest.id,
          outcome: 'ok',
          message: `whole without ${done.bases.length} older backups`,
        })
        printResult(options, summary(done, Date.now() - startedAtMs), summaryText)
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        repository.record({
          atMs: Date.now(),
          operation: 'consolidate',
          backupId: null,
          outcome: 'failed',
          message,
        })
        throw error
      }
    })
}

function summary({ manifest, bases, imageCount, componentCount }: Consolidated, tookMs: number) {
  return {
    id: manifest.id,
    bases,
    imageCount,
    componentCount,
    imageBytes: manifest.images.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    tookMs,
  }
}

function summaryText({
  id,
  bases,
  imageCount,
  componentCount,
  imageBytes,
}: ReturnType<typeof summary>): string {
  const what = `${countText(imageCount, 'image')} (${formatSize(imageBytes)}) and ${countText(componentCount, 'component')} made whole`
  return `${id}: ${what}; it no longer needs ${bases.join(', ')}`
}
