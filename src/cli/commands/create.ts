// umbra create: a new volume with an empty file system, or with the content of another tool's image.

import { Command } from 'commander'
import { formatSize, parseSize, TIB } from '../../base/units.ts'
import { createVolume } from '../../daemon/create-volume.ts'
import { importForeign } from '../../daemon/import-images.ts'
import { openControl } from '../../daemon/open-control.ts'
import { checkPolicy, DEFAULT_POLICY } from '../../volume/space-policy.ts'
import { withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'
import { type PolicyOptions, policyChange, withPolicyOptions } from '../policy-options.ts'

interface CreateOptions extends JsonOption, PolicyOptions {
  readonly size?: string
  readonly from?: string
  readonly label?: string
}

export function createCommand(): Command {
  const create = new Command('create').description('make a volume').argument('<VOLUME>', 'file to be made')
  return withPolicyOptions(
    create
      .option('--size <SIZE>', 'size of the file system in it, 1M to 16T, for example 10G')
      .option('--from <IMAGE>', 'fill it from an ext2, ext3 or ext4 image of any tool (raw or qcow2)')
      .option('--label <TEXT>', "the file system's label, at most 16 bytes"),
  )
    .option('--json', 'print as JSON')
    .action(async (path: string, options: CreateOptions, command: Command) => {
      const { size, from, label } = options
      if (size === undefined && from === undefined) {
        command.error("error: required option '--size <SIZE>' not specified")
      }
      const sizeBytes = size === undefined ? undefined : parseSize(size)
      const policy = policyChange(options, sizeBytes ?? TIB)
      checkPolicy({ ...DEFAULT_POLICY, ...policy })
      const made =
        from === undefined
          ? await createVolume(path, { sizeBytes: sizeBytes as number, label, policy })
          : await withLongWork('import', (work) => importForeign([from], path, { ...work, sizeBytes }))
      if (from !== undefined && Object.keys(policy).length > 0) {
        await using control = await openControl(path, { write: true })
        await control.volume.policy(policyChange(options, made.sizeBytes))
      }
      const converted = 'converted' in made && made.converted !== null ? made.converted : undefined
      const how = converted === undefined ? '' : `; copied into a fresh file system, because ${converted}`
      printResult(options, made, () => `${path}: ${formatSize(made.sizeBytes)}${how}`)
    })
}
