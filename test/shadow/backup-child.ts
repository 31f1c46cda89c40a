// A backup in a process of its own, to be killed: it stops for ever when the shadow copies are there and before
// anything else is asked of its session, and says so.

import { volumeAccess } from '../../src/daemon/backup-surroundings.ts'
import { ControlShadowProvider } from '../../src/daemon/control-shadow-provider.ts'
import { createCoordinator } from '../../src/shadow/coordinator/coordinator.ts'
import type { RequesterSession } from '../../src/shadow/coordinator/requester-session.ts'
import { backup } from '../../src/shadow/requester/backup.ts'

const { repository, options } = JSON.parse(process.argv[2] ?? '{}')

// It is to die by a signal, not because there is nothing to do.
setInterval(() => {}, 60_000)

const coordinator = createCoordinator({
  writers: { ports: async () => [] },
  provider: new ControlShadowProvider(),
})

function stopping(session: RequesterSession): RequesterSession {
  return new Proxy(session, {
    get(target, name) {
      const value = Reflect.get(target, name, target) as unknown
      if (typeof value !== 'function') return value
      if (name !== 'doSnapshotSet') return value.bind(target)
      return async () => {
        await target.doSnapshotSet()
        process.send?.({ type: 'there' })
        await new Promise(() => {})
      }
    },
  })
}

await backup(
  {
    volumes: volumeAccess,
    coordinator: {
      openSession: async (operation) => stopping(await coordinator.openSession(operation)),
      listWriters: () => coordinator.listWriters(),
    },
  },
  repository,
  options,
)
