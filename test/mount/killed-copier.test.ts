// A program that is killed while it copies within the mount leaves an error behind in the kernel (EINTR,
// for times that it could not send); no sync and no snapshot may fail for it, for nothing is lost.

import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { makeLab, umbra } from './lab.ts'

const COPIER = fileURLToPath(new URL('./killed-copier.py', import.meta.url))

test(
  'programs killed in copy_file_range keep no sync and no snapshot from succeeding',
  requires('root', '/dev/fuse', 'e2fsck', 'python3', 'cmp'),
  async (t) => {
    const lab = await makeLab(t, '256M')
    await lab.mount()
    const compare = (...at: string[]) =>
      run('cmp', ['-n', '4096', '-i', '0:8192', join(lab.dir, 'from'), join(lab.dir, ...at, 'to')])
    for (const name of ['one', 'two']) {
      await run('python3', [COPIER, lab.dir, '10'])
      await umbra(['sync', lab.dir])
      await run('python3', [COPIER, lab.dir, '10'])
      await umbra(['snapshot', 'create', lab.dir, name])
      t.pass(`after twenty killed programs, ${name}`)
    }
    await compare()
    t.pass('and what was copied is there')
  },
)
