// umbra diff: exactly which blocks differ between two points of a volume's history.

import { Command, Option } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { BLOCK_SIZE_BYTES, formatSize } from '../../base/units.ts'
import { withPoints, withPresent } from '../../daemon/point-access.ts'
import { writeOutput } from '../../image/output.ts'
import { packBitmap } from '../../volume/dirty-bitmap.ts'
import type { DeltaExtent } from '../../volume/points.ts'
import { type JsonOption, printResult } from '../output.ts'
import { diffFiles } from './diff-files.ts'

const CHUNK_BYTES = 64 * 1024

type Format = 'extents' | 'bitmap' | 'paths' | 'deleted'

interface DiffOptions extends JsonOption {
  readonly format?: Format
  readonly files?: boolean
  readonly null?: boolean
  readonly skipDirectories?: boolean
  readonly output?: string
}

interface Difference {
  readonly from: string
  readonly to: string | null
  readonly changedBytes: number
  readonly dataBytes: number
  readonly zeroBytes: number
  readonly extents: readonly { kind: 'data' | 'zero'; offsetBytes: number; lengthBytes: number }[]
}

export function diffCommand(): Command {
  return new Command('diff')
    .description('list what changed between two points')
    .argument('<VOLUME>', 'volume file or mount point')
    .argument('<FROM>', 'snapshot or bookmark')
    .argument('[TO]', 'snapshot; the present if it is left out')
    .option('--files', 'list the files that differ, with the byte ranges of those that changed')
    .addOption(
      new Option(
        '--format <FORMAT>',
        'extents (the default), or a bitmap of one bit for each 4 KiB block, lowest bit first; with --files: paths to copy (created, changed, renamed), or deleted ones, deepest first',
      ).choices(['extents', 'bitmap', 'paths', 'deleted']),
    )
    .option(
      '-0, --null',
      'end each path of a list with a NUL: tar --null -T, rsync -0, restic --files-from-raw',
    )
    .option(
      '--skip-directories',
      'of directories only new and moved ones in the paths to copy: for restic, which takes all that is in them',
    )
    .option('-o, --output <FILE>', 'file for the bitmap or list; standard output if it is left out')
    .option('--json', 'print the extents or files as JSON')
    .action(async (volume: string, from: string, to: string | undefined, options: DiffOptions) => {
      checkFormat(options)
      if (options.files) return await diffFiles(volume, from, to, options)
      const { extents, blockCount } = await deltaBetween(volume, from, to)
      if (options.format === 'bitmap') await writeBitmap(extents, blockCount, options.output)
      else printResult(options, describe(from, to ?? null, extents), differenceText)
    })
}

/** @throws UmbraError INVALID_ARGUMENT for options that do not go together */
function checkFormat({ format, files, null: isNull, skipDirectories }: DiffOptions): void {
  const isList = format === 'paths' || format === 'deleted'
  if (isList !== (files === true) && format !== undefined) {
    throw new UmbraError(
      'INVALID_ARGUMENT',
      isList ? `--format ${format} needs --files` : `--format ${format} does not go with --files`,
    )
  }
  if (isNull && !isList) throw new UmbraError('INVALID_ARGUMENT', '-0 needs --format paths or deleted')
  if (skipDirectories && format !== 'paths') {
    throw new UmbraError('INVALID_ARGUMENT', '--skip-directories needs --format paths')
  }
}

async function deltaBetween(
  volume: string,
  from: string,
  to: string | undefined,
): Promise<{ extents: DeltaExtent[]; blockCount: number }> {
  if (to === undefined) {
    return withPresent(volume, [from], async (access, present) => ({
      extents: [...access.delta(access.point(from), present)],
      blockCount: present.blockCount,
    }))
  }
  return withPoints(volume, [from, to], async (access) => {
    const target = access.snapshot(to)
    return { extents: [...access.delta(access.point(from), target)], blockCount: target.blockCount }
  })
}

function describe(from: string, to: string | null, extents: readonly DeltaExtent[]): Difference {
  const bytesOf = (kind: 'data' | 'zero') =>
    extents.reduce((sum, extent) => sum + (extent.kind === kind ? extent.blockCount : 0), 0) *
    BLOCK_SIZE_BYTES
  const dataBytes = bytesOf('data')
  const zeroBytes = bytesOf('zero')
  return {
    from,
    to,
    changedBytes: dataBytes + zeroBytes,
    dataBytes,
    zeroBytes,
    extents: extents.map(({ kind, blockIndex, blockCount }) => ({
      kind,
      offsetBytes: blockIndex * BLOCK_SIZE_BYTES,
      lengthBytes: blockCount * BLOCK_SIZE_BYTES,
    })),
  }
}

function differenceText(difference: Difference): string {
  const lines = difference.extents.map(
    ({ kind, offsetBytes, lengthBytes }) => `${kind} ${offsetBytes} ${lengthBytes}`,
  )
  const total = `${formatSize(difference.dataBytes)} of data, ${formatSize(difference.zeroBytes)} of zeros`
  return [...lines, `total: ${total}`].join('\n')
}

async function writeBitmap(
  extents: readonly DeltaExtent[],
  blockCount: number,
  output: string | undefined,
): Promise<void> {
  const bytes = Buffer.alloc(Math.ceil(blockCount / 8))
  for (const chunk of packBitmap(extents, { blockCount }, CHUNK_BYTES)) {
    bytes.set(chunk.bytes.subarray(0, bytes.byteLength - chunk.offsetBytes), chunk.offsetBytes)
  }
  if (output === undefined) process.stdout.write(bytes)
  else await writeOutput(output, {}, async (file) => file.write(0, bytes.byteLength, bytes, 0))
}
