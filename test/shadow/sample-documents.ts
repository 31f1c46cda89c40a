// Documents for tests: small ones that are valid, to be changed by each test.

import type { BackupComponent } from '../../src/shadow/documents/backup-components.ts'
import { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import type { WriterRequest } from '../../src/shadow/writers/writer-messages.ts'

export const CLASS_ID = '11111111-2222-4333-8444-555555555555'
export const INSTANCE_ID = 'aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee'

export function builder(name = 'Sample'): MetadataBuilder {
  return new MetadataBuilder({ classId: CLASS_ID, instanceId: INSTANCE_ID, name })
}

export function backupComponent(name: string, more: Partial<BackupComponent> = {}): BackupComponent {
  return {
    type: 'file-group',
    logicalPath: '',
    name,
    differencedFiles: [],
    partialFiles: [],
    selectedForRestore: false,
    restoreSubcomponents: [],
    additionalRestores: false,
    newTargets: [],
    alternateLocationMappingsUsed: [],
    rangesFilePaths: {},
    fileRestoreStatus: 'undefined',
    restoreTarget: 'original',
    directedTargets: [],
    ...more,
  }
}

export function request(more: Partial<WriterRequest> = {}): WriterRequest {
  return {
    event: 'prepare-for-backup',
    sessionId: 'session-1',
    operation: 'backup',
    snapshotSetId: null,
    contextAttributes: 0,
    backupState: {
      componentMode: true,
      bootableSystemState: false,
      backupType: 'full',
      partialFileSupport: true,
    },
    restoreType: null,
    volumes: [],
    components: [backupComponent('data')],
    timeoutMs: 10_000,
    ...more,
  }
}

/** A volume that is mounted at `mountPoint`. */
export function volumeAt(
  mountPoint: string,
  recoveryPath: string | null = null,
): WriterRequest['volumes'][number] {
  return {
    volumePath: '/volumes/sample.umbra',
    mountPoint,
    snapshotId: '00000000-0000-4000-8000-000000000001',
    snapshotPath: `${mountPoint}/.snapshots/one`,
    recoveryPath,
  }
}
