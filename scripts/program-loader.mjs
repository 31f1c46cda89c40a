// Loads one program of the bundle beside it (dist/programs/load.js; see bundle-programs.mjs).
//
// Always true: where V8 refuses the compiled form, as another version of it does, the text is compiled
// anew; so the compiled form decides how fast a program starts, and nothing else.
//
// Run by itself with names of modules it loads them, and keeps what V8 made of them.

import { readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { Script } from 'node:vm'
import { file } from './bundle.js'

const path = fileURLToPath(new URL(file, import.meta.url))
const dist = new URL('../', import.meta.url)

function compiledForm() {
  try {
    return readFileSync(`${path}.cache`)
  } catch {
    return undefined
  }
}

// It is ASCII: a character a byte.
const script = new Script(readFileSync(path, 'latin1'), {
  filename: path,
  cachedData: compiledForm(),
})
const bundle = { exports: {} }
const urlOf = (compiled) => new URL(compiled, dist).href
const importNamed = (name) => import(name)
script.runInThisContext()(bundle.exports, createRequire(path), bundle, urlOf, importNamed)

/** @param {string} name a module's path below dist/, without its extension */
export function load(name) {
  return bundle.exports.modules[name]()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const name of process.argv.slice(2)) {
    const { buildProgram } = await load(name)
    await buildProgram?.()
  }
  writeFileSync(`${path}.cache`, script.createCachedData())
}
