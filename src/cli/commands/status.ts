// umbra status: what a volume is and who serves it, or what a repository holds; without either, every volume
// that is served.

import { Command } from 'commander'
import { formatSize } from '../../base/units.ts'
import { ControlClient } from '../../daemon/control-client.ts'
import { statusRequest, type VolumeStatus } from '../../daemon/control-protocol.ts'
import { openControl } from '../../daemon/open-control.ts'
import { listSockets } from '../../daemon/runtime-folder.ts'
import { dateText, type JsonOption, listText, printResult, tableText } from '../output.ts'
import { policyText } from '../policy-options.ts'
import { isRepository, repositoryText } from '../repository-text.ts'

export function statusCommand(): Command {
  return new Command('status')
    .description('show a volume, a repository of backups, or every volume that is served')
    .argument('[VOLUME]', 'volume file, mount point, or folder of a repository')
    .option('--json', 'print as JSON')
    .action(async (argument: string | undefined, options: JsonOption) => {
      if (argument === undefined) {
        printResult(options, await allServed(), servedText)
        return
      }
      if (isRepository(argument)) {
        const { Repository } = await import('../../shadow/repository/repository.ts')
        const { repositoryStatus } = await import('../../shadow/repository/repository-status.ts')
        printResult(options, repositoryStatus(Repository.open(argument)), repositoryText)
        return
      }
      await using control = await openControl(argument, { write: false })
      printResult(options, await control.volume.status(), statusText)
    })
}

/** One that hangs is left out, and holds up nobody but itself. */
async function allServed(): Promise<VolumeStatus[]> {
  const found = await Promise.all(
    listSockets().map(async (path) => {
      const client = await ControlClient.open(path).catch(() => undefined)
      const status = await client?.call(statusRequest, 5000).catch(() => undefined)
      client?.close()
      return status
    }),
  )
  return found.filter((status) => status !== undefined)
}

function servedText(all: readonly VolumeStatus[]): string {
  if (all.length === 0) return 'no volume is served'
  return tableText(
    ['mount point', 'volume', 'state', 'snapshots', 'pid'],
    all.map((status) => [
      status.mountPoint ?? '-',
      status.volume,
      status.state,
      String(status.snapshots),
      String(status.daemon?.pid ?? '-'),
    ]),
  )
}

function statusText(status: VolumeStatus): string {
  const daemon = status.daemon
    ? `process ${status.daemon.pid}, socket ${status.daemon.socket}`
    : 'none: the volume is not mounted'
  const state = status.reason ? `${status.state}: ${status.reason}` : status.state
  return listText([
    ['volume', status.volume],
    ['uuid', status.uuid],
    ['mounted at', status.mountPoint ?? '-'],
    ...(status.mountedSnapshot === null ? [] : [['shows snapshot', status.mountedSnapshot] as const]),
    ['daemon', daemon],
    ['state', `${state}${status.readOnly && status.daemon ? ', read-only' : ''}`],
    ['epoch', String(status.epoch)],
    ['transaction', `${status.transaction}, durable up to ${status.durableTransaction}`],
    ['snapshots', `${status.snapshots}, bookmarks ${status.bookmarks}`],
    ['size', formatSize(status.sizeBytes)],
    ['live', formatSize(status.space.liveBytes)],
    ['held by snapshots alone', formatSize(status.space.snapshotBytes)],
    ['allocated', formatSize(status.space.allocatedBytes)],
    ['to be given back', formatSize(status.space.pendingFreeBytes)],
    ['snapshots may hold', policyText(status.policy)],
    ...(status.fault === null ? [] : [[`fault ${status.fault.kind}`, status.fault.message] as const]),
    ...status.events.map(({ atMs, message }) => [dateText(atMs), message] as const),
  ])
}
