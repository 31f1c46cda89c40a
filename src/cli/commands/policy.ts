// umbra policy: shows and sets what snapshots may hold, and what gives way when they hold that.

import { Command } from 'commander'
import { formatSize } from '../../base/units.ts'
import type { PolicyReport } from '../../daemon/control-protocol.ts'
import { openControl } from '../../daemon/open-control.ts'
import { dateText, type JsonOption, listText, printResult } from '../output.ts'
import { type PolicyOptions, policyChange, policyText, withPolicyOptions } from '../policy-options.ts'

export function policyCommand(): Command {
  const command = new Command('policy')
    .description('show or set what snapshots may hold, and what gives way when they hold that')
    .argument('<VOLUME>', 'volume file or mount point')
  return withPolicyOptions(command)
    .option('--json', 'print as JSON')
    .action(async (argument: string, options: JsonOption & PolicyOptions) => {
      const isChange = Object.keys(policyChange(options, 1)).length > 0
      await using control = await openControl(argument, { write: isChange })
      const change = isChange ? policyChange(options, (await control.volume.status()).sizeBytes) : {}
      const { policy, ...report } = await control.volume.policy(change)
      printResult(options, { ...policy, ...report }, () => reportText({ policy, ...report }))
    })
}

function reportText(report: PolicyReport): string {
  const { policy, usedBytes, maxBytes, snapshots, fault, events, evicted } = report
  const share =
    maxBytes === null ? '' : ` of ${formatSize(maxBytes)} (${Math.floor((usedBytes / maxBytes) * 100)} %)`
  const lines = [
    listText([
      ['policy', policyText(policy)],
      ['held by snapshots alone', `${formatSize(usedBytes)}${share}`],
      ['snapshots', String(snapshots)],
      ['fault', fault === null ? 'none' : `${fault.kind} since ${dateText(fault.sinceMs)}: ${fault.message}`],
      ...(evicted.length === 0 ? [] : [['dropped now', evicted.join(', ')] as const]),
    ]),
    ...events.map(({ atMs, message }) => `${dateText(atMs)}  ${message}`),
  ]
  return lines.join('\n')
}
