// The public interface for programs: volumes and their points, storages to keep them in, the file system
// in them, images, and writers for backups. Re-exports only; what is not here may change without notice.

export { type ErrorCode, hasCode, UmbraError } from './base/errors.ts'
export type { BlockRange } from './base/units.ts'
export { connectWriter } from './daemon/writer-line.ts'
export { Ext4, formatExt4 } from './ext4/ext4.ts'
export type { FileSystem } from './ext4/file-system.ts'
export { applyToRaw } from './image/apply.ts'
export type { ImageChain } from './image/chain.ts'
export type { ImageIdentity } from './image/identity.ts'
export type { ImageSource } from './image/image-source.ts'
export { importToRaw, withChain } from './image/import.ts'
export type { LongWork } from './image/pace.ts'
export { writeQcow2 } from './image/qcow2-writer.ts'
export { streamRaw, writeRaw } from './image/raw-writer.ts'
export { verifyChain, verifyImage } from './image/verify.ts'
export { volumeSource } from './image/volume-source.ts'
export { applyToVolume, importToVolume } from './image/volume-target.ts'
export type { ChangedRange, ComparedPoints, FileChange } from './shadow/changed-files/file-change.ts'
export { changedFiles, changedRanges, FileComparison } from './shadow/changed-files/file-comparison.ts'
export type { WriterMetadata } from './shadow/documents/writer-metadata.ts'
export { localPort } from './shadow/writers/local-port.ts'
export { MetadataBuilder } from './shadow/writers/metadata-builder.ts'
export type { WriterService } from './shadow/writers/serve-writer.ts'
export { Writer } from './shadow/writers/writer.ts'
export type { ComponentContext, WriterContext } from './shadow/writers/writer-context.ts'
export { WriterFailure } from './shadow/writers/writer-failure.ts'
export type { WriterEvent, WriterReply, WriterRequest } from './shadow/writers/writer-messages.ts'
export type { WriterPort } from './shadow/writers/writer-port.ts'
export type { BlockDevice } from './storage/block-device.ts'
export type { BlockStorage } from './storage/block-storage.ts'
export { FileStorage } from './storage/file-storage.ts'
export { MemoryStorage } from './storage/memory-storage.ts'
export { dropAutoReleased } from './volume/auto-release.ts'
export { checkVolume } from './volume/check.ts'
export { repairVolume } from './volume/check-repair.ts'
export { delta, walkDelta, walkDeltaSince } from './volume/delta.ts'
export { DirtyBitmap } from './volume/dirty-bitmap.ts'
export type {
  Bookmark,
  DeltaExtent,
  Point,
  ShadowProperties,
  Snapshot,
  SnapshotSizes,
  SpaceReport,
} from './volume/points.ts'
export { SHADOW_ATTRIBUTES } from './volume/points.ts'
export type { UnsealedSnapshot } from './volume/unsealed-snapshot.ts'
export { Volume } from './volume/volume.ts'
