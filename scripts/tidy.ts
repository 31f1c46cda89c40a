// Checks what the linter does not: the small house rules that keep src/ readable.
//
// Always true: every rule is an entry of RULES, has a planted breach in test/scripts/tidy.test.ts,
// and names the file and line it objects to. A run that found no file is a failure.
//
// Usage: node --import tsx scripts/tidy.ts [FOLDER]      (default: src)

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const LINES_MAX = 500

interface Rule {
  readonly name: string
  /** Paths, relative to the folder, that the rule leaves alone. */
  readonly except?: RegExp
  readonly pattern: RegExp
}

/** Rules on single lines. */
const RULES: readonly Rule[] = [
  { name: 'console belongs in cli/', except: /^cli\//, pattern: /\bconsole\./ },
  { name: 'a marker was left behind', pattern: /\b(?:FIXME|TODO|XXX|HACK)\b/ },
  {
    name: 'an async callback whose failure nobody sees',
    pattern: /\bset(?:Timeout|Interval|Immediate)\(\s*async\b/,
  },
  { name: 'an async listener whose failure nobody sees', pattern: /\.(?:on|once)\([^,]*,\s*async\b/ },
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the range of ASCII begins with them
  { name: 'a character that is not ASCII', pattern: /[^\x00-\x7f]/ },
  { name: 'a Buffer constructor', pattern: /\bnew Buffer\(|(?<![.\w])Buffer\(/ },
  { name: 'a debugger statement', pattern: /^\s*debugger\b/ },
]

export interface TidyReport {
  readonly fileCount: number
  readonly complaints: readonly string[]
}

export function tidy(root: string): TidyReport {
  const complaints: string[] = []
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((path) =>
    /\.[cm]?ts$/.test(path),
  )
  for (const file of files) {
    const lines = readFileSync(join(root, file), 'utf8').split('\n')
    if (!/^(?:\/\/ \S|\/\*)/.test(lines[0] ?? ''))
      complaints.push(`${file}:1: no comment at the head says why it exists`)
    if (lines.length - 1 > LINES_MAX)
      complaints.push(`${file}: ${lines.length - 1} lines, more than ${LINES_MAX}`)
    for (const rule of RULES) {
      if (rule.except?.test(file)) continue
      lines.forEach((line, index) => {
        if (rule.pattern.test(line)) complaints.push(`${file}:${index + 1}: ${rule.name}`)
      })
    }
  }
  if (files.length === 0) complaints.push(`${root}: no file found`)
  return { fileCount: files.length, complaints }
}

function main(): void {
  const report = tidy(process.argv[2] ?? 'src')
  for (const complaint of report.complaints) console.error(complaint)
  console.log(`${report.fileCount} files, ${report.complaints.length} complaints`)
  if (report.complaints.length > 0) process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main()
