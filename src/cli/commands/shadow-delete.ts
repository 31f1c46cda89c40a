// umbra shadow delete: shadow copies by id, set, volume, age or exposure, one after another.

import { createInterface } from 'node:readline/promises'
import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { VolumeShadowStore } from '../../daemon/volume-shadow-store.ts'
import {
  deleteShadows,
  findShadows,
  type ShadowChoice,
} from '../../shadow/requester/shadow-shell/shadow-store.ts'
import { type JsonOption, printResult } from '../output.ts'
import { countText } from '../shadow-text.ts'

interface DeleteOptions extends JsonOption {
  readonly id?: string
  readonly set?: string
  readonly oldest?: string
  readonly volume?: string
  readonly exposed?: string
  readonly all?: boolean
  readonly quiet?: boolean
}

export function shadowDeleteCommand(): Command {
  return new Command('delete')
    .description('delete shadow copies, one after the other up to the first that cannot be')
    .option('--id <ID>', 'this one')
    .option('--set <ID>', 'those of this set')
    .option('--oldest <VOLUME>', 'the oldest of this volume')
    .option('--volume <VOLUME>', 'all of this volume; with --id or --set: the volume to look at')
    .option('--exposed <DIR>', 'the one that is exposed there')
    .option('--all', 'all of every volume that is known')
    .option('--quiet', 'do not ask, at a terminal')
    .option('--json', 'print as JSON')
    .action(async (options: DeleteOptions) => {
      const choice = choiceOf(options)
      const store = new VolumeShadowStore()
      const more = options.volume === undefined ? [] : [options.volume]
      const shadows = await findShadows(store, choice, more)
      if (!options.quiet && shadows.length > 0) await ask(`Delete ${countText(shadows.length)}? `)
      printResult(options, await deleteShadows(store, shadows), ({ count }) => `${countText(count)} deleted`)
    })
}

/** @throws UmbraError INVALID_ARGUMENT unless there is one way */
function choiceOf({ id, set, oldest, volume, exposed, all }: DeleteOptions): ShadowChoice {
  const ways: ShadowChoice[] = []
  if (id !== undefined) ways.push({ by: 'id', id })
  if (set !== undefined) ways.push({ by: 'set', id: set })
  if (oldest !== undefined) ways.push({ by: 'oldest', volume: oldest })
  if (exposed !== undefined) ways.push({ by: 'exposed', folder: exposed })
  if (all) ways.push({ by: 'all' })
  if (ways.length === 0 && volume !== undefined) return { by: 'volume', volume }
  const [way] = ways
  const mayNameVolume = way?.by === 'id' || way?.by === 'set'
  if (way && ways.length === 1 && (volume === undefined || mayNameVolume)) return way
  throw new UmbraError(
    'INVALID_ARGUMENT',
    'Say which, in one way: --id, --set, --oldest, --volume, --exposed or --all',
  )
}

/** At a terminal alone: a script has said what it wants. @throws UmbraError ABORTED */
async function ask(question: string): Promise<void> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    if (/^y(es)?$/i.test((await lines.question(question)).trim())) return
  } finally {
    lines.close()
  }
  throw new UmbraError('ABORTED', 'Nothing is deleted')
}
