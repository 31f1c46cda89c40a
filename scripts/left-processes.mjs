// Finds processes that a test file left running: daemons leave its process group and session, but they
// inherit its environment, where the runner puts a mark of its own for each file.
//
// Always true: a process is found by the mark alone, so those of other runs are never taken for ours.

import { readdirSync, readFileSync } from 'node:fs'

export const MARK = 'UMBRA_TEST_FILE'

/**
 * @param {string} mark value of the variable MARK in the environment of what is looked for
 * @returns {{ pid: number, command: string }[]}
 */
export function findLeftProcesses(mark) {
  const entry = `${MARK}=${mark}`
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && hasEntry(Number(name), entry))
    .map((name) => ({ pid: Number(name), command: commandOf(Number(name)) }))
}

/**
 * Gives what is about to end a moment for it.
 *
 * @param {string} mark
 * @param {number} timeoutMs
 */
export async function awaitLeftProcesses(mark, timeoutMs) {
  const deadlineMs = Date.now() + timeoutMs
  for (;;) {
    const left = findLeftProcesses(mark)
    if (left.length === 0 || Date.now() >= deadlineMs) return left
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function hasEntry(pid, entry) {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(entry)
  } catch {
    // It has ended, or is another user's.
    return false
  }
}

function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim().slice(0, 120)
  } catch {
    return 'ended'
  }
}
