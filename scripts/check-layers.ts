// Checks that imports between the rooms of src/ follow the arrows, which are given here as data.
//
// Always true: a file outside a known room, an import of a room that is not allowed, an import that
// leaves src/ by a relative path, and a run that found no module at all are failures. Only src/ is
// checked; `index.ts` re-exports and may import every room.
//
// Usage: node --import tsx scripts/check-layers.ts [FOLDER]      (default: src)

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { pathToFileURL } from 'node:url'

/** What each room may import beside itself and packages; the table of ARCHITECTURE.md. */
export const ROOMS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  storage: ['base'],
  volume: ['base', 'storage'],
  ext4: ['base', 'storage'],
  fuse: ['base', 'ext4'],
  image: ['base', 'storage', 'volume'],
  shadow: ['base', 'volume', 'ext4', 'image'],
  daemon: ['base', 'storage', 'volume', 'ext4', 'fuse', 'image', 'shadow'],
  cli: ['base', 'storage', 'volume', 'ext4', 'fuse', 'image', 'shadow', 'daemon'],
}

/** Packages that a room may not import: `base` and the file system live on Node alone. */
const NODE_ONLY = new Set(['base'])

export interface LayerReport {
  readonly moduleCount: number
  readonly importCount: number
  readonly breaches: readonly string[]
}

/** Every `import ... from`, `export ... from`, bare `import '...'` and `import('...')` with a literal. */
const SPECIFIER = /(?:\bfrom\s*|\bimport\s*\(?\s*)(['"])([^'"\n]+)\1/g

export function checkLayers(root: string): LayerReport {
  const breaches: string[] = []
  let importCount = 0
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) =>
    /\.[cm]?tsx?$/.test(path),
  )
  for (const file of files) {
    const room = roomOf(file)
    if (room !== 'index.ts' && !Object.hasOwn(ROOMS, room)) {
      breaches.push(`${file}: "${room}" is no room of the table`)
      continue
    }
    const source = withoutComments(readFileSync(join(root, file), 'utf8'))
    for (const match of source.matchAll(SPECIFIER)) {
      importCount++
      const breach = breachOf(root, file, room, match[2] ?? '')
      if (breach) breaches.push(`${file}: ${breach}`)
    }
  }
  if (files.length === 0) breaches.push(`${root}: no module found`)
  return { moduleCount: files.length, importCount, breaches }
}

function breachOf(root: string, file: string, room: string, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) {
    if (specifier.startsWith('node:') || !NODE_ONLY.has(room)) return undefined
    return `${room} may import Node only, not ${specifier}`
  }
  const target = relative(root, resolve(root, dirname(file), specifier))
  if (target.startsWith('..')) return `${specifier} leaves ${root}`
  const targetRoom = roomOf(target)
  if (room === 'index.ts' || targetRoom === room || ROOMS[room]?.includes(targetRoom)) return undefined
  return `${room} may not import ${targetRoom} (${specifier})`
}

function roomOf(file: string): string {
  return file.split(sep)[0] ?? file
}

function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '')
}

function main(): void {
  const report = checkLayers(process.argv[2] ?? 'src')
  for (const breach of report.breaches) console.error(breach)
  console.log(
    `${report.moduleCount} modules, ${report.importCount} imports, ${report.breaches.length} breaches`,
  )
  if (report.breaches.length > 0) process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
