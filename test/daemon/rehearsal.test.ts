// The rehearsal of a mount: that its requests are understood, all of them, and that it can be stopped.

import test from 'brittle'
import { rehearse } from '../../src/daemon/rehearsal.ts'

const HASTY = { sliceMs: 50, pauseMs: 0, turnCount: 1300 }

/** The rehearsal's own timers keep no process alive. */
async function awake<T>(promise: Promise<T>): Promise<T> {
  const timer = setInterval(() => {}, 1000)
  try {
    return await promise
  } finally {
    clearInterval(timer)
  }
}

test('every request of a rehearsal is answered well, past the first removals', async (t) => {
  t.is(await awake(rehearse(HASTY).whenEnded), 'played')
})

test('a rehearsal can be stopped before and while it plays', async (t) => {
  const unborn = rehearse(HASTY)
  unborn.stop()
  t.is(await awake(unborn.whenEnded), 'stopped')
  const begun = rehearse({ ...HASTY, sliceMs: 1, turnCount: 1_000_000 })
  await new Promise((resolve) => setTimeout(resolve, 300))
  begun.stop()
  t.is(await awake(begun.whenEnded), 'stopped')
})
