// umbra sync: makes everything written before it durable.

import { Command } from 'commander'
import { openControl } from '../../daemon/open-control.ts'
import { type JsonOption, millisecondsText, printResult } from '../output.ts'

export function syncCommand(): Command {
  return new Command('sync')
    .description(
      'make everything written before the call durable (sync(2) does not reach a FUSE file system)',
    )
    .argument('<VOLUME>', 'volume file or mount point')
    .option('--json', 'print the times as JSON')
    .action(async (argument: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: true })
      const times = await control.volume.sync()
      printResult(
        options,
        times,
        () => `flush ${millisecondsText(times.flushMs)}, commit ${millisecondsText(times.commitMs)}`,
      )
    })
}
