// A change of files that kills its process before a step: arguments are the folder and the number of the step.

import { join } from 'node:path'
import { Pace } from '../../src/image/pace.ts'
import type { NodeAttributes } from '../../src/shadow/requester/restore/disk-node.ts'
import { makeFile, wholeContent } from '../../src/shadow/requester/restore/file-content.ts'
import { TreeChange } from '../../src/shadow/requester/restore/tree-change.ts'

const FILE: NodeAttributes = { mode: 0o100640, uid: 0, gid: 0, mtimeNs: '2000000000' }

const [folder = '', killAt = ''] = process.argv.slice(2)
const target = (name: string): string => join(folder, 'target', name)
let step = 0
const change = new TreeChange({
  title: 'killed',
  journalFolder: join(folder, 'journals'),
  roots: [join(folder, 'target')],
  onStep: () => {
    if (step++ === Number(killAt)) process.kill(process.pid, 'SIGKILL')
  },
})
change.remove(target('gone'))
change.put(
  target('old'),
  (staged) => makeFile(staged, 'old', wholeContent(join(folder, 'stored'), 8), new Pace(0, {})),
  FILE,
  true,
)
change.attributes(target('kept'), FILE)
change.attributes(target('other'), FILE)
await change.apply()
