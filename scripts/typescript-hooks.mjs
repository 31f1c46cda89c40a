// The half of typescript.mjs that runs in Node's loader thread.

import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const CACHE = fileURLToPath(new URL('../node_modules/.cache/umbra-typescript/', import.meta.url))
/** Goes with the options below. */
const VERSION = 2

export async function load(url, context, nextLoad) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return nextLoad(url, context)
  const path = fileURLToPath(url)
  const text = readFileSync(path, 'utf8')
  const digest = createHash('sha1').update(`${VERSION}\n${path}\n${text}`).digest('hex')
  const kept = join(CACHE, `${digest}.js`)
  let source
  try {
    source = readFileSync(kept, 'utf8')
  } catch {
    source = await transpile(text, path)
    keep(kept, source)
  }
  return { format: 'module', source, shortCircuit: true }
}

async function transpile(text, path) {
  const { transform } = await import('esbuild')
  const { code } = await transform(text, {
    loader: 'ts',
    format: 'esm',
    target: 'node20',
    sourcefile: path,
    sourcemap: 'inline',
    sourcesContent: false,
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
  })
  return code
}

/** Whoever may not write there transpiles each time. */
function keep(path, source) {
  try {
    mkdirSync(CACHE, { recursive: true })
    const temporary = `${path}.${process.pid}.${Math.random().toString(36).slice(2)}`
    writeFileSync(temporary, source)
    renameSync(temporary, path)
  } catch {}
}
