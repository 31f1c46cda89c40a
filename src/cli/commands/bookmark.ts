// umbra bookmark: points that are kept without their blocks, still good as a base of a delta.

import { Command } from 'commander'
import { openControl } from '../../daemon/open-control.ts'
import type { Bookmark } from '../../volume/points.ts'
import { dateText, type JsonOption, printResult, tableText, visibleText } from '../output.ts'

export function bookmarkCommand(): Command {
  const bookmark = new Command('bookmark').description('keep points of the history without their blocks')
  bookmark
    .command('create')
    .description('mark the present')
    .argument('<VOLUME>', 'volume file or mount point')
    .argument('<NAME>', 'name of the bookmark')
    .option('--json', 'print the bookmark as JSON')
    .action(async (argument: string, name: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: true })
      printResult(
        options,
        await control.volume.createBookmark(name),
        (made) => `bookmark ${visibleText(made.name)} at epoch ${made.epoch}`,
      )
    })
  bookmark
    .command('list')
    .description('list the bookmarks, oldest first')
    .argument('<VOLUME>', 'volume file or mount point')
    .option('--json', 'print as JSON')
    .action(async (argument: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: false })
      printResult(options, await control.volume.listBookmarks(), bookmarksText)
    })
  bookmark
    .command('delete')
    .description('forget a bookmark')
    .argument('<VOLUME>', 'volume file or mount point')
    .argument('<NAME>', 'name of the bookmark')
    .option('--json', 'print as JSON')
    .action(async (argument: string, name: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: true })
      await control.volume.deleteBookmark(name)
      printResult(options, { deleted: name }, () => `bookmark ${visibleText(name)} is deleted`)
    })
  return bookmark
}

function bookmarksText(bookmarks: readonly Bookmark[]): string {
  if (bookmarks.length === 0) return 'no bookmarks'
  return tableText(
    ['name', 'epoch', 'made'],
    bookmarks.map((entry) => [entry.name, String(entry.epoch), dateText(entry.createdAtMs)]),
  )
}
