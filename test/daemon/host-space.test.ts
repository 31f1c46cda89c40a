// The host's free space as statfs needs it: asked rarely, late answers waited for only so long.

import test from 'brittle'
import { HostSpace } from '../../src/daemon/host-space.ts'

test('the host is asked at most once a second, and only when somebody wants to know', async (t) => {
  let nowMs = 0
  let asked = 0
  const space = new HostSpace(
    async () => ++asked * 100,
    () => nowMs,
  )
  t.is(asked, 0)
  const first = space.availableBytes()
  t.ok(first instanceof Promise)
  t.is(space.availableBytes(), first, 'who asks meanwhile waits for the same answer')
  await first
  t.is(space.availableBytes(), 100)
  nowMs = 999
  t.is(space.availableBytes(), 100)
  t.is(asked, 1)
  nowMs = 1000
  await space.availableBytes()
  t.is(space.availableBytes(), 200)
  t.is(asked, 2)
})

test('a host that fails limits nothing; one that does not answer keeps nobody waiting', async (t) => {
  let nowMs = 0
  let answer: () => Promise<number> = () => Promise.reject(new Error('no'))
  const space = new HostSpace(
    () => answer(),
    () => nowMs,
  )
  await space.availableBytes()
  t.is(space.availableBytes(), undefined)

  let settle: (bytes: number) => void = () => {}
  answer = () =>
    new Promise((resolve) => {
      settle = resolve
    })
  nowMs = 2000
  // Past the deadline, without the host's answer.
  const keepAlive = setTimeout(() => {}, 10_000)
  await space.availableBytes()
  clearTimeout(keepAlive)
  t.is(space.availableBytes(), undefined, 'the old answer serves on')
  settle(7)
  await new Promise((resolve) => setImmediate(resolve))
  t.is(space.availableBytes(), 7, 'the late one is taken')
})
