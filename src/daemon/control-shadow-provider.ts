// The shadow copy provider of Umbra's volumes: its steps go over the control socket of whoever serves the
// volume; for one that nobody serves, a daemon without a mount is started.
//
// Always true: each sequence has a connection of its own, so that its end, however it comes, is the
// end of what was not finished; the connection closes with end() or abort().

import { setTimeout as sleep } from 'node:timers/promises'
import { hasCode, UmbraError } from '../base/errors.ts'
import type {
  ShadowProvider,
  ShadowRequest,
  ShadowSequence,
  ShadowVolumeInfo,
} from '../shadow/coordinator/shadow-provider.ts'
import type { FileSpec } from '../shadow/documents/writer-metadata.ts'
import type { Snapshot } from '../volume/points.ts'
import { ControlClient } from './control-client.ts'
import { launchDaemon } from './launch.ts'
import { LocalVolume } from './local-volume.ts'
import { locateVolume } from './locate.ts'
import * as protocol from './shadow-protocol.ts'

export const PROVIDER_ID = '5d1e7b0a-5a0c-4c55-9f1c-0e7f4d1c6b52'
export const PROVIDER_NAME = 'Umbra'

/** For a daemon that is ending while another is to be started. */
const CONNECT_PATIENCE_MS = 10_000
const CONNECT_POLL_MS = 50
/** Preparing flushes what the kernel holds; a commit and a release only touch memory and the volume file. */
const STEP_TIMEOUT_MS = 60_000

export class ControlShadowProvider implements ShadowProvider {
  readonly id = PROVIDER_ID
  readonly name = PROVIDER_NAME

  async supports(volume: string): Promise<ShadowVolumeInfo> {
    const { volumePath, client } = await locateVolume(volume)
    if (client) {
      return await client.call(protocol.shadowInfoRequest, STEP_TIMEOUT_MS).finally(() => client.close())
    }
    const opened = await LocalVolume.open(volumePath, { readOnly: true })
    try {
      return { volumeUuid: opened.volume.uuid, volumePath, mountPoint: null, hooksFolder: null }
    } finally {
      await opened.close()
    }
  }

  async begin(volume: string, request: ShadowRequest): Promise<ShadowSequence> {
    const client = await connectOrLaunch(volume)
    try {
      const info = await client.callWith(protocol.shadowBeginRequest, request, STEP_TIMEOUT_MS)
      return new ControlShadowSequence(client, info)
    } catch (error) {
      client.close()
      throw error
    }
  }
}

class ControlShadowSequence implements ShadowSequence {
  readonly info: ShadowVolumeInfo
  readonly #client: ControlClient

  constructor(client: ControlClient, info: ShadowVolumeInfo) {
    this.#client = client
    this.info = info
  }

  async endPrepare({ setCount }: { readonly setCount: number }): Promise<void> {
    await this.#client.callWith(protocol.shadowEndPrepareRequest, { setCount })
  }

  async preCommit(): Promise<void> {
    await this.#client.call(protocol.shadowPreCommitRequest, STEP_TIMEOUT_MS)
  }

  flushAndHold(): Promise<{ readonly flushMs: number }> {
    return this.#client.call(protocol.shadowFlushAndHoldRequest)
  }

  commit(): Promise<protocol.ShadowCommitted> {
    return this.#client.call(protocol.shadowCommitRequest, STEP_TIMEOUT_MS)
  }

  release(): Promise<{ readonly heldMs: number }> {
    return this.#client.call(protocol.shadowReleaseRequest, STEP_TIMEOUT_MS)
  }

  async postCommit(): Promise<void> {
    await this.#client.call(protocol.shadowPostCommitRequest, STEP_TIMEOUT_MS)
  }

  preFinalCommit(): Promise<{ readonly recoveryPath: string | null }> {
    return this.#client.call(protocol.shadowPreFinalCommitRequest, STEP_TIMEOUT_MS)
  }

  deleteFromSnapshot(files: readonly FileSpec[]): Promise<number> {
    return this.#client.callWith(protocol.shadowDeleteFilesRequest, { files })
  }

  seal(): Promise<Snapshot> {
    return this.#client.call(protocol.shadowSealRequest)
  }

  async abort(): Promise<void> {
    try {
      await this.#client.call(protocol.shadowAbortRequest)
    } catch (error) {
      // A closed connection has ended it as well.
      if (!hasCode(error, 'UNAVAILABLE')) throw error
    } finally {
      this.#client.close()
    }
  }

  async end({ keepBookmark }: { readonly keepBookmark: boolean }): Promise<void> {
    try {
      await this.#client.callWith(protocol.shadowEndRequest, { keepBookmark })
    } finally {
      this.#client.close()
    }
  }
}

/**
 * A connection to whoever serves the volume, started if need be.
 * @throws UmbraError NOT_FOUND, BUSY when another process has the volume file without serving it
 */
async function connectOrLaunch(volume: string): Promise<ControlClient> {
  const deadlineMs = Date.now() + CONNECT_PATIENCE_MS
  for (;;) {
    const { volumePath, client } = await locateVolume(volume)
    if (client) return client
    try {
      const { socket } = await launchDaemon(mountless(volumePath))
      const launched = await ControlClient.open(socket)
      if (launched) return launched
    } catch (error) {
      if (!hasCode(error, 'BUSY') || Date.now() > deadlineMs) throw error
    }
    if (Date.now() > deadlineMs) {
      throw new UmbraError('UNAVAILABLE', `The daemon for ${volumePath} does not stay`)
    }
    await sleep(CONNECT_POLL_MS)
  }
}

function mountless(volumePath: string) {
  const off = { readOnly: false, writeThrough: false, allowOther: false, accessTimes: false } as const
  return { volumePath, mountPoint: null, snapshot: null, driver: 'device', hooks: null, ...off } as const
}
