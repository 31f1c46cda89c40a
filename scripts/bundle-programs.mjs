// Makes the programs of dist/ start fast, after tsc has written them: everything that they load, packages
// too, goes into one file with V8's compiled form of it beside, and in their places come a few lines that
// load it (program-loader.mjs). A command then takes half the processor time or less, a daemon likewise.
//
// Always true: tsc alone gives programs that work, only slower, so nothing bundled outlives the next
// compilation; the bundle's name is its digest, so a compiled form is never that of other code; what code
// sees as import.meta.url is the place of its own compiled file, as without a bundle.
//
// Usage: node scripts/bundle-programs.mjs

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import standaloneCode from 'ajv/dist/standalone/index.js'
import { build } from 'esbuild'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const SRC = join(ROOT, 'src')
const DIST = join(ROOT, 'dist')
const FOLDER = join(DIST, 'programs')

/** Files that a process starts with, and what others import from them. */
const PROGRAMS = {
  'cli/main': ['runCli'],
  'daemon/daemon-main': [],
  'daemon/coordinator-main': [],
  'daemon/writer-main': [],
  'daemon/flush-helper': [],
}
/** Loaded while the compiled form is made, so that it is in it; the daemons' own files would start to serve. */
const WARM = [
  'cli/main',
  'daemon/volume-daemon',
  'daemon/mountless-daemon',
  'daemon/coordinator-daemon',
  'daemon/flush',
  'daemon/writer-line',
  'daemon/local-volume',
  'shadow/documents/document-schemas',
  'shadow/shipped/shipped-writers',
  'shadow/writers/serve-writer',
]
/** Packages with parts that are compiled for the machine. */
const EXTERNAL = ['fuse-native', 'fs-native-extensions']

/** How long the bundle before stays. */
const KEPT_MS = 600_000

/**
 * As it would see itself in dist/; with `require` of a package where the bundler sees it; what is named only
 * when it runs is imported by the loader, for what comes from V8's compiled form may not.
 */
function placed(path) {
  const compiled = relative(SRC, path).replace(/\.ts$/, '.js')
  return readFileSync(path, 'utf8')
    .replaceAll(/createRequire\(import\.meta\.url\)\('/g, "require('")
    .replaceAll(/^ *const require = createRequire\(import\.meta\.url\)\n(?=.*= require\(')/gm, '')
    .replaceAll(/\bimport\((?=\w+\))/g, '__import(')
    .replaceAll('import.meta.url', `__urlOf(${JSON.stringify(compiled)})`)
}

/** The checks that schema-compiler.ts would compile, as code. */
async function compiledSchemas() {
  const { SCHEMA_OPTIONS } = await import('../dist/shadow/documents/schema-options.js')
  const folder = join(ROOT, 'schemas')
  const schemas = readdirSync(folder).map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
  const ajv = new Ajv2020({
    ...SCHEMA_OPTIONS,
    schemas,
    code: { ...SCHEMA_OPTIONS.code, source: true, esm: true },
  })
  const names = Object.fromEntries(schemas.map(({ $id }, index) => [`check${index}`, $id]))
  const byId = Object.entries(names).map(([name, id]) => `${JSON.stringify(id)}: ${name}`)
  return `${standaloneCode.default(ajv, names)}
const byId = { ${byId.join(', ')} }
export const compileSchemas = () => (id) => byId[id]
`
}

const schemas = {
  name: 'schemas',
  setup(building) {
    building.onLoad({ filter: /\/schema-compiler\.ts$/ }, async () => ({
      contents: await compiledSchemas(),
      loader: 'js',
      resolveDir: ROOT,
    }))
  },
}

const places = {
  name: 'places',
  setup(building) {
    building.onLoad({ filter: /\.ts$/ }, ({ path }) =>
      path.startsWith(SRC) ? { contents: placed(path), loader: 'ts' } : undefined,
    )
  },
}

async function bundle() {
  const names = [...new Set([...Object.keys(PROGRAMS), ...WARM])]
  const entries = names.map((name) => `  ${JSON.stringify(name)}: () => import('./${name}.ts'),`)
  const { outputFiles, metafile, warnings } = await build({
    stdin: {
      contents: `export const modules = {\n${entries.join('\n')}\n}\n`,
      resolveDir: SRC,
      loader: 'ts',
    },
    absWorkingDir: ROOT,
    bundle: true,
    write: false,
    metafile: true,
    format: 'cjs',
    platform: 'node',
    target: 'node20',
    charset: 'ascii',
    legalComments: 'inline',
    logLevel: 'warning',
    external: EXTERNAL,
    // What the loader calls.
    banner: { js: '(function (exports, require, module, __urlOf, __import) {' },
    footer: { js: '})' },
    plugins: [schemas, places],
  })
  if (warnings.length > 0) throw new Error('The bundle may not do what the files do')
  return { text: outputFiles[0].text, inputs: Object.keys(metafile.inputs) }
}

/** What the packages in the bundle ask to go with them. */
function licences(inputs) {
  const folders = new Set(inputs.map((path) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]))
  folders.delete(undefined)
  return [...folders].sort().map((folder) => {
    const file = readdirSync(join(ROOT, folder)).find((name) => /^licen[cs]e/i.test(name))
    const { license } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'))
    const terms = file === undefined ? `${license}\n` : readFileSync(join(ROOT, folder, file), 'utf8')
    return `== ${folder.replace(/^.*node_modules\//, '')} ==\n\n${terms}\n`
  })
}

function stub(program, exported) {
  const up = '../'.repeat(program.split('/').length - 1)
  const loaded = `await load(${JSON.stringify(program)})`
  const does = exported.length === 0 ? loaded : `export const { ${exported.join(', ')} } = ${loaded}`
  return `// What tsc compiled, from the bundle.\nimport { load } from '${up}programs/load.js'\n\n${does}\n`
}

async function main() {
  const { text, inputs } = await bundle()
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 16)
  const file = `bundle-${digest}.cjs`
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(join(FOLDER, file), text)
  writeFileSync(join(FOLDER, 'package-licences.txt'), licences(inputs).join('\n'))
  copyFileSync(join(ROOT, 'scripts/program-loader.mjs'), join(FOLDER, 'load.js'))
  writeFileSync(join(FOLDER, 'bundle.js'), `export const file = ${JSON.stringify(file)}\n`)
  const warm = spawnSync(process.execPath, [join(FOLDER, 'load.js'), ...WARM], { encoding: 'utf8', cwd: '/' })
  if (warm.status !== 0 || !existsSync(join(FOLDER, `${file}.cache`)))
    throw new Error(`The compiled form of the programs was not made:\n${warm.stdout}${warm.stderr}`)
  for (const [program, exported] of Object.entries(PROGRAMS)) {
    if (!existsSync(join(DIST, `${program}.js`))) throw new Error(`tsc has written no ${program}.js`)
    writeFileSync(join(DIST, `${program}.js`), stub(program, exported))
  }
  // What has just started may not have read the one before yet.
  for (const name of readdirSync(FOLDER)) {
    const path = join(FOLDER, name)
    const isOld = !name.startsWith(file) && Date.now() - statSync(path).mtimeMs > KEPT_MS
    if (name.startsWith('bundle-') && isOld) rmSync(path)
  }
}

main().catch((error) => {
  console.error(`bundle-programs: ${error.message}`)
  process.exitCode = 1
})
