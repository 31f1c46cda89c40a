// Prune or consolidate in a process of its own, which dies by SIGKILL at the Nth call that changes the disk. Says
// how many there were when it gets to its end.
//
// Usage: node care-child.ts '{"repository": "...", "work": "prune" | "consolidate", "backup": "...", "killAt": 3}'

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'

interface Task {
  readonly repository: string
  readonly work: 'prune' | 'consolidate'
  readonly backup?: string
  readonly keepLast?: number
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
  'copyFileSync',
  'ftruncateSync',
  'writeSync',
  'write',
] as const

const task = JSON.parse(process.argv[2] ?? '') as Task
let isArmed = false
let count = 0

// What the code under test imports by name is replaced before it is loaded.
const table = fs as unknown as Record<string, (...args: unknown[]) => unknown>
for (const name of CHANGES) {
  const original = table[name] as (...args: unknown[]) => unknown
  const replaced = (...args: unknown[]): unknown => {
    const isRead = name === 'openSync' && args[1] === 'r'
    if (isArmed && !isRead && ++count === task.killAt) {
      if (name === 'rmSync') removeSome(String(args[0]), original)
      process.kill(process.pid, 'SIGKILL')
    }
    return original(...args)
  }
  table[name] = Object.assign(replaced, original)
}
syncBuiltinESMExports()

/** As if it had died within: the first file below is gone. */
function removeSome(path: string, remove: (...args: unknown[]) => unknown): void {
  if (!fs.existsSync(path) || !fs.statSync(path).isDirectory()) return
  for (const entry of fs.readdirSync(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue
    remove(join(entry.parentPath, entry.name))
    return
  }
}

const { Repository } = await import('../../src/shadow/repository/repository.ts')
const { consolidate } = await import('../../src/shadow/repository/consolidate.ts')
const { prune } = await import('../../src/shadow/repository/prune.ts')
const { planRetention } = await import('../../src/shadow/repository/retention.ts')
const { Calendar } = await import('../../src/shadow/repository/calendar-period.ts')

isArmed = true
const repository = Repository.open(task.repository)
{
  using _lock = repository.lock()
  if (task.work === 'consolidate') await consolidate(repository, task.backup)
  else prune(repository, planRetention(repository.list(), { last: task.keepLast ?? 1 }, new Calendar('UTC')))
}
isArmed = false
process.stdout.write(`${count}\n`)
