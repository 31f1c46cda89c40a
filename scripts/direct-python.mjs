// The PATH under which tests run python3: without the shim of a version manager, which takes ten times as
// long to start as the interpreter behind it, more than a thousand times in a run.
//
// Always true: the interpreter is the one that `python3` means anyway, and no other program is found
// elsewhere than before but what lies beside it.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** @param {string} path the PATH as it is @returns {string} */
export function pathToPython(path) {
  const { stdout } = spawnSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' })
  const folder = dirname((stdout ?? '').trim())
  const isElsewhere = folder.startsWith('/') && !path.split(':').includes(folder)
  return isElsewhere && !existsSync(join(folder, 'node')) ? `${folder}:${path}` : path
}
