// Shadow copies with writers, as a backup makes them: an SQLite database that a program writes, locked by
// its writer, and a hook. What the program waits for is measured by the program itself.
//
// Always true: the coordinator runs in the bench's process and the writers beside it; every session is
// closed, and its shadow copy gone, before the next one begins.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ControlShadowProvider } from '../src/daemon/control-shadow-provider.ts'
import { createCoordinator } from '../src/shadow/coordinator/coordinator.ts'
import { SqliteWriter } from '../src/shadow/shipped/sqlite-writer.ts'
import { HookFolders } from '../src/shadow/writers/hook-folder.ts'
import { localPort } from '../src/shadow/writers/local-port.ts'
import { type Percentiles, percentiles, type ShadowTimes } from './hold-times.ts'

const PROGRAM = fileURLToPath(new URL('./sqlite-commits.py', import.meta.url))

export interface WriterTimes extends ShadowTimes {
  /** From the first Freeze to the last Thaw. */
  readonly frozenMs: number
}

export interface ShadowsWithWriters {
  make(name: string): Promise<WriterTimes>
  close(): Promise<void>
}

/** @param folder on the mount, where the databases are; the hook lies in `hooksFolder`, outside of it */
export function shadowsWithWriters(
  mountPoint: string,
  folder: string,
  hooksFolder: string,
): ShadowsWithWriters {
  mkdirSync(hooksFolder, { recursive: true, mode: 0o700 })
  const hook = join(hooksFolder, 'queue')
  // In the style of qemu-ga: it is frozen and thawed, and saves nothing.
  writeFileSync(hook, '#!/bin/sh\nexit 0\n')
  chmodSync(hook, 0o700)
  const sqlite = localPort(new SqliteWriter({ name: 'bench', paths: [folder] }))
  const hooks = new HookFolders(() => [hooksFolder])
  let frozenAtMs = 0
  let frozenMs = 0
  const coordinator = createCoordinator({
    writers: { ports: async () => [sqlite, ...(await hooks.ports())] },
    provider: new ControlShadowProvider(),
    onTrace(entry) {
      if (entry.kind !== 'event') return
      if (entry.event === 'freeze' && entry.phase === 'begin' && frozenAtMs === 0)
        frozenAtMs = performance.now()
      if (entry.event === 'thaw' && entry.phase === 'end') frozenMs = performance.now() - frozenAtMs
    },
  })
  return {
    async make(name) {
      frozenAtMs = 0
      const session = await coordinator.openSession('backup')
      try {
        await session.setContext({ context: 'backup' })
        await session.setBackupState({
          componentMode: false,
          bootableSystemState: false,
          backupType: 'full',
          partialFileSupport: false,
        })
        await session.gatherWriterMetadata()
        await session.startSnapshotSet()
        await session.addToSnapshotSet(mountPoint, { snapshotName: name })
        await session.prepareForBackup()
        const times = await session.doSnapshotSet()
        await session.backupComplete()
        return { ...times, frozenMs }
      } finally {
        await session.close()
      }
    },
    close: () => coordinator.shutdown(),
  }
}

export interface CommitTimes extends Percentiles {
  readonly count: number
}

/** A program that commits all the time and measures how long each commit takes. */
export async function startCommits(database: string): Promise<{ stop(): Promise<CommitTimes> }> {
  const child: ChildProcess = spawn('python3', [PROGRAM, database], {
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  child.stdout?.on('data', (text: Buffer) => {
    said += text
  })
  if (child.stdout) await once(child.stdout, 'data')
  return {
    async stop() {
      child.stdin?.end()
      if (child.exitCode === null) await once(child, 'close')
      const times = said.split('\n').slice(1).filter(Boolean).map(Number)
      return { ...percentiles(times), count: times.length }
    },
  }
}
