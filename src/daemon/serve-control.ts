// The methods of a daemon's control socket, each handed to the volume that it serves.
//
// Always true: a lease is registered with its connection and ends with it; a daemon that shows a single
// snapshot answers status and unmount alone.

import { UmbraError } from '../base/errors.ts'
import {
  bookmarkCreateRequest,
  bookmarkDeleteRequest,
  bookmarkListRequest,
  leaseCheckRequest,
  leaseEvictedNotification,
  leaseRequest,
  policyRequest,
  resizeRequest,
  snapshotCreateRequest,
  snapshotDeleteRequest,
  snapshotFreedRequest,
  snapshotListRequest,
  snapshotPinRequest,
  snapshotShowRequest,
  statusRequest,
  syncRequest,
  unmountRequest,
} from './control-protocol.ts'
import type { ControlServer, Session } from './control-server.ts'
import type { HostedVolume } from './hosted-volume.ts'
import type { Served } from './served-volume.ts'

export function serveControl(
  server: ControlServer,
  served: Pick<Served, 'hosted' | 'status'>,
  unmount: (lazy: boolean) => Promise<void>,
): void {
  const hosted = (): HostedVolume => {
    if (served.hosted) return served.hosted
    throw new UmbraError('READ_ONLY', 'This mount shows a single snapshot; ask the volume itself')
  }
  const evictedLeases = new WeakMap<Session, readonly string[]>()
  server.handle(statusRequest, () => served.status())
  server.handleWith(unmountRequest, async ({ lazy }) => {
    await unmount(lazy)
    return null
  })
  server.handle(syncRequest, () => hosted().sync())
  server.handleWith(snapshotCreateRequest, ({ name }) => hosted().createSnapshot(name))
  server.handle(snapshotListRequest, () => hosted().listSnapshots())
  server.handleWith(snapshotShowRequest, ({ name }) => hosted().showSnapshot(name))
  server.handleWith(snapshotDeleteRequest, ({ name, keepBookmark }) =>
    hosted().deleteSnapshot(name, keepBookmark),
  )
  server.handleWith(snapshotFreedRequest, ({ names }) => ({ freedBytes: hosted().freedIfDeleted(names) }))
  server.handleWith(policyRequest, (change) => hosted().policy(change))
  server.handleWith(resizeRequest, ({ sizeBytes }) => hosted().resize(sizeBytes))
  server.handleWith(snapshotPinRequest, ({ name, pinned }) => hosted().pinSnapshot(name, pinned))
  server.handleWith(bookmarkCreateRequest, ({ name }) => hosted().createBookmark(name))
  server.handle(bookmarkListRequest, () => hosted().listBookmarks())
  server.handleWith(bookmarkDeleteRequest, async ({ name }) => {
    await hosted().deleteBookmark(name)
    return null
  })
  server.handleWith(leaseRequest, async (params, session) => {
    const evicted = (name: string): void => {
      evictedLeases.set(session, [...(evictedLeases.get(session) ?? []), name])
      session.notify(leaseEvictedNotification, { name })
    }
    const { leased, end } = await hosted().lease(params, evicted)
    // The volume may have failed meanwhile; its status says so.
    session.onEnd(() => void end().catch(() => {}))
    return leased
  })
  server.handle(leaseCheckRequest, (session) => [...(evictedLeases.get(session) ?? [])])
}
