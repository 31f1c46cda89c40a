// What a volume does when its snapshots want more room than they may have: the rules, kept in the
// superblock with each transaction.
//
// Always true: a limit is for what snapshots alone hold, never for the present; no limit means the
// host's free space. The count limits keep old snapshots from piling up; without one a volume takes
// as many snapshots as its format can.

import { UmbraError } from '../base/errors.ts'
import { MIB } from '../base/units.ts'
import { SHADOW_ATTRIBUTES, type ShadowProperties } from './points.ts'

/** Drop the oldest snapshots for live writes, or refuse live writes for the snapshots. */
export type WhenFull = 'evict-oldest' | 'protect'

export interface SpacePolicy {
  /** Bytes that snapshots alone may hold; null: no limit but the host's free space. */
  readonly snapshotLimitBytes: number | null
  readonly whenFull: WhenFull
  /** Snapshots there may be; null: no limit but the format's. */
  readonly snapshotCountLimit: number | null
}

export const DEFAULT_POLICY: SpacePolicy = {
  snapshotLimitBytes: null,
  whenFull: 'evict-oldest',
  snapshotCountLimit: null,
}

/** Client-accessible shadow copies that a volume has at most, as VSS has it. */
export const CLIENT_ACCESSIBLE_MAX = 64
/** Below it the reserve for deletes and a transaction's metadata would be most of the limit. */
export const SNAPSHOT_LIMIT_MIN_BYTES = 16 * MIB
const FLAG_PROTECT = 1

/** As it lies in the superblock; 0 stands for no limit. */
export interface PolicyFields {
  readonly snapshotLimitBytes: number
  readonly snapshotCountLimit: number
  readonly policyFlags: number
}

/** Whether it is one of those that are limited to CLIENT_ACCESSIBLE_MAX. */
export function isClientAccessible(shadow: ShadowProperties | null): boolean {
  return shadow !== null && (shadow.attributes & SHADOW_ATTRIBUTES.CLIENT_ACCESSIBLE) !== 0
}

/** @throws UmbraError INVALID_ARGUMENT */
export function checkPolicy(policy: SpacePolicy): void {
  const { snapshotLimitBytes, snapshotCountLimit } = policy
  const isLimit = snapshotLimitBytes === null || isWithin(snapshotLimitBytes, SNAPSHOT_LIMIT_MIN_BYTES)
  if (!isLimit) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `The snapshots' limit is at least 16M, not ${snapshotLimitBytes} bytes`,
    )
  }
  if (snapshotCountLimit !== null && (!isWithin(snapshotCountLimit, 1) || snapshotCountLimit > 0xffffffff)) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      `There is at least one snapshot to be allowed, not ${snapshotCountLimit}`,
    )
  }
}

export function encodePolicy(policy: SpacePolicy): PolicyFields {
  return {
    snapshotLimitBytes: policy.snapshotLimitBytes ?? 0,
    snapshotCountLimit: policy.snapshotCountLimit ?? 0,
    policyFlags: policy.whenFull === 'protect' ? FLAG_PROTECT : 0,
  }
}

export function decodePolicy(fields: PolicyFields): SpacePolicy {
  return {
    snapshotLimitBytes: fields.snapshotLimitBytes || null,
    whenFull: (fields.policyFlags & FLAG_PROTECT) !== 0 ? 'protect' : 'evict-oldest',
    snapshotCountLimit: fields.snapshotCountLimit || null,
  }
}

function isWithin(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least
}
