// Runs care-child.ts: prune or consolidate, to its end or to its death.

import { fileURLToPath } from 'node:url'
import { run } from '../support/run.ts'

export interface CareTask {
  readonly work: 'prune' | 'consolidate'
  readonly backup?: string
  readonly keepLast?: number
  /** Dies at this call that changes the disk; 0 or undefined: never. */
  readonly killAt?: number
}

const CHILD = fileURLToPath(new URL('care-child.ts', import.meta.url))

/** @returns how many changes of the disk there were; null: it was killed */
export async function runCare(repository: string, task: CareTask): Promise<number | null> {
  const argument = JSON.stringify({ killAt: 0, ...task, repository })
  const result = await run(process.execPath, ['--import', 'tsx', CHILD, argument], { check: false })
  if (result.code >= 128) return null
  if (result.code === 0) return Number(result.stdout)
  throw new Error(`${task.work}: exit code ${result.code}\n${result.stderr}`)
}
