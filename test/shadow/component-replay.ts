// A plain restorer of component files, for the tests of repository care: replays the chain of a component, one
// backup after another, into a folder, knowing nothing of how chains are merged. And what a folder holds, for
// comparison.

import { createHash } from 'node:crypto'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join, relative } from 'node:path'
import { componentChain } from '../../src/shadow/repository/chains.ts'
import type { FileEntry } from '../../src/shadow/repository/manifest.ts'
import { readFileIndex } from '../../src/shadow/repository/manifest-file.ts'
import type { Repository } from '../../src/shadow/repository/repository.ts'

/** @param source folder that the component's files were in @param target a new folder */
export function replayComponent(repository: Repository, id: string, source: string, target: string): void {
  const entries = repository.list()
  const { manifest } = repository.get(id)
  const [writer] = manifest.writers
  const [component] = writer?.components ?? []
  if (!writer || !component) throw new Error(`${id} has no component`)
  mkdirSync(target)
  const place = (path: string) => join(target, relative(source, path))
  for (const link of componentChain(entries, id, writer, component)) {
    const index = link.manifest.fileIndex
    if (!index) continue
    for (const entry of readFileIndex(join(link.entry.folder, index.file)))
      replay(entry, place, link.entry.folder)
  }
}

function replay(entry: FileEntry, place: (path: string) => string, folder: string): void {
  const path = place(entry.path)
  if (entry.kind === 'deleted') rmSync(path, { recursive: true, force: true })
  else if (entry.kind === 'directory') mkdirSync(path, { recursive: true })
  else replayContent(entry, place, folder)
}

function replayContent(entry: FileEntry, place: (path: string) => string, folder: string): void {
  const path = place(entry.path)
  const content = entry.stored && readFileSync(join(folder, entry.stored.file))
  if (content && createHash('sha256').update(content).digest('hex') !== entry.stored?.sha256)
    throw new Error(`${entry.path} is damaged in ${folder}`)
  if (content && entry.ranges) {
    const fd = openSync(path, existsSync(path) ? 'r+' : 'w')
    ftruncateSync(fd, entry.sizeBytes)
    let at = 0
    for (const { offsetBytes, lengthBytes } of entry.ranges) {
      writeSync(fd, content, at, lengthBytes, offsetBytes)
      at += lengthBytes
    }
    closeSync(fd)
    return
  }
  rmSync(path, { force: true })
  if (entry.kind === 'symlink') symlinkSync(entry.linkTarget ?? '', path)
  else if (entry.hardLinkOf !== undefined) linkSync(place(entry.hardLinkOf), path)
  else if (content) writeFileSync(path, content)
  else throw new Error(`${entry.path}: ${entry.kind} without content`)
}

/** A line for everything below a folder: kind, size, digest, and the first name of its inode. */
export function treeText(folder: string): string {
  const firstNames = new Map<number, string>()
  const lines: string[] = []
  for (const name of (readdirSync(folder, { recursive: true }) as string[]).sort()) {
    if (name.startsWith('lost+found')) continue
    const stat = lstatSync(join(folder, name))
    if (stat.isDirectory()) lines.push(`${name}/`)
    else if (stat.isSymbolicLink()) lines.push(`${name} -> ${readlinkSync(join(folder, name))}`)
    else {
      const first = firstNames.get(stat.ino) ?? name
      firstNames.set(stat.ino, first)
      const digest = createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex')
      lines.push(`${name} ${stat.size} ${digest} ${first}`)
    }
  }
  return lines.join('\n')
}
