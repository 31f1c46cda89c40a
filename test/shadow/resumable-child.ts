// umbra backup --resumable in a process of its own, which dies by SIGKILL at the Nth step of its protocol: a call
// that changes the disk, or one to the coordinator or to a volume, before it, while it is under way, and after it. Says how
// many steps there were when it gets to its end.
//
// Usage: node resumable-child.ts '{"repository": "...", "options": {...}, "killAt": 3}'

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import type { BackupOptions } from '../../src/shadow/requester/backup-options.ts'

interface Task {
  readonly repository: string
  readonly options: BackupOptions
  /** 0: never. */
  readonly killAt: number
}

const CHANGES = [
  'renameSync',
  'rmSync',
  'linkSync',
  'unlinkSync',
  'openSync',
  'mkdirSync',
  'fsyncSync',
  'fsync',
  'writeFileSync',
  'ftruncateSync',
  'writeSync',
  'write',
] as const

const task = JSON.parse(process.argv[2] ?? '') as Task
let isArmed = false
let count = 0

function step(what: string): void {
  if (!isArmed || ++count !== task.killAt) return
  // The real one: what counts changes has taken the other's place.
  writeNow(2, `killed at ${what}\n`)
  process.kill(process.pid, 'SIGKILL')
}

const writeNow = fs.writeSync
// What the code under test imports by name is replaced before it is loaded.
const table = fs as unknown as Record<string, (...args: unknown[]) => unknown>
for (const name of CHANGES) {
  const original = table[name] as (...args: unknown[]) => unknown
  const replaced = (...args: unknown[]): unknown => {
    const isRead = name === 'openSync' && (args[1] === 'r' || typeof args[1] === 'number')
    if (!isRead) step(`${name} ${typeof args[0] === 'number' ? '' : String(args[0])}`)
    return original(...args)
  }
  table[name] = Object.assign(replaced, original)
}
syncBuiltinESMExports()

/** Every call of the object is three steps. */
function stepping<T extends object>(target: T, title: string): T {
  return new Proxy(target, {
    get(_, name) {
      const value = Reflect.get(target, name, target) as unknown
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        const call = `${title}.${String(name)}`
        step(`${call}, before`)
        const result = value.apply(target, args) as unknown
        if (!(result instanceof Promise)) return result
        step(`${call}, under way`)
        return result.then((answer: unknown) => {
          step(`${call}, after`)
          return answer
        })
      }
    },
  })
}

/** What was built, as the command line runs it: it starts faster. */
const built = (file: string): string => new URL(`../../dist/${file}`, import.meta.url).href
const { backup } = (await import(
  built('shadow/requester/backup.js')
)) as typeof import('../../src/shadow/requester/backup.ts')
const { volumeAccess } = (await import(
  built('daemon/backup-surroundings.js')
)) as typeof import('../../src/daemon/backup-surroundings.ts')
const { LazyCoordinator } = (await import(
  built('daemon/lazy-coordinator.js')
)) as typeof import('../../src/daemon/lazy-coordinator.ts')

const coordinator = new LazyCoordinator()
isArmed = true
await backup(
  {
    coordinator: {
      openSession: async (operation) => {
        step('openSession, before')
        return stepping(await coordinator.openSession(operation), 'session')
      },
      listWriters: () => coordinator.listWriters(),
    },
    volumes: stepping(volumeAccess, 'volume'),
  },
  task.repository,
  task.options,
)
isArmed = false
process.stdout.write(`${count}\n`)
coordinator[Symbol.dispose]()
