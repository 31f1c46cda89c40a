// File specifications: which files they name, and how two of them relate (vss.md section 5.3).
//
// Always true: a path is absolute, without wildcards, empty elements, `.`, `..` or a slash at its end;
// a filespec matches one name: `?` one character, `*` any number of them, `*.*` needs a dot. Names are
// compared as text where they are UTF-8, else byte for byte (`?` is one byte then); case matters.

import type { FileSpec } from './writer-metadata.ts'

/** A file's absolute path; bytes where it may not be UTF-8. */
export type FilePath = string | Uint8Array

const QUESTION = 0x3f
const STAR = 0x2a
const SLASH = 0x2f

/** Whether a filespec names one file, which then has to exist. */
export function isLiteral(filespec: string): boolean {
  return !/[?*]/.test(filespec)
}

/** What is wrong with a directory's path, or undefined. */
export function pathFault(path: string): string | undefined {
  if (!path.startsWith('/')) return 'is not absolute'
  if (path.includes('\0')) return 'holds a NUL'
  if (/[?*]/.test(path)) return 'holds a wildcard'
  if (path === '/') return undefined
  const isClean = path
    .slice(1)
    .split('/')
    .every((part) => part !== '' && part !== '.' && part !== '..')
  return isClean ? undefined : 'has an empty element, `.` or `..`, or a slash at its end'
}

/** What is wrong with a filespec, or undefined. */
export function filespecFault(filespec: string): string | undefined {
  if (filespec === '') return 'is empty'
  if (filespec.includes('/')) return 'holds a slash'
  if (filespec.includes('\0')) return 'holds a NUL'
  return filespec === '.' || filespec === '..' ? 'names a directory' : undefined
}

/** Whether `path` is the directory or below it. */
export function isAtOrBelow(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

/** Whether one file's name matches. */
export function matchesName(filespec: string, name: FilePath): boolean {
  const text = typeof name === 'string' ? name : textOf(name)
  if (text !== undefined) return matches(codePoints(filespec), codePoints(text))
  return matches(Buffer.from(filespec), name as Uint8Array)
}

/** Whether the spec names the file with this absolute path. */
export function matchesFile(spec: FileSpec, path: FilePath): boolean {
  const text = typeof path === 'string' ? path : textOf(path)
  if (text !== undefined) {
    const slash = text.lastIndexOf('/')
    return (
      isDirectoryOf(spec, text.slice(0, slash) || '/') && matchesName(spec.filespec, text.slice(slash + 1))
    )
  }
  const bytes = path as Uint8Array
  const slash = bytes.lastIndexOf(SLASH)
  // Latin-1 keeps every byte apart, so the comparison of paths is one of bytes.
  const directory = Buffer.from(bytes.subarray(0, slash)).toString('latin1') || '/'
  const latinSpec = { ...spec, path: Buffer.from(spec.path).toString('latin1') }
  return isDirectoryOf(latinSpec, directory) && matchesName(spec.filespec, bytes.subarray(slash + 1))
}

/** Whether files in this directory can be the spec's. */
export function isDirectoryOf(spec: Pick<FileSpec, 'path' | 'recursive'>, directory: string): boolean {
  return spec.recursive ? isAtOrBelow(directory, spec.path) : directory === spec.path
}

/** Excludes beat every file set; `path` is the default path, not an alternate one. */
export function isExcluded(excludes: readonly FileSpec[], path: FilePath): boolean {
  return excludes.some((spec) => matchesFile(spec, path))
}

/** Path, filespec and recursion alike: what VSS calls an exact match. */
export function isSameSpec(a: FileSpec, b: FileSpec): boolean {
  return a.path === b.path && a.filespec === b.filespec && a.recursive === b.recursive
}

/** Whether some file's path could match both. */
export function doOverlap(a: FileSpec, b: FileSpec): boolean {
  const doDirectoriesMeet = isDirectoryOf(a, b.path) || isDirectoryOf(b, a.path)
  if (!doDirectoriesMeet) return false
  if (isLiteral(a.filespec)) return matchesName(b.filespec, a.filespec)
  if (isLiteral(b.filespec)) return matchesName(a.filespec, b.filespec)
  return doNamesOverlap(codePoints(a.filespec), codePoints(b.filespec))
}

/** For people. */
export function specText({ path, filespec, recursive }: FileSpec): string {
  return `${path === '/' ? '' : path}/${filespec}${recursive ? ' (recursive)' : ''}`
}

function textOf(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  return text.includes('\ufffd') && !Buffer.from(text).equals(bytes) ? undefined : text
}

function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) as number)
}

/** Goes back to the last star only, so the time is at most the product of the lengths. */
function matches(pattern: ArrayLike<number>, name: ArrayLike<number>): boolean {
  let patternIndex = 0
  let nameIndex = 0
  let starIndex = -1
  let resumeIndex = 0
  while (nameIndex < name.length) {
    const wanted = pattern[patternIndex]
    if (patternIndex < pattern.length && wanted === STAR) {
      starIndex = patternIndex++
      resumeIndex = nameIndex
    } else if (patternIndex < pattern.length && (wanted === QUESTION || wanted === name[nameIndex])) {
      patternIndex++
      nameIndex++
    } else if (starIndex >= 0) {
      patternIndex = starIndex + 1
      nameIndex = ++resumeIndex
    } else {
      return false
    }
  }
  while (pattern[patternIndex] === STAR) patternIndex++
  return patternIndex === pattern.length
}

/** Whether some name matches both patterns: one row of the table of suffix pairs at a time. */
function doNamesOverlap(a: readonly number[], b: readonly number[]): boolean {
  let below = new Uint8Array(b.length + 1)
  below[b.length] = 1
  for (let j = b.length - 1; j >= 0 && b[j] === STAR; j--) below[j] = 1
  for (let i = a.length - 1; i >= 0; i--) {
    const row = new Uint8Array(b.length + 1)
    for (let j = b.length; j >= 0; j--) {
      row[j] = meet(a[i] as number, b[j], below[j] === 1, row[j + 1] === 1, below[j + 1] === 1) ? 1 : 0
    }
    below = row
  }
  return below[0] === 1
}

/** @param skipA both patterns without a's character overlap; `skipB` and `skipBoth` likewise */
function meet(a: number, b: number | undefined, skipA: boolean, skipB: boolean, skipBoth: boolean): boolean {
  if (a === STAR && (skipA || (b !== undefined && skipB))) return true
  if (b === STAR && (skipB || skipA)) return true
  if (b === undefined || a === STAR || b === STAR) return false
  return (a === b || a === QUESTION || b === QUESTION) && skipBoth
}
