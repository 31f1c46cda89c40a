// umbra doctor: what works on this machine and what does not, and why.

import { release } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Command, Option } from 'commander'
import { loadAddon, requireAddon } from '../../base/addon.ts'
import { UmbraError } from '../../base/errors.ts'
import {
  findMountModes,
  fuseDeviceTrouble,
  type MountMode,
  readNumber,
  tryMount,
} from '../../daemon/mount-modes.ts'
import { openRuntimeFolder } from '../../daemon/runtime-folder.ts'
import { type JsonOption, listText, printResult } from '../output.ts'

interface Diagnosis {
  readonly node: string
  readonly kernel: string
  readonly addon: string
  readonly fuseDevice: string
  readonly runtimeFolder: string
  readonly writeBack: string
  readonly mountModes: readonly MountMode[]
  /** At least one way of mounting works. */
  readonly canMount: boolean
}

const PAGE_BYTES = 4096

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('say which ways of mounting work on this machine, and why others do not')
    .addOption(new Option('--trial', 'only try to mount, as this process can').hideHelp())
    .option('--json', 'print as JSON')
    .action(async (options: JsonOption & { trial?: boolean }) => {
      if (options.trial) {
        await tryMount()
        return
      }
      const diagnosis = await diagnose()
      printResult(options, diagnosis, diagnosisText)
      if (!diagnosis.canMount) {
        throw new UmbraError(
          'UNAVAILABLE',
          loadAddon()
            ? 'No way of mounting works here; volumes that are not mounted and images do'
            : 'Without the native addon no volume can be locked, so none can be opened or mounted',
        )
      }
    })
}

async function diagnose(): Promise<Diagnosis> {
  const executable = fileURLToPath(new URL('../../../bin/umbra.js', import.meta.url))
  const { modes: mountModes, tuned } = await findMountModes(executable)
  return {
    node: process.version,
    kernel: release(),
    addon: attempt(() => {
      requireAddon()
      return 'loaded'
    }),
    fuseDevice: fuseDeviceTrouble() ?? 'there, and may be opened',
    runtimeFolder: attempt(openRuntimeFolder),
    writeBack: writeBackText(tuned),
    mountModes,
    canMount: mountModes.some((mode) => mode.possible),
  }
}

function attempt(work: () => string): string {
  try {
    return work()
  } catch (error) {
    return (error as Error).message
  }
}

function writeBackText(tuned: boolean | null): string {
  const pages = readNumber('/proc/sys/fs/fuse/max_pages_limit')
  const request =
    pages === undefined ? 'at most 1 MiB a request' : `at most ${(pages * PAGE_BYTES) / 1024} KiB a request`
  if (tuned === null) return request
  const raised = tuned
    ? 'read-ahead and write-back limits of a mount are raised'
    : 'read-ahead and write-back limits of a mount stay as the kernel sets them (raising them takes root)'
  return `${request}; ${raised}`
}

function diagnosisText(diagnosis: Diagnosis): string {
  return listText([
    ['Node.js', diagnosis.node],
    ['kernel', diagnosis.kernel],
    ['native addon', diagnosis.addon],
    ['/dev/fuse', diagnosis.fuseDevice],
    ['runtime folder', diagnosis.runtimeFolder],
    ['write-back', diagnosis.writeBack],
    ...diagnosis.mountModes.map(
      ({ mode, possible, reason }) => [`mount by ${mode}`, `${possible ? 'yes' : 'no'}: ${reason}`] as const,
    ),
  ])
}
