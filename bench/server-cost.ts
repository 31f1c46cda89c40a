// What a server has cost so far, as the kernel keeps it: CPU time and memory of its process.

import { readFileSync } from 'node:fs'

/** USER_HZ of every Linux that Node.js runs on. */
const TICKS_PER_SECOND = 100

/** User and system time of the processes together. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0
  for (const pid of pids) {
    // The name in parentheses may hold anything; what follows does not. Fields 14 and 15, from 1.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    ticks += Number(fields[11]) + Number(fields[12])
  }
  return ticks / TICKS_PER_SECOND
}

export function residentBytes(pid: number): { residentNow: number; residentPeak: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const of = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1]) * 1024
  return { residentNow: of('VmRSS'), residentPeak: of('VmHWM') }
}
