// umbra unmount: ends a mount and its daemon; also clears a mount whose daemon has died.

import { Command } from 'commander'
import { unmountVolume } from '../../daemon/unmount.ts'
import { type JsonOption, printResult } from '../output.ts'

export function unmountCommand(): Command {
  return new Command('unmount')
    .description('unmount; returns when the daemon is gone and the volume is free')
    .argument('<DIR>', 'mount point, or a volume file that is mounted')
    .option('--lazy', 'unmount also while files are in use; they can no longer be reached by a path')
    .option('--force', 'cut a mount off whose daemon does not answer; what it had not committed is lost')
    .option('--json', 'print as JSON')
    .action(async (argument: string, options: JsonOption & { lazy?: boolean; force?: boolean }) => {
      const how = { lazy: options.lazy ?? false, force: options.force ?? false }
      const result = await unmountVolume(argument, how)
      printResult(options, result, () =>
        result.wasDead ? `cleared the dead mount at ${result.mountPoint}` : '',
      )
    })
}
