// The two ways of serving a mount: the device driver, and fuse-native behind the same operations.
//
// Always true: when serveMount() fails, nothing is mounted; close() ends the serving, not the mount,
// which is the helper process's to take away, because this process never touches it.

import { closeSync } from 'node:fs'
import { FuseChannel } from '../fuse/device/channel.ts'
import { mountDevice } from '../fuse/device/mount.ts'
import { tuneMount } from '../fuse/device/tuning.ts'
import { FuseDispatcher } from '../fuse/dispatch.ts'
import { mountFuseNative } from '../fuse/fuse-native/mount.ts'
import type { InodeOperations } from '../fuse/operations.ts'
import { isWriteBack, type MountedOptions } from './launch.ts'
import type { Log } from './log.ts'

export interface MountService {
  /** As the mount table has it. */
  readonly mountPoint: string
  readonly by: 'mount' | 'fusermount3' | 'fuse-native'
  /** Raises the mount's limits where that is allowed; to be called when everything serves. */
  tune(): Promise<unknown>
  close(): void
}

export interface MountSurroundings {
  readonly operations: InodeOperations
  readonly log: Log
  /** For tests: delays requests, see FuseDispatcherOptions. */
  readonly onRequest: ((opcode: number, nodeId: number) => undefined | Promise<void>) | undefined
  /** See FuseDispatcherOptions. */
  readonly flushInode: (nodeId: number) => Promise<void>
  /** See FuseDispatcherOptions. */
  readonly makeRoom: (attempt: number) => Promise<void> | undefined
  readonly onEnded: (reason: 'unmounted' | 'aborted') => void
  /** By another process, for a mount that cannot be served. */
  readonly unmount: (mountPoint: string) => Promise<void>
}

/** @throws UmbraError for whatever keeps the volume from being mounted */
export function serveMount(options: MountedOptions, around: MountSurroundings): Promise<MountService> {
  return options.driver === 'device' ? serveByDevice(options, around) : serveByFuseNative(options, around)
}

async function serveByDevice(options: MountedOptions, around: MountSurroundings): Promise<MountService> {
  const { volumePath, readOnly, allowOther } = options
  const { log, onRequest } = around
  const mounted = await mountDevice({
    mountPoint: options.mountPoint,
    fsName: volumePath,
    readOnly,
    ...(allowOther ? { allowOther } : {}),
  })
  const { fd, mountPoint, by } = mounted
  let channel: FuseChannel
  try {
    channel = FuseChannel.open(
      fd,
      {},
      (replies) =>
        new FuseDispatcher(replies, {
          operations: around.operations,
          writeBack: isWriteBack(options),
          flushInode: around.flushInode,
          makeRoom: around.makeRoom,
          ...(onRequest ? { onRequest } : {}),
          onError: (error, request) => log.error({ error: String(error), opcode: request.opcode }, 'request'),
          onEnded: around.onEnded,
        }),
    )
  } catch (error) {
    closeSync(fd)
    await around.unmount(mountPoint)
    throw error
  }
  return { mountPoint, by, tune: () => tuneMount(mountPoint), close: () => channel.close() }
}

/** Always writes through: libfuse 2 knows no write-back cache. */
async function serveByFuseNative(options: MountedOptions, around: MountSurroundings): Promise<MountService> {
  const mounted = await mountFuseNative(around.operations, {
    mountPoint: options.mountPoint,
    fsName: options.volumePath,
    readOnly: options.readOnly,
    allowOther: options.allowOther,
    onError: (error, operation) => around.log.error({ error: String(error), operation }, 'request'),
    onEnded: () => around.onEnded('unmounted'),
  })
  const { mountPoint } = mounted
  return { mountPoint, by: 'fuse-native', tune: () => tuneMount(mountPoint), close: () => mounted.close() }
}
