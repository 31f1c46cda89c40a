// Judges a repository after prune and consolidate: every backup that is there is restored, its volume by our chain and
// by qemu-img's, its files by a plain replay, and compared with what was there when it was made.

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Assertion } from 'brittle'
import { importToRaw } from '../../src/image/import.ts'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { restoreChain } from '../../src/shadow/repository/restore-images.ts'
import type { BackupResult } from '../../src/shadow/requester/backup.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { sha256Of } from './backup-lab.ts'
import { replayComponent, treeText } from './component-replay.ts'

export interface Saved {
  readonly id: string
  /** Digest of the volume's image. */
  readonly digest: string
  /** What the component's folder held. */
  readonly tree: string
}

/** @param data the component's folder, unchanged since */
export async function savedOf(result: BackupResult, data: string): Promise<Saved> {
  return { id: result.manifest.id, digest: await digestOf(result), tree: treeText(data) }
}

async function digestOf({ folder, manifest }: Pick<BackupResult, 'folder' | 'manifest'>): Promise<string> {
  const raw = join(folder, '..', 'reference.img')
  await run('qemu-img', ['convert', '-O', 'raw', join(folder, manifest.images[0]?.file ?? ''), raw])
  const digest = sha256Of(raw)
  rmSync(raw)
  return digest
}

/** @param folder the repository @returns what is not restored as it was, one line each */
export async function wrongRestores(
  t: Assertion,
  saved: readonly Saved[],
  data: string,
  folder: string,
): Promise<string[]> {
  const scratch = tempFolder(t)
  const repository = Repository.open(folder)
  const entries = repository.list()
  const wrong: string[] = []
  for (const { id, digest, tree } of saved) {
    const entry = entries.find((candidate) => candidate.id === id)
    if (!entry) continue
    try {
      if (entry.problem) throw entry.problem
      const raw = join(scratch, `${id}.img`)
      await importToRaw(restoreChain(repository, { backup: id }).paths, raw)
      if (sha256Of(raw) !== digest) wrong.push(`${id}: our image`)
      rmSync(raw)
      if ((await digestOf(entry)) !== digest) wrong.push(`${id}: qemu-img's`)
      const target = join(scratch, id)
      replayComponent(repository, id, data, target)
      const found = treeText(target)
      if (found !== tree) wrong.push(`${id}: files\n${found}\nexpected\n${tree}`)
    } catch (error) {
      wrong.push(`${id}: ${(error as Error).message}`)
    }
  }
  rmSync(scratch, { recursive: true })
  return wrong
}
