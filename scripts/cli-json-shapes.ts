// What each command prints with --json, as docs/CLI.md has it. A test runs every command and holds its
// output against this table, so a field that comes, goes or changes its type turns it red.

/** Name, type (`a | b` where it may be either), meaning. */
export type Field = readonly [name: string, type: string, meaning: string]

export interface Shape {
  /** The command prints an array of these. */
  readonly list?: true
  readonly note?: string
  readonly fields: readonly Field[]
}

const DAEMON = '`{pid, socket}` of the process that serves it'
const POINT = '`{id, epoch, name, createdAtMs}`'

const SNAPSHOT: readonly Field[] = [
  ['kind', 'string', '`snapshot`'],
  ['id', 'string', 'UUID'],
  ['name', 'string', 'its name'],
  ['epoch', 'number', 'the epoch that it ended'],
  ['createdAtMs', 'number', 'when it was taken, milliseconds since 1970'],
  ['pinned', 'boolean', 'kept from being deleted'],
  ['blockCount', 'number', 'size of the volume, in blocks of 4096 bytes'],
  ['root', 'object', 'where its tree is in the volume file'],
  ['referencedBytes', 'number', 'what it refers to, shared or not'],
  ['shadow', 'object | null', '`{setId, setCount, attributes}` of a shadow copy'],
]
const SIZES: readonly Field[] = [
  ['uniqueBytes', 'number', 'what deleting it frees'],
  ['sharedBytes', 'number', 'what it shares with its neighbours or the present'],
]
const BOOKMARK: readonly Field[] = [
  ['kind', 'string', '`bookmark`'],
  ['id', 'string', 'UUID'],
  ['name', 'string', 'its name'],
  ['epoch', 'number', 'the epoch that it ended'],
  ['createdAtMs', 'number', 'when it was made, milliseconds since 1970'],
  ['blockCount', 'number', 'size of the volume then, in blocks'],
  ['window', 'object | null', '`{root, runCount}`: the blocks that an auto-recovery window changed in it'],
]
const FAULT =
  '`{kind: "area-full", cause: "limit" | "host", sinceMs, message}` while live writes are refused for the snapshots'
const EVENTS =
  'of `{kind: "warning" | "evicted" | "area-full" | "room-again", atMs, message, snapshot, usedBytes, limitBytes}` about the room of snapshots since the volume was opened, oldest first'
const STATUS: readonly Field[] = [
  ['volume', 'string', 'path of the volume file'],
  ['uuid', 'string', "the volume's UUID"],
  ['mountPoint', 'string | null', 'where it is mounted'],
  ['daemon', 'object | null', DAEMON],
  ['state', 'string', '`serving`, `failed` (read-only, with a reason) or `unmounted`'],
  ['reason', 'string | null', 'why it failed'],
  ['readOnly', 'boolean', 'nothing can be changed'],
  ['mountedSnapshot', 'string | null', 'the snapshot that is mounted by itself (`mount --snapshot`)'],
  ['hooks', 'string | null', 'the folder of hooks given to the mount'],
  ['epoch', 'number', 'counts snapshots and bookmarks'],
  ['transaction', 'number', 'the one that is being collected'],
  ['durableTransaction', 'number', 'the last one that is durable'],
  ['sizeBytes', 'number', 'size of the file system'],
  ['snapshots', 'number', 'how many there are'],
  ['bookmarks', 'number', 'how many there are'],
  [
    'space',
    'object',
    '`{liveBytes, snapshotBytes, allocatedBytes, pendingFreeBytes, virtualBytes}`: of the present; held by snapshots alone; in the volume file; still to be given back; size',
  ],
  ['policy', 'object', '`{snapshotLimitBytes, whenFull, snapshotCountLimit}`, as `policy` has them'],
  ['fault', 'object | null', FAULT],
  ['events', 'array', `the last 8 ${EVENTS}`],
]

const WRITER_STATUS: readonly Field[] = [
  ['classId', 'string', 'UUID of its kind'],
  ['instanceId', 'string', 'UUID, new at each start of the writer'],
  ['name', 'string', 'its name; where it comes from if it did not identify itself'],
  ['instanceName', 'string', 'tells the instances of one kind apart; may be empty'],
  ['state', 'string', "one of VSS's writer states, `stable` where nothing is under way"],
  ['result', 'string', '`ok`, or how its last event failed'],
  ['message', 'string | null', 'what it said to that'],
]

const SHADOW: readonly Field[] = [
  ['snapshotId', 'string', 'UUID of the shadow copy'],
  ['snapshotSetId', 'string', 'UUID of its set'],
  ['setCount', 'number', 'how many there were in the set at first'],
  ['devicePath', 'string | null', 'where it can be read; null: not mounted'],
  ['originalVolume', 'string', 'path of the volume file'],
  ['volumeUuid', 'string', "the volume's UUID"],
  ['mountPoint', 'string | null', 'where the volume is mounted'],
  ['snapshotName', 'string', "the snapshot's name"],
  ['originatingMachine', 'string', 'where it was made'],
  ['serviceMachine', 'string', 'where it is'],
  ['exposedName', 'string | null', 'the folder where it is exposed'],
  ['exposedPath', 'string | null', 'always null: parts are not exposed'],
  ['provider', 'string', 'UUID of what made it'],
  ['attributes', 'number', "sum of VSS's attribute bits"],
  ['createdAtMs', 'number', 'its instant, milliseconds since 1970'],
  ['state', 'string', '`created`: others are not seen'],
  ['epoch', 'number', 'the epoch that it ended'],
]
const EXPOSURE: readonly Field[] = [
  ['volume', 'string', 'path of the volume file'],
  ['snapshotId', 'string', 'UUID of the shadow copy'],
  ['mountPoint', 'string', 'the folder'],
]
const SCRIPT: Shape = {
  list: true,
  note: 'one for each command that was carried out',
  fields: [
    ['line', 'number', 'where it stands, from 1'],
    ['command', 'string', 'its verb'],
    [
      'result',
      'object',
      '`{kind}` and, by its kind: `snapshotSetId`, `shadows`, `timings`, `aliases`; `volumes`; `exitCode`; `statuses`; `writers`; `providers`; `count`, `deleted`; `exposure`; `revert`; `settings`; `lines`',
    ],
  ],
}

export const JSON_SHAPES: Readonly<Record<string, Shape>> = {
  create: {
    note: 'with `--from` also `dataBytes`, `point` (null) and `converted`: why the file system was copied into a fresh one, or null',
    fields: [
      ['volume', 'string', 'path of the new file'],
      ['uuid', 'string', "the volume's UUID"],
      ['sizeBytes', 'number', 'size of the file system'],
    ],
  },
  mount: {
    fields: [
      ['volume', 'string', 'path of the volume file'],
      ['mountPoint', 'string', 'absolute, without symbolic links'],
      ['daemon', 'object', DAEMON],
    ],
  },
  unmount: {
    fields: [
      ['volume', 'string', 'path of the volume file'],
      ['mountPoint', 'string', 'where it was'],
      ['wasDead', 'boolean', 'its daemon had died before, or was cut off'],
    ],
  },
  sync: {
    fields: [
      ['flushMs', 'number', "bringing the kernel's dirty pages in"],
      ['commitMs', 'number', 'making it durable'],
    ],
  },
  status: {
    note: 'without VOLUME, an array of them; of a repository `{repository, id, createdAtMs, backups, unfinished, allocatedBytes, last}` with `backups` of `{id, type, instantMs, base, isPartial, problem, imageCount, volumeBytes, componentCount, fileCount, dataBytes, allocatedBytes, verified}`, `verified` and the values of `last` (`backup`, `verify`, `prune`, `consolidate`, `restore`) being null or `{atMs, outcome, message}`, `outcome` `ok`, `partial` or `failed`',
    fields: STATUS,
  },
  'snapshot create': {
    fields: [
      ...SNAPSHOT,
      ['flushMs', 'number', "bringing the kernel's dirty pages in; 0 for a volume that is not mounted"],
      ['cutMs', 'number', 'the snapshot itself'],
    ],
  },
  'snapshot list': { list: true, fields: [...SNAPSHOT, ...SIZES] },
  'snapshot show': { fields: [...SNAPSHOT, ...SIZES] },
  'snapshot delete': {
    note: 'with several names, an array of them',
    fields: [
      ['deleted', 'string | null', 'its name; null with `--dry-run`'],
      ['freedBytes', 'number', 'what it alone held; with `--dry-run` what all of them hold alone'],
    ],
  },
  'snapshot rollback': {
    fields: [
      ['rolledBackTo', 'string', 'the snapshot'],
      ['undo', 'string', 'snapshot of what the present was; rolling back to it undoes this'],
    ],
  },
  'snapshot pin': { fields: SNAPSHOT },
  'snapshot unpin': { fields: SNAPSHOT },
  resize: {
    fields: [
      ['volume', 'string', 'path of the volume file'],
      ['sizeBytes', 'number', 'size of the volume now'],
      [
        'fileSystemBytes',
        'number',
        'size of the file system in it, a few MiB less where a last group would have no room for files',
      ],
    ],
  },
  policy: {
    fields: [
      ['snapshotLimitBytes', 'number | null', 'what snapshots alone may hold; null: no limit but the host'],
      ['whenFull', 'string', '`evict-oldest` or `protect`'],
      ['snapshotCountLimit', 'number | null', 'how many there may be; null: no limit'],
      ['volume', 'string', 'path of the volume file'],
      ['usedBytes', 'number', 'what snapshots alone hold'],
      ['allocatedBytes', 'number', 'what is set aside for them: that and no more'],
      ['maxBytes', 'number | null', 'the limit; null: none'],
      ['snapshots', 'number', 'how many there are'],
      ['fault', 'object | null', FAULT],
      ['events', 'array', `the last 64 ${EVENTS}`],
      ['evicted', 'array', 'names of the snapshots that were dropped for the change'],
    ],
  },
  'bookmark create': { fields: BOOKMARK },
  'bookmark list': { list: true, fields: BOOKMARK },
  'bookmark delete': { fields: [['deleted', 'string', 'its name']] },
  diff: {
    note: 'with `--files` instead `{from, to, base, counts, files, cost}`: `base` is `snapshot` or `bookmark`, `counts` how many of each kind, `files` of `{kind: "created" | "deleted" | "renamed" | "changed" | "touched", type, ino, generation, paths, pathsBase64, oldPaths, oldPathsBase64, sizeBytes, oldSizeBytes, metadata, ranges, certain}` with `ranges` of `{kind: "data" | "zero", offsetBytes, lengthBytes}` and the base64 fields null unless a name is not UTF-8, `cost` `{deltaExtents, blocksRead, directories, directoryBlocks, namesMs}`',
    fields: [
      ['from', 'string', 'as asked'],
      ['to', 'string | null', 'as asked; null: the present'],
      ['changedBytes', 'number', 'data and zeros together'],
      ['dataBytes', 'number', 'blocks with data'],
      ['zeroBytes', 'number', 'blocks that are discarded or zero now'],
      ['extents', 'array', 'of `{kind: "data" | "zero", offsetBytes, lengthBytes}`, ascending'],
    ],
  },
  export: {
    fields: [
      ['file', 'string', 'the image'],
      ['dataBytes', 'number', 'data in it'],
      ['fileBytes', 'number', 'length of the file'],
      ['digest', 'string | null', 'SHA-256 of what it holds, as its identity has it'],
    ],
  },
  import: {
    note: 'without `volume` and `uuid` for `--format raw`',
    fields: [
      ['volume', 'string', 'path of the new file'],
      ['uuid', 'string', "the volume's UUID"],
      ['sizeBytes', 'number', 'size of the file system'],
      ['dataBytes', 'number', 'data written'],
      ['point', 'object | null', `${POINT} of the snapshot that it now is; null: images without identity`],
    ],
  },
  apply: {
    fields: [
      ['point', 'object', `${POINT} of the snapshot that it now is`],
      ['dataBytes', 'number', 'data written'],
      ['zeroBytes', 'number', 'zeroed'],
    ],
  },
  backup: {
    fields: [
      ['id', 'string', "the backup's name"],
      ['type', 'string', 'what was taken: `full` where --or-full took one'],
      ['folder', 'string', 'where it is'],
      ['base', 'string | null', 'the backup that it builds on'],
      ['chain', 'array', 'names of the backups that a restore needs, the full one first, this one last'],
      ['isPartial', 'boolean', 'something failed and is not in it; exit code 16'],
      ['tookMs', 'number', 'from its begin to its end'],
      ['images', 'array', 'of `{volume, uuid, file, base, dataBytes, fileBytes}`'],
      [
        'writers',
        'array',
        'of `{name, instanceName, type, reason, result, components}`; `components` of `{logicalPath, name, type, succeeded, failure, fileCount, bytes}`',
      ],
      ['notes', 'array', 'what one must know besides, one sentence each'],
      ['restoreCommands', 'array', "command lines of stock tools, for the repository's folder"],
    ],
  },
  restore: {
    note: 'of an image; with `--components` or `--all-components` `{backup, operations, components, notes, isDryRun, isPartial}`: `operations` the names of the backups that were replayed, `components` of `{writer, instanceName, logicalPath, name, subcomponents, chain, status, place, fileCount, bytes, failure}`, `status` `all`, `none`, `failed` or, in a dry run, null, `place` `original`, `alternate`, `directed`, `new-target` or null',
    fields: [
      ['backup', 'string', "the backup's name"],
      ['chain', 'array', 'names of the backups that were replayed'],
      ['volumeUuid', 'string', 'of the volume that was backed up'],
      ['to', 'string', 'what was written'],
      ['as', 'string', '`volume`, `raw` or `device`'],
      ['sizeBytes', 'number', 'size of the file system'],
      ['dataBytes', 'number', 'data written'],
    ],
  },
  verify: {
    fields: [
      [
        'isGood',
        'boolean',
        'nothing is damaged; the exit code is 7, 10 or 14 otherwise, by the first damage',
      ],
      ['backups', 'array', 'those that were asked for: `{id, isGood, damagedBases}`'],
      [
        'damages',
        'array',
        'of `{backupId, file, code, message, spoils}`; `spoils` names the other backups that cannot be restored for it',
      ],
      ['checkedBytes', 'number', 'bytes read'],
      [
        'rebuilt',
        'array',
        'with `--restore`, of `{id, isGood, message, volumes, components, failure}`; `components` `{comparedCount, checkedBy, objections, notes}`; `volumes` of `{volumeUuid, volumePath, chain, sizeBytes, e2fsck, output, isComparedWithManifest}`, `e2fsck` of `clean`, `objects`, `not installed`, `no ext4`',
      ],
    ],
  },
  prune: {
    fields: [
      ['timeZone', 'string', 'whose days the rules go by'],
      ['isDone', 'boolean', 'false after --dry-run'],
      [
        'backups',
        'array',
        'all of them, oldest first: `{id, type, instantMs, keep, reasons, baseOf, allocatedBytes}`; `reasons` of `last`, `hourly`, `daily`, `weekly`, `monthly`, `yearly`, `newest complete`, `next base`, `damaged`, `base`',
      ],
      ['deletedCount', 'number', 'how many were deleted'],
      ['freedBytes', 'number', 'what their folders took'],
      ['notes', 'array', 'what could not be tidied, one sentence each'],
    ],
  },
  consolidate: {
    fields: [
      ['id', 'string', "the backup's name"],
      ['bases', 'array', 'names of the backups that it no longer needs'],
      ['imageCount', 'number', 'images made whole'],
      ['componentCount', 'number', 'components made whole'],
      ['imageBytes', 'number', 'size of its images'],
      ['tookMs', 'number', 'from its begin to its end'],
    ],
  },
  'shadow create': {
    fields: [
      ['snapshotSetId', 'string', 'UUID of the set'],
      ['isVolatile', 'boolean', 'it goes with the command'],
      ['shadows', 'array', 'as `shadow list` has them'],
      ['timings', 'object', '`{freezeMs, flushMs, heldMs, totalMs}`'],
      ['writers', 'array', 'as `writer status` has them, after the end'],
    ],
  },
  'shadow list': { list: true, fields: SHADOW },
  'shadow delete': {
    fields: [
      ['count', 'number', 'how many'],
      ['deleted', 'array', 'their ids, in their order'],
    ],
  },
  'shadow expose': { fields: EXPOSURE },
  'shadow unexpose': { fields: EXPOSURE },
  'shadow reexpose': {
    list: true,
    fields: [...EXPOSURE, ['failure', 'string | null', 'why it is not mounted; null: it is']],
  },
  'shadow revert': {
    fields: [
      ['volume', 'string', 'path of the volume file'],
      ['revertedTo', 'string', 'UUID of the shadow copy'],
      ['undo', 'string', 'snapshot of what the present was; rolling back to it undoes this'],
      ['unmounted', 'string | null', 'where `--force` has unmounted it'],
    ],
  },
  'shadow providers': {
    list: true,
    fields: [
      ['id', 'string', 'UUID'],
      ['name', 'string', 'its name'],
    ],
  },
  'shadow volumes': {
    list: true,
    fields: [
      ['volume', 'string', 'path of the volume file'],
      ['uuid', 'string', "the volume's UUID"],
      ['mountPoint', 'string | null', 'where it is mounted'],
    ],
  },
  'shadow script': SCRIPT,
  'shadow shell': SCRIPT,
  'writer list': {
    list: true,
    fields: [
      ['status', 'object', 'as `writer status` prints it'],
      ['metadata', 'object | null', 'as `writer metadata` prints it; null where it did not identify itself'],
      ['origin', 'string', "the hook's path, or the name of the configuration or of the connected process"],
    ],
  },
  'writer status': { list: true, fields: WRITER_STATUS },
  'writer metadata': {
    list: true,
    note: 'the metadata documents, `schemas/writer-metadata.schema.json`',
    fields: [
      ['format', 'string', '`umbra-writer-metadata-1`'],
      ['identity', 'object', '`{classId, instanceId, name, instanceName, usage, source, version}`'],
      ['backupSchema', 'array', 'what it can do besides full backups'],
      ['freezeLevel', 'string', '`front-end`, `back-end` or `system`'],
      ['freezeTimeoutMs', 'number', 'from Freeze to Thaw'],
      ['restoreMethod', 'object', '`{method, serviceName, writerRestore, rebootRequired}`'],
      ['alternateLocationMappings', 'array', 'where file sets may be restored to'],
      ['excludeFiles', 'array', 'what no backup saves'],
      ['excludeFromSnapshotFiles', 'array', 'what is deleted from the shadow copy'],
      ['components', 'array', 'its components with their file sets'],
    ],
  },
  'writer add': {
    fields: [
      ['name', 'string', 'name of the configuration'],
      ['kind', 'string', '`script`, `postgresql`, `mariadb`, `redis` or `sqlite`'],
      ['path', 'string', 'its file'],
    ],
  },
  'writer remove': { fields: [['removed', 'string', 'name of the configuration']] },
  check: {
    fields: [
      ['volume', 'string', 'path of the volume file'],
      ['scope', 'string', '`volume`, or `snapshots` of a mounted one'],
      ['checked', 'array', 'what was looked at, phrases'],
      ['notChecked', 'array', 'what was not, phrases'],
      ['problems', 'array', 'of `{code, where, message, action}`'],
      ['problemCount', 'number', 'all of them; at most 1000 are listed'],
      ['leakedBlocks', 'number', 'allocated and used by nothing: lost space, no danger'],
      ['notes', 'array', 'harmless things worth knowing'],
      ['repaired', 'array', 'what `--repair` did; the problems are those found after it'],
      ['e2fsck', 'object | null', '`{isClean, output}` with `--e2fsck`'],
    ],
  },
  doctor: {
    fields: [
      ['node', 'string', 'version of Node.js'],
      ['kernel', 'string', 'its release'],
      ['addon', 'string', '`loaded`, or why not'],
      ['fuseDevice', 'string', 'what /dev/fuse is'],
      ['runtimeFolder', 'string', 'where control sockets are, or why not'],
      ['writeBack', 'string', 'what the kernel allows'],
      ['mountModes', 'array', 'of `{mode: "root" | "user namespace" | "fusermount3", possible, reason}`'],
      ['canMount', 'boolean', 'one of them is possible; the exit code is 11 otherwise'],
    ],
  },
}
