// Compiles the native addon: native/src/*.c to native/build/Release/umbra.node.
//
// Always true: nothing is done when the output is newer than every source; no network is used where
// Node's headers are installed beside it; a machine without a compiler gets one clear sentence.

import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const nativeFolder = join(root, 'native')
const output = join(nativeFolder, 'build', 'Release', 'umbra.node')

function sources(): string[] {
  const folder = join(nativeFolder, 'src')
  const code = readdirSync(folder).map((name) => join(folder, name))
  return [join(nativeFolder, 'binding.gyp'), fileURLToPath(import.meta.url), ...code]
}

function isUpToDate(): boolean {
  if (!existsSync(output)) return false
  const builtAtMs = statSync(output).mtimeMs
  return sources().every((path) => statSync(path).mtimeMs <= builtAtMs)
}

function hasProgram(name: string, args: string[]): boolean {
  return spawnSync(name, args, { stdio: 'ignore' }).status === 0
}

/** What is missing to compile, as a sentence; undefined when all is there. */
function missingTools(): string | undefined {
  const compiler = process.env['CC'] ?? 'cc'
  const missing = [
    ...(hasProgram(compiler, ['--version']) ? [] : [`a C compiler (${compiler})`]),
    ...(hasProgram('make', ['--version']) ? [] : ['make']),
    ...(hasProgram('python3', ['--version']) ? [] : ['python3']),
  ]
  if (missing.length === 0) return undefined
  return `The native addon needs ${missing.join(', ')}; on Debian: apt-get install build-essential python3`
}

/** The installation prefix whose include/node holds Node's headers, if it has them. */
function headersPrefix(): string | undefined {
  const prefix = resolve(dirname(process.execPath), '..')
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? prefix : undefined
}

function build(): number {
  if (isUpToDate() && !process.argv.includes('--force')) {
    console.log('The native addon is up to date')
    return 0
  }
  const missing = missingTools()
  if (missing !== undefined) {
    console.error(missing)
    return 1
  }
  const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js')
  const prefix = headersPrefix()
  const args = ['configure', 'build', '--directory', nativeFolder, ...(prefix ? ['--nodedir', prefix] : [])]
  const run = spawnSync(process.execPath, [nodeGyp, ...args], { encoding: 'utf8' })
  if (run.status === 0 && existsSync(output)) {
    console.log('Built native/build/Release/umbra.node')
    return 0
  }
  console.error(`${run.stdout ?? ''}${run.stderr ?? ''}`)
  console.error(
    prefix
      ? 'The native addon did not compile'
      : 'The native addon did not compile; Node has no headers here, so node-gyp has to download them',
  )
  return 1
}

process.exitCode = build()
