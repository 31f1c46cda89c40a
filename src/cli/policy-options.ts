// The options of the space policy, the same for `create` and `policy`.
//
// Always true: what is not given is not in the result, so that it stays as it is.

import { type Command, Option } from 'commander'
import { UmbraError } from '../base/errors.ts'
import { formatSize, parseSize } from '../base/units.ts'
import type { SpacePolicy, WhenFull } from '../volume/space-policy.ts'
import { countText } from './output.ts'

export interface PolicyOptions {
  readonly snapshotLimit?: string
  readonly whenFull?: WhenFull
  readonly snapshotCount?: string
}

export function withPolicyOptions(command: Command): Command {
  return command
    .option(
      '--snapshot-limit <SIZE>',
      "what snapshots alone may hold: a size from 16M, a share of the volume's size like 20%, or none",
    )
    .addOption(
      new Option(
        '--when-full <POLICY>',
        'at the limit, or with the host full: drop the oldest snapshots, or refuse live writes',
      ).choices(['evict-oldest', 'protect']),
    )
    .option('--snapshot-count <N>', 'how many snapshots there may be, or none for no limit')
}

/**
 * What was given.
 * @param sizeBytes of the volume, for shares of it
 * @throws UmbraError INVALID_ARGUMENT
 */
export function policyChange(options: PolicyOptions, sizeBytes: number): Partial<SpacePolicy> {
  const { snapshotLimit, whenFull, snapshotCount } = options
  return {
    ...(snapshotLimit === undefined ? {} : { snapshotLimitBytes: limitOf(snapshotLimit, sizeBytes) }),
    ...(whenFull === undefined ? {} : { whenFull }),
    ...(snapshotCount === undefined ? {} : { snapshotCountLimit: countOf(snapshotCount) }),
  }
}

export function policyText(policy: SpacePolicy): string {
  const { snapshotLimitBytes, whenFull, snapshotCountLimit } = policy
  const limit =
    snapshotLimitBytes === null ? 'no limit but the host' : `at most ${formatSize(snapshotLimitBytes)}`
  const count = snapshotCountLimit === null ? '' : `, at most ${countText(snapshotCountLimit, 'snapshot')}`
  return `${limit}${count}, ${whenFull}`
}

function limitOf(text: string, sizeBytes: number): number | null {
  if (text === 'none') return null
  const share = /^(\d+(?:\.\d+)?)%$/.exec(text)
  if (share === null) return parseSize(text)
  const percent = Number(share[1])
  if (percent > 0 && percent <= 1000) return Math.floor((sizeBytes * percent) / 100)
  throw new UmbraError('INVALID_ARGUMENT', `Not a share of the volume: ${text}`)
}

function countOf(text: string): number | null {
  if (text === 'none') return null
  if (/^\d{1,10}$/.test(text)) return Number(text)
  throw new UmbraError('INVALID_ARGUMENT', `Not a number of snapshots: ${JSON.stringify(text)}`)
}
