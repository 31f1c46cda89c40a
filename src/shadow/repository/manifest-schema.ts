// What a manifest and a line of files.jsonl must look like, as JSON Schema, for what is read back from a
// repository that anybody may have touched.
//
// Always true of what has passed: every `file` is a relative path that stays in the backup's folder, digests are 64
// hex digits, numbers are counts; nothing else is believed of it before it is compared with the files.

import { BACKUP_TYPES, WRITER_RESULTS } from '../documents/vocabulary.ts'

const COUNT = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER }
const TEXT = { type: 'string' }
const NULLABLE_TEXT = { type: ['string', 'null'] }
const SHA256 = { type: 'string', pattern: '^[0-9a-f]{64}$' }
const UUID = { type: 'string', pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }
export const BACKUP_ID_SCHEMA = { type: 'string', pattern: '^\\d{8}T\\d{9}Z-[a-z]+-[0-9a-f]{8}$' }
const NULLABLE_ID = { anyOf: [BACKUP_ID_SCHEMA, { type: 'null' }] }
/** No part is empty or begins with a dot, so nothing leads out of the folder. */
const FILE = {
  type: 'string',
  pattern: '^[^/.\\u0000][^/\\u0000]*(/[^/.\\u0000][^/\\u0000]*)*$',
  maxLength: 512,
}

const STORED_FIELDS = { file: FILE, sizeBytes: COUNT, sha256: SHA256 }
const STORED = object(STORED_FIELDS)

function object(properties: Record<string, unknown>, optional: Record<string, unknown> = {}): object {
  return {
    type: 'object',
    properties: { ...properties, ...optional },
    required: Object.keys(properties),
    additionalProperties: false,
  }
}

function list(items: object): object {
  return { type: 'array', items }
}

const POINT = object({ id: UUID, epoch: COUNT, createdAtMs: COUNT })

const VOLUME = object({
  volumeUuid: UUID,
  volumePath: TEXT,
  mountPoint: NULLABLE_TEXT,
  point: POINT,
  bookmark: NULLABLE_TEXT,
})

const IMAGE = object(
  {
    ...STORED_FIELDS,
    volumeUuid: UUID,
    volumePath: TEXT,
    mountPoint: NULLABLE_TEXT,
    virtualSizeBytes: COUNT,
    format: { enum: ['qcow2', 'raw'] },
    point: POINT,
    baseBackupId: NULLABLE_ID,
    basePointId: { anyOf: [UUID, { type: 'null' }] },
    contentDigest: SHA256,
    dataBytes: COUNT,
  },
  { sidecar: STORED },
)

const COMPONENT = object({
  logicalPath: TEXT,
  name: TEXT,
  type: { enum: BACKUP_TYPES },
  succeeded: { type: 'boolean' },
  failure: NULLABLE_TEXT,
  stamp: NULLABLE_TEXT,
  mayBeBase: { type: 'boolean' },
  changedRanges: { type: 'boolean' },
  baseBackupId: NULLABLE_ID,
  fileCount: COUNT,
  bytes: COUNT,
})

const WRITER = object({
  classId: TEXT,
  instanceId: TEXT,
  instanceName: TEXT,
  name: TEXT,
  type: { enum: [...BACKUP_TYPES, 'excluded'] },
  reason: NULLABLE_TEXT,
  result: { enum: WRITER_RESULTS },
  components: list(COMPONENT),
})

export const MANIFEST_SCHEMA = object({
  format: { const: 'umbra-backup-manifest-1' },
  id: BACKUP_ID_SCHEMA,
  uuid: UUID,
  type: { enum: BACKUP_TYPES },
  startedAtMs: COUNT,
  instantMs: COUNT,
  finishedAtMs: COUNT,
  baseBackupId: NULLABLE_ID,
  chain: list(BACKUP_ID_SCHEMA),
  snapshotSetId: NULLABLE_TEXT,
  volumes: list(VOLUME),
  images: list(IMAGE),
  writers: list(WRITER),
  documents: list(STORED),
  fileIndex: { anyOf: [STORED, { type: 'null' }] },
  restoreCommands: list(TEXT),
  isPartial: { type: 'boolean' },
  notes: list(TEXT),
})

const RANGE = object({ offsetBytes: COUNT, lengthBytes: COUNT })

export const FILE_ENTRY_SCHEMA = object(
  {
    writer: TEXT,
    logicalPath: TEXT,
    name: TEXT,
    path: { type: 'string', pattern: '^/' },
    kind: {
      enum: ['file', 'directory', 'symlink', 'fifo', 'socket', 'device', 'deleted', 'ranges-file'],
    },
    how: { enum: ['differenced', 'partial', 'mask'] },
    mode: COUNT,
    uid: COUNT,
    gid: COUNT,
    mtimeNs: { type: 'string', pattern: '^-?\\d{1,20}$' },
    sizeBytes: COUNT,
  },
  {
    pathBytes: TEXT,
    ino: COUNT,
    generation: COUNT,
    hardLinkOf: TEXT,
    hardLinkOfBytes: TEXT,
    linkTarget: TEXT,
    linkTargetBytes: TEXT,
    rdev: COUNT,
    xattrs: { type: 'object', additionalProperties: TEXT },
    stored: STORED,
    ranges: list(RANGE),
  },
)
