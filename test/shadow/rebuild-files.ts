// Rebuilds the files of one component from a repository, by the published shapes alone: an oracle for
// restores that shares no code with them.
//
// Always true: what it makes holds every object of the last backup's state and nothing that was deleted;
// a digest that does not fit throws.

import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'

interface Line {
  readonly writer: string
  readonly name: string
  readonly path: string
  readonly kind: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly mtimeNs: string
  readonly sizeBytes: number
  readonly hardLinkOf?: string
  readonly linkTarget?: string
  readonly stored?: { readonly file: string; readonly sha256: string }
  readonly ranges?: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[]
}

interface Component {
  readonly name: string
  readonly baseBackupId: string | null
}

interface Manifest {
  readonly writers: readonly {
    readonly instanceId: string
    readonly name: string
    readonly components: readonly Component[]
  }[]
}

/**
 * @param moved folders of the component, and what takes their place
 * @returns ids of the backups that were used, oldest first
 */
export function rebuildFiles(
  repository: string,
  id: string,
  component: string,
  moved: Readonly<Record<string, string>>,
): string[] {
  const place = (path: string): string => {
    for (const [from, to] of Object.entries(moved)) {
      if (path === from || path.startsWith(`${from}/`)) return `${to}${path.slice(from.length)}`
    }
    throw new Error(`${path} is in no folder of the component`)
  }
  const chain = chainOf(repository, id, component)
  const state = new Map<string, Line>()
  for (const { folder, lines } of chain) {
    for (const line of lines) {
      if (line.kind === 'deleted') state.delete(line.path)
      else state.set(line.path, line)
      apply(line, place, folder)
    }
  }
  // Folders last: what is made in them changes their times.
  const paths = [...state.keys()].sort().reverse()
  for (const path of paths) setAttributes(place(path), state.get(path) as Line)
  return chain.map((link) => link.id)
}

function chainOf(repository: string, last: string, name: string) {
  const chain: { id: string; folder: string; lines: Line[] }[] = []
  for (let id: string | null = last; id !== null; ) {
    const folder = join(repository, 'backups', id)
    const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest
    const writer = manifest.writers.find(({ components }) => components.some((own) => own.name === name))
    const component = writer?.components.find((own) => own.name === name)
    if (!writer || !component) throw new Error(`${id} has no component ${name}`)
    const lines = readFileSync(join(folder, 'files.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Line)
      .filter((line) => line.writer === writer.instanceId && line.name === name)
    chain.unshift({ id, folder, lines })
    id = component.baseBackupId
  }
  return chain
}

function apply(line: Line, place: (path: string) => string, folder: string): void {
  const path = place(line.path)
  const { kind, hardLinkOf, linkTarget = '' } = line
  if (kind === 'deleted') rmSync(path, { recursive: true, force: true })
  else if (kind === 'directory') mkdirSync(path, { recursive: true })
  else {
    if (line.ranges === undefined) rmSync(path, { force: true })
    if (kind === 'symlink') symlinkSync(linkTarget, path)
    else if (kind === 'file' && hardLinkOf !== undefined) linkSync(place(hardLinkOf), path)
    else if (kind === 'file') writeContent(path, line, stored(line, folder))
  }
}

function stored({ path, stored }: Line, folder: string): Buffer {
  if (!stored) throw new Error(`${path} has no content`)
  const bytes = readFileSync(join(folder, stored.file))
  const digest = createHash('sha256').update(bytes).digest('hex')
  if (digest !== stored.sha256) throw new Error(`${path}: the digest does not fit`)
  return bytes
}

function writeContent(path: string, { ranges, sizeBytes }: Line, bytes: Buffer): void {
  const fd = openSync(path, ranges === undefined ? 'w' : 'r+')
  try {
    if (ranges === undefined) writeSync(fd, bytes, 0, bytes.length, 0)
    else {
      ftruncateSync(fd, sizeBytes)
      let at = 0
      for (const { offsetBytes, lengthBytes } of ranges) {
        writeSync(fd, bytes, at, lengthBytes, offsetBytes)
        at += lengthBytes
      }
      if (at !== bytes.length) throw new Error(`${path}: the ranges do not fit their content`)
    }
  } finally {
    closeSync(fd)
  }
}

function setAttributes(path: string, { kind, mode, uid, gid, mtimeNs }: Line): void {
  lchownSync(path, uid, gid)
  if (kind !== 'symlink') chmodSync(path, mode & 0o7777)
  // Seconds with a fraction lose nanoseconds; whole seconds are what rsync is told to compare.
  const seconds = Number(BigInt(mtimeNs) / 1_000_000_000n)
  lutimesSync(path, seconds, seconds)
}
