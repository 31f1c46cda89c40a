// umbra shadow create: one shadow copy set of several volumes, for as long as a command runs or for good.

import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Command, Option } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import type { ShadowProperties, WriterStatus } from '../../shadow/coordinator/requester-session.ts'
import type { SnapshotContext } from '../../shadow/documents/vocabulary.ts'
import { type Alias, shadowAliases } from '../../shadow/requester/shadow-shell/aliases.ts'
import { ShadowSetRun } from '../../shadow/requester/shadow-shell/shadow-set-run.ts'
import { withLongWork } from '../long-work.ts'
import { type JsonOption, printResult } from '../output.ts'
import { createdText } from '../shadow-text.ts'
import { type CommandWorld, commandWorld } from '../shadow-world.ts'
import { wholeNumber } from '../whole-number.ts'

interface CreateOptions extends JsonOption {
  readonly persistent?: boolean
  readonly clientAccessible?: boolean
  readonly writers: boolean
  readonly autoRecovery: boolean
  readonly rollbackRecovery?: boolean
  readonly name?: string
  readonly autoRetry?: number
  readonly exec?: string
  readonly verifyWriter?: string[]
  readonly excludeWriter?: string[]
  readonly saveDocuments?: string
  readonly saveVariables?: string
  readonly verbose?: boolean
}

export function shadowCreateCommand(): Command {
  return new Command('create')
    .description(
      'make a shadow copy set of volumes at one instant; without --persistent it goes with the command',
    )
    .argument('<VOLUME...>', 'volume files or mount points')
    .addOption(
      new Option(
        '--volatile',
        'gone when --exec is done, or at Enter, end of input or Ctrl-C (default)',
      ).conflicts(['persistent', 'clientAccessible']),
    )
    .option('--persistent', 'stays until it is deleted')
    .option('--client-accessible', 'stays, for previous versions; at most 64 of a volume, never exposed')
    .option('--no-writers', 'ask no writer; as after a power cut')
    .addOption(
      new Option('--no-auto-recovery', 'read-only at once: writers repair nothing in it').conflicts(
        'rollbackRecovery',
      ),
    )
    .option('--rollback-recovery', 'writers recover it for a rollback, not for a backup')
    .option('--name <NAME>', 'name of the snapshots (default from the id of the set)')
    .option('--auto-retry <MINUTES>', 'wait so long while another set is being made', wholeNumber)
    .option(
      '--exec <COMMAND>',
      'run by sh when it is made, with UMBRA_SHADOW_SET, UMBRA_SHADOW_1, UMBRA_SHADOW_PATH_1 and so on',
    )
    .option('--verify-writer <WRITER[:PATH/NAME]>', 'give up unless it takes part; may be repeated', collect)
    .option('--exclude-writer <WRITER[:PATH/NAME]>', 'leave it out; may be repeated', collect)
    .option('--save-documents <DIR>', 'save the documents of the set and of its writers there')
    .option('--save-variables <FILE>', 'write the variables of --exec there, to be read by sh')
    .option('--verbose', 'print every call, event and step to standard error')
    .option('--json', 'print as JSON')
    .action(async (volumes: string[], options: CreateOptions) => {
      await withLongWork('shadow', async ({ signal }) => {
        const isVerbose = (): boolean => options.verbose === true
        using world = commandWorld({ json: options.json === true, isVerbose, signal })
        await create(world, volumes, options, signal)
      })
    })
}

async function create(
  world: CommandWorld,
  volumes: readonly string[],
  options: CreateOptions,
  signal: AbortSignal,
): Promise<void> {
  const run = await ShadowSetRun.make(world, {
    volumes,
    name: options.name,
    context: contextOf(options),
    noAutoRecovery: !options.autoRecovery,
    rollbackRecovery: options.rollbackRecovery === true,
    backupType: 'copy',
    verify: options.verifyWriter ?? [],
    exclude: options.excludeWriter ?? [],
    waitMs: (options.autoRetry ?? 0) * 60_000,
    documents: options.saveDocuments ?? null,
    signal,
    onNote: (note) => options.verbose && world.onNote(note),
  })
  try {
    const aliases = shadowAliases(run.snapshotSetId, run.shadows).filter(({ name }) =>
      name.startsWith('UMBRA_'),
    )
    if (options.saveVariables !== undefined) writeEnvironment(options.saveVariables, aliases)
    if (options.exec !== undefined) await execute(world, options.exec, aliases)
    const statuses = await run.complete()
    printResult(options, summary(run, statuses), ({ shadows, timings }) =>
      createdText(run.snapshotSetId, shadows, timings),
    )
    if (run.isVolatile && options.exec === undefined) await untilGivenUp(signal)
  } finally {
    await run.close()
  }
}

function contextOf({ persistent, clientAccessible, writers }: CreateOptions): SnapshotContext {
  if (clientAccessible) return writers ? 'client-accessible-writers' : 'client-accessible'
  if (persistent) return writers ? 'app-rollback' : 'nas-rollback'
  return writers ? 'backup' : 'file-share-backup'
}

function summary(run: ShadowSetRun, writers: readonly WriterStatus[]) {
  const { snapshotSetId, timings, isVolatile } = run
  const shadows: readonly ShadowProperties[] = run.shadows
  return { snapshotSetId, isVolatile, shadows, timings, writers }
}

/** @throws UmbraError IO_FAILED when it fails: nothing was backed up then */
async function execute(world: CommandWorld, command: string, aliases: readonly Alias[]): Promise<void> {
  const environment = Object.fromEntries(aliases.map(({ name, value }) => [name, value]))
  const exitCode = await world.run('/bin/sh', ['-c', command], environment)
  if (exitCode !== 0)
    throw new UmbraError('IO_FAILED', `The command ended with exit code ${exitCode}`, { exitCode })
}

/** @throws UmbraError NOT_FOUND when it cannot be written */
function writeEnvironment(file: string, aliases: readonly Alias[]): void {
  const lines = aliases.map(({ name, value }) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`)
  try {
    writeFileSync(file, lines.join(''))
  } catch (error) {
    throw new UmbraError('NOT_FOUND', `Cannot write ${file}: ${(error as Error).message}`, { file }, error)
  }
}

/** Enter and the end of input are the orderly ends. @throws UmbraError ABORTED */
async function untilGivenUp(signal: AbortSignal): Promise<void> {
  if (process.stdin.isTTY) process.stderr.write('Enter lets the shadow copies go\n')
  const lines = createInterface({ input: process.stdin })
  try {
    await new Promise<void>((done) => {
      lines.once('line', () => done())
      lines.once('close', done)
      signal.addEventListener('abort', () => done(), { once: true })
      if (signal.aborted) done()
    })
  } finally {
    lines.close()
    process.stdin.destroy()
  }
}

function collect(value: string, before: string[] | undefined): string[] {
  return [...(before ?? []), value]
}
