// umbra shadow: shadow copy sets as vssadmin, diskshadow and vshadow offer them, under names of our own.

import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { reexposeSnapshots } from '../../daemon/exposures.ts'
import { VolumeShadowStore } from '../../daemon/volume-shadow-store.ts'
import type { ShadowProperties } from '../../shadow/coordinator/requester-session.ts'
import {
  findShadows,
  type ShadowChoice,
  type ShadowStore,
} from '../../shadow/requester/shadow-shell/shadow-store.ts'
import { EXIT_PARTIAL } from '../exit-codes.ts'
import { type JsonOption, printResult, tableText, visibleText } from '../output.ts'
import { providersText, revertText, shadowsText } from '../shadow-text.ts'
import { shadowCreateCommand } from './shadow-create.ts'
import { shadowDeleteCommand } from './shadow-delete.ts'
import { shadowScriptCommand, shadowShellCommand } from './shadow-script.ts'

interface VolumeOption extends JsonOption {
  readonly volume?: string
}

const VOLUME_HELP = 'look at this volume too: one that is not mounted is known by its name alone'

export function shadowCommand(): Command {
  const shadow = new Command('shadow').description(
    'make, list, expose and delete shadow copies of several volumes',
  )
  for (const command of [
    shadowCreateCommand(),
    list(),
    shadowDeleteCommand(),
    expose(),
    unexpose(),
    reexpose(),
    revert(),
    providers(),
    volumes(),
    shadowScriptCommand(),
    shadowShellCommand(),
  ]) {
    shadow.addCommand(command)
  }
  return shadow
}

function list(): Command {
  return new Command('list')
    .description('list shadow copies with all their properties, set by set')
    .option('--volume <VOLUME>', 'of this volume (else of every volume that is known)')
    .option('--set <ID>', 'of this set')
    .option('--id <ID>', 'this one')
    .option('--json', 'print as JSON')
    .action(async ({ volume, set, id, ...options }: VolumeOption & { set?: string; id?: string }) => {
      const store = new VolumeShadowStore()
      const choice: ShadowChoice = volume === undefined ? { by: 'all' } : { by: 'volume', volume }
      const all = await findShadows(store, choice)
      const shown = all.filter(
        (shadow) =>
          (set === undefined || shadow.snapshotSetId === set.toLowerCase()) &&
          (id === undefined || shadow.snapshotId === id.toLowerCase()),
      )
      if (shown.length === 0 && (set !== undefined || id !== undefined))
        throw new UmbraError(
          'NOT_FOUND',
          `There is no shadow copy ${[id, set === undefined ? undefined : `of set ${set}`].filter((part) => part !== undefined).join(' ')} on a volume that is known; for one that is not mounted, say --volume`,
        )
      printResult(options, shown, shadowsText)
    })
}

/** @throws UmbraError NOT_FOUND */
async function shadowOf(
  store: ShadowStore,
  id: string,
  volume: string | undefined,
): Promise<ShadowProperties> {
  const found = await findShadows(store, { by: 'id', id }, volume === undefined ? [] : [volume])
  // findShadows() throws where there is none.
  return found[0] as ShadowProperties
}

function expose(): Command {
  return new Command('expose')
    .description('mount a persistent shadow copy by itself, read-only, and remember that')
    .argument('<ID>', 'id of the shadow copy')
    .argument('<DIR>', 'an existing folder')
    .option('--volume <VOLUME>', VOLUME_HELP)
    .option('--json', 'print as JSON')
    .action(async (id: string, folder: string, { volume, ...options }: VolumeOption) => {
      const store = new VolumeShadowStore()
      const exposure = await store.expose(await shadowOf(store, id, volume), folder)
      printResult(
        options,
        exposure,
        () => `${exposure.snapshotId} is exposed at ${visibleText(exposure.mountPoint)}`,
      )
    })
}

function unexpose(): Command {
  return new Command('unexpose')
    .description('unmount a shadow copy that is exposed; it stays')
    .argument('<ID|DIR>', 'its id, or where it is exposed')
    .option('--json', 'print as JSON')
    .action(async (idOrFolder: string, options: JsonOption) => {
      const exposure = await new VolumeShadowStore().unexpose(idOrFolder)
      printResult(
        options,
        exposure,
        () => `${exposure.snapshotId} is no longer exposed at ${visibleText(exposure.mountPoint)}`,
      )
    })
}

function reexpose(): Command {
  return new Command('reexpose')
    .description('mount again what a restart took away of what is exposed; for the start of the machine')
    .option('--json', 'print as JSON')
    .action(async (options: JsonOption) => {
      const results = (await reexposeSnapshots()).map(({ exposure, failure }) => ({
        ...exposure,
        failure: failure?.message ?? null,
      }))
      printResult(options, results, () =>
        results
          .map(({ snapshotId, mountPoint, failure }) =>
            visibleText(`${snapshotId} at ${mountPoint}: ${failure ?? 'exposed'}`),
          )
          .join('\n'),
      )
      if (results.some(({ failure }) => failure !== null)) process.exitCode = EXIT_PARTIAL
    })
}

function revert(): Command {
  return new Command('revert')
    .description('make a volume what a persistent shadow copy of it is; what it was is kept as a snapshot')
    .argument('<ID>', 'id of the shadow copy')
    .option('--force', 'unmount the volume for that, also while files are open')
    .option('--volume <VOLUME>', VOLUME_HELP)
    .option('--json', 'print as JSON')
    .action(async (id: string, { volume, force, ...options }: VolumeOption & { force?: boolean }) => {
      const store = new VolumeShadowStore()
      const result = await store.revert(await shadowOf(store, id, volume), force === true)
      printResult(options, result, revertText)
    })
}

function providers(): Command {
  return new Command('providers')
    .description('list what makes shadow copies')
    .option('--json', 'print as JSON')
    .action((options: JsonOption) => {
      printResult(options, [new VolumeShadowStore().provider], providersText)
    })
}

function volumes(): Command {
  return new Command('volumes')
    .description('list the volumes that are known and of which shadow copies can be made')
    .option('--json', 'print as JSON')
    .action(async (options: JsonOption) => {
      printResult(options, await new VolumeShadowStore().volumes(), (all) =>
        all.length === 0
          ? 'no volume is served'
          : tableText(
              ['volume', 'mount point', 'uuid'],
              all.map(({ volume, mountPoint, uuid }) => [volume, mountPoint ?? '-', uuid]),
            ),
      )
    })
}
