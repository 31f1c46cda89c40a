// A requester that makes a shadow copy up to a step and then stays, to be killed there.
//
// Usage: shadow-requester.ts VOLUME CONTEXT NAME STEP     message out: reached

import { makeSet, type Step } from './shadow-sets.ts'

const [volume = '', context = 'backup', name = '', last = ''] = process.argv.slice(2)
const stay = setInterval(() => {}, 1000)
await makeSet({ teardown: () => {} }, [volume], {
  context: context as 'backup',
  name,
  after: async (step: Step) => {
    if (step !== last) return
    process.send?.({ type: 'reached' })
    await new Promise(() => {})
  },
})
clearInterval(stay)
