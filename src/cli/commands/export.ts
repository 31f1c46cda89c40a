// umbra export: a snapshot as an image that other tools read, whole or as what changed since a point.
//
// Always true: it runs in its own process against the volume file while the mount stays in use; the
// output file appears whole or not at all.

import { statSync } from 'node:fs'
import { dirname, extname, isAbsolute, relative, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import { imageSource, withPoints } from '../../daemon/point-access.ts'
import { openLayer } from '../../image/open-layer.ts'
import { writeQcow2 } from '../../image/qcow2-writer.ts'
import { streamRaw, writeRaw } from '../../image/raw-writer.ts'
import { type Work, withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'

interface ExportOptions extends JsonOption {
  readonly since?: string
  readonly backing?: string
  readonly format: 'raw' | 'qcow2'
  readonly output?: string
  readonly force?: boolean
}

export function exportCommand(): Command {
  return new Command('export')
    .description('write a snapshot, or what changed up to it, as an image')
    .argument('<VOLUME>', 'volume file or mount point')
    .argument('<SNAPSHOT>', 'the snapshot to export')
    .option('--since <FROM>', 'only what changed since this snapshot or bookmark (qcow2)')
    .option('--backing <FILE>', 'name this image as the backing file of a delta')
    .addOption(
      new Option('--format <FORMAT>', 'format of the image').choices(['raw', 'qcow2']).makeOptionMandatory(),
    )
    .option('-o, --output <FILE>', 'file to be made; without it a raw image goes to standard output')
    .option('--force', 'replace an existing file')
    .option('--json', 'print what was written as JSON (with -o)')
    .action(async (volume: string, snapshot: string, options: ExportOptions) => {
      checkOptions(options)
      const written = await withLongWork('export', (work) => exportImage(volume, snapshot, options, work))
      if (options.output === undefined) return
      printResult(
        options,
        { file: options.output, ...written },
        () => `${options.output}: ${formatSize(written.dataBytes)} of data`,
      )
    })
}

function checkOptions(options: ExportOptions): void {
  const wrong =
    options.format === 'raw' && options.since !== undefined
      ? 'A raw image is always full; write a delta as qcow2'
      : options.format === 'qcow2' && options.output === undefined
        ? 'A qcow2 image needs a file: give -o FILE'
        : options.backing !== undefined && options.since === undefined
          ? '--backing goes with --since: a full image has no backing file'
          : options.json && options.output === undefined
            ? '--json goes with -o FILE: standard output carries the image'
            : undefined
  if (wrong) throw new UmbraError('INVALID_ARGUMENT', wrong)
}

function exportImage(
  volume: string,
  snapshot: string,
  options: ExportOptions,
  work: Work,
): Promise<{ dataBytes: number; fileBytes: number; digest: string | null }> {
  const names = options.since === undefined ? [snapshot] : [snapshot, options.since]
  return withPoints(volume, names, async (access) => {
    const source = imageSource(access, snapshot, options.since ?? null)
    const { output, backing, since } = options
    const how = { ...work, force: options.force ?? false }
    const written =
      output === undefined
        ? await streamRaw(source, process.stdout, work)
        : options.format === 'raw'
          ? await writeRaw(source, output, how)
          : await writeQcow2(source, output, {
              ...how,
              backing: backing === undefined || since === undefined ? undefined : backingOf(output, backing),
            })
    return { dataBytes: written.dataBytes, fileBytes: written.fileBytes, digest: written.identity.digest }
  })
}

/** The name is written relative to the new image's folder, unless it was given absolute. */
function backingOf(output: string, backing: string): { name: string; format: string | null } {
  if (isSameFile(output, backing))
    throw new UmbraError('INVALID_ARGUMENT', `${output} is the backing file, and not replaced`)
  const layer = openLayer(backing)
  const format = layer.format
  layer.close()
  const name = isAbsolute(backing) ? backing : relative(dirname(resolve(output)), resolve(backing))
  return { name, format: format ?? extname(backing).slice(1) }
}

function isSameFile(path: string, other: string): boolean {
  const [a, b] = [path, other].map((name) => statSync(name, { throwIfNoEntry: false }))
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino
}
