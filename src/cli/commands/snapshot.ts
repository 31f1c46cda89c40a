// umbra snapshot: takes, lists, shows, deletes and pins snapshots, and rolls the present back to one.

import { Command } from 'commander'
import { UmbraError } from '../../base/errors.ts'
import { formatSize } from '../../base/units.ts'
import type { SnapshotDetails } from '../../daemon/control-protocol.ts'
import { openControl } from '../../daemon/open-control.ts'
import { rollBack } from '../../daemon/roll-back.ts'
import type { VolumeControl } from '../../daemon/volume-control.ts'
import {
  dateText,
  type JsonOption,
  listText,
  millisecondsText,
  printResult,
  tableText,
  visibleText,
} from '../output.ts'

export function snapshotCommand(): Command {
  const snapshot = new Command('snapshot').description('take, list and remove snapshots')
  for (const command of [create(), list(), show(), remove(), rollback(), pin(true), pin(false)]) {
    snapshot.addCommand(command)
  }
  return snapshot
}

function named(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument('<VOLUME>', 'volume file or mount point')
    .argument('<NAME>', 'name of the snapshot')
    .option('--json', 'print as JSON')
}

function create(): Command {
  return named('create', 'take a snapshot; of a mounted volume, everything written before is in it').action(
    async (argument: string, name: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: true })
      const taken = await control.volume.createSnapshot(name)
      const value = { ...taken.snapshot, flushMs: taken.flushMs, cutMs: taken.cutMs }
      printResult(
        options,
        value,
        () =>
          `snapshot ${visibleText(name)}: flush ${millisecondsText(taken.flushMs)}, cut ${millisecondsText(taken.cutMs)}`,
      )
    },
  )
}

function list(): Command {
  return new Command('list')
    .description('list the snapshots, oldest first')
    .argument('<VOLUME>', 'volume file or mount point')
    .option('--json', 'print as JSON')
    .action(async (argument: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: false })
      const all = await control.volume.listSnapshots()
      printResult(options, all.map(flat), () => snapshotsText(all))
    })
}

function show(): Command {
  return named('show', 'show one snapshot and what it holds').action(
    async (argument: string, name: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: false })
      const details = await control.volume.showSnapshot(name)
      printResult(options, flat(details), () => snapshotText(details))
    },
  )
}

interface DeleteOptions extends JsonOption {
  readonly keepBookmark?: boolean
  readonly dryRun?: boolean
}

function remove(): Command {
  return new Command('delete')
    .description('delete snapshots, one after the other up to the first that cannot be')
    .argument('<VOLUME>', 'volume file or mount point')
    .argument('<NAME...>', 'names of the snapshots')
    .option('--keep-bookmark', 'leave bookmarks of the same names, good as bases of later deltas')
    .option('--dry-run', 'only say what deleting all of them together would free')
    .option('--json', 'print as JSON')
    .action(async (argument: string, names: string[], options: DeleteOptions) => {
      await using control = await openControl(argument, { write: !options.dryRun })
      if (options.dryRun) {
        const freedBytes = await control.volume.freedIfDeleted(names)
        const value = { deleted: null, freedBytes }
        printResult(
          options,
          value,
          () => `deleting ${names.length === 1 ? 'it' : 'them'} frees ${formatSize(freedBytes)}`,
        )
        return
      }
      const done = await deleteInTurn(control.volume, names, options.keepBookmark ?? false)
      printResult(options, done.length === 1 ? done[0] : done, () =>
        done
          .map(
            (one) => `snapshot ${visibleText(one.deleted)} is deleted, ${formatSize(one.freedBytes)} freed`,
          )
          .join('\n'),
      )
    })
}

/** @throws UmbraError with the reason of the first that could not be deleted, and how many were before it */
async function deleteInTurn(
  volume: VolumeControl,
  names: readonly string[],
  keepBookmark: boolean,
): Promise<{ deleted: string; freedBytes: number }[]> {
  const done: { deleted: string; freedBytes: number }[] = []
  for (const name of names) {
    try {
      done.push({ deleted: name, ...(await volume.deleteSnapshot(name, keepBookmark)) })
    } catch (error) {
      if (names.length === 1 || !(error instanceof UmbraError)) throw error
      const count = `${done.length} of ${names.length} snapshots ${done.length === 1 ? 'is' : 'are'} deleted`
      const message = `${count}, ${JSON.stringify(name)} is not: ${error.message}`
      throw new UmbraError(error.code, message, { deleted: done.length, name }, error)
    }
  }
  return done
}

function rollback(): Command {
  return named(
    'rollback',
    'make the present what the snapshot is (unmounted volumes); undone by rolling back again',
  ).action(async (argument: string, name: string, options: JsonOption) => {
    const result = await rollBack(argument, name)
    printResult(
      options,
      { rolledBackTo: name, undo: result.undoName },
      () =>
        `the present is now what ${visibleText(name)} is; what it was is kept as snapshot ${result.undoName}`,
    )
  })
}

function pin(pinned: boolean): Command {
  const description = pinned ? 'keep a snapshot from being deleted' : 'take the pin off a snapshot'
  return named(pinned ? 'pin' : 'unpin', description).action(
    async (argument: string, name: string, options: JsonOption) => {
      await using control = await openControl(argument, { write: true })
      const snapshot = await control.volume.pinSnapshot(name, pinned)
      printResult(
        options,
        snapshot,
        () => `snapshot ${visibleText(name)} is ${pinned ? 'pinned' : 'no longer pinned'}`,
      )
    },
  )
}

/** The shape of a snapshot in JSON: the snapshot's fields and its sizes side by side. */
function flat(details: SnapshotDetails): object {
  return { ...details.snapshot, ...details.sizes }
}

function snapshotsText(all: readonly SnapshotDetails[]): string {
  if (all.length === 0) return 'no snapshots'
  return tableText(
    ['name', 'taken', 'epoch', 'unique', 'shared', ''],
    all.map(({ snapshot, sizes }) => [
      snapshot.name,
      dateText(snapshot.createdAtMs),
      String(snapshot.epoch),
      formatSize(sizes.uniqueBytes),
      formatSize(sizes.sharedBytes),
      snapshot.pinned ? 'pinned' : '',
    ]),
  )
}

function snapshotText({ snapshot, sizes }: SnapshotDetails): string {
  return listText([
    ['name', snapshot.name],
    ['id', snapshot.id],
    ['taken', dateText(snapshot.createdAtMs)],
    ['epoch', String(snapshot.epoch)],
    ['size', formatSize(snapshot.blockCount * 4096)],
    ['pinned', snapshot.pinned ? 'yes' : 'no'],
    ['refers to', formatSize(snapshot.referencedBytes)],
    ['unique', `${formatSize(sizes.uniqueBytes)}, freed if it is deleted`],
    ['shared', formatSize(sizes.sharedBytes)],
  ])
}
