// umbra mount: serves a volume at a folder, by a daemon of its own or in the foreground.

import { resolve } from 'node:path'
import { Command, Option } from 'commander'
import { checkHooksFolder } from '../../daemon/hooks-folder.ts'
import { launchDaemon, type MountedOptions } from '../../daemon/launch.ts'
import { prepareMount } from '../../daemon/prepare-mount.ts'
import { type JsonOption, printResult } from '../output.ts'

interface MountOptions extends JsonOption {
  readonly foreground?: boolean
  readonly readOnly?: boolean
  readonly snapshot?: string
  readonly writeThrough?: boolean
  readonly allowOther?: boolean
  readonly accessTimes: boolean
  readonly hooks?: string
  readonly hooksInVolume?: boolean
  readonly driver: 'device' | 'fuse-native'
}

export function mountCommand(): Command {
  return new Command('mount')
    .description('mount a volume; returns when the mount is ready')
    .argument('<VOLUME>', 'volume file')
    .argument('<DIR>', 'an existing folder')
    .option('--foreground', 'serve in this process until it is unmounted or interrupted')
    .option('--read-only', 'refuse every change')
    .option('--snapshot <NAME>', 'mount this snapshot by itself, read-only')
    .option('--write-through', 'no write-back cache: a write has reached the volume when it returns')
    .option('--allow-other', 'let other users in (mounts made by root always do)')
    .option('--no-access-times', 'reading does not move access times (as with noatime; else relatime)')
    .option('--hooks <DIR>', 'folder of programs to be called around shadow copies; only you may write it')
    .option('--hooks-in-volume', 'allow the folder of hooks to lie in the volume itself')
    .addOption(
      new Option('--driver <NAME>', 'who talks to the kernel')
        .choices(['device', 'fuse-native'])
        .default('device'),
    )
    .option('--json', 'print as JSON')
    .action(async (volume: string, folder: string, options: MountOptions) => {
      const wanted = await prepareMount(volume, folder, {
        readOnly: (options.readOnly ?? false) || options.snapshot !== undefined,
        writeThrough: options.writeThrough ?? false,
        allowOther: options.allowOther ?? false,
        accessTimes: options.accessTimes,
        snapshot: options.snapshot ?? null,
        driver: options.driver,
        hooks: options.hooks === undefined ? null : resolve(options.hooks),
      })
      checkHooksFolder(wanted, options.hooksInVolume ?? false)
      await (options.foreground ? serveHere(wanted) : serveApart(wanted, options))
    })
}

async function serveApart(wanted: MountedOptions, options: JsonOption): Promise<void> {
  const { pid, socket } = await launchDaemon(wanted)
  const value = { volume: wanted.volumePath, mountPoint: wanted.mountPoint, daemon: { pid, socket } }
  printResult(options, value, () => '')
}

async function serveHere(wanted: MountedOptions): Promise<void> {
  const { runVolumeDaemon } = await import('../../daemon/volume-daemon.ts')
  const daemon = await runVolumeDaemon(wanted, { toTerminal: true })
  process.stderr.write(`umbra: ${wanted.volumePath} is mounted at ${wanted.mountPoint}\n`)
  await daemon.whenEnded
}
