// The package as npm packs and installs it: complete, and working from any folder.

// deadline 240

import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { isMountPoint } from '../support/umbra.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const NO_REGISTRY =
  /ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|E40[0-9]|E50[0-9]/

interface Manifest {
  files: string[]
}

/** Packs what package.json lists, from a copy of it: this checkout is used by other tests meanwhile. */
async function pack(folder: string): Promise<string> {
  const source = join(folder, 'source')
  mkdirSync(source)
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as Manifest
  for (const path of ['package.json', 'LICENSE', ...files]) {
    if (existsSync(join(ROOT, path))) cpSync(join(ROOT, path), join(source, path), { recursive: true })
  }
  await run(process.execPath, [join(ROOT, 'scripts/copy-prebuild.mjs'), source])
  const packed = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], {
    cwd: source,
  })
  const [{ filename }] = JSON.parse(packed.stdout) as [{ filename: string }]
  return join(folder, filename)
}

/** @returns the folder of the installed package, or undefined where npm cannot have its dependencies */
async function install(t: Assertion, folder: string, tarball: string): Promise<string | undefined> {
  const home = join(folder, 'else where')
  mkdirSync(home)
  writeFileSync(join(home, 'package.json'), '{ "private": true }')
  const args = [
    'install',
    '--ignore-scripts',
    '--omit=dev',
    '--omit=optional',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    tarball,
  ]
  const done = await run('npm', args, { cwd: home, check: false, timeoutMs: 120_000 })
  if (done.code !== 0 && NO_REGISTRY.test(done.stderr)) return undefined
  t.is(done.code, 0, done.stderr)
  return join(home, 'node_modules/umbrafs')
}

test(
  'a packed and installed package mounts, snapshots and exports from any folder',
  requires('root', '/dev/fuse', 'npm'),
  async (t) => {
    const folder = tempFolder(t)
    const installed = await install(t, folder, await pack(folder))
    if (installed === undefined)
      return t.comment('skipped: npm has neither the dependencies in its cache nor a registry')
    const link = join(installed, '../.bin/umbra')
    const work = join(folder, 'work')
    mkdirSync(join(work, 'mnt'), { recursive: true })
    const umbra = (cwd: string, ...args: string[]) => run(link, args, { cwd, check: false })
    t.teardown(() => umbra('/', 'unmount', '--force', join(work, 'mnt')), { order: -1 })

    for (const path of ['docs/CLI.md', 'docs/FORMAT.md', 'LICENSE', 'README.md', 'native/binding.gyp']) {
      t.ok(existsSync(join(installed, path)), `${path} is in it`)
    }
    for (const [cwd, ...args] of [
      [work, 'create', 'v.umbra', '--size', '64M'],
      [work, 'mount', 'v.umbra', 'mnt'],
    ] as const) {
      const done = await umbra(cwd, ...args)
      t.is(done.code, 0, `${args.join(' ')} ${done.stderr}`)
    }
    writeFileSync(join(work, 'mnt/x'), 'written')
    for (const [cwd, ...args] of [
      ['/', 'snapshot', 'create', join(work, 'mnt'), 'one'],
      [join(work, 'mnt'), 'status', '.'],
      ['/proc', 'export', join(work, 'v.umbra'), 'one', '--format', 'raw', '-o', join(work, 'one.img')],
      ['/', 'unmount', join(work, 'mnt')],
      [work, 'check', 'v.umbra'],
    ] as const) {
      const done = await umbra(cwd, ...args)
      t.is(done.code, 0, `${args.join(' ')} ${done.stderr}`)
    }
    t.absent(isMountPoint(join(work, 'mnt')))

    renameSync(join(installed, 'prebuilds'), join(installed, 'elsewhere'))
    const refused = await umbra('/', 'doctor')
    t.is(refused.code, 11)
    t.ok(
      refused.stdout.includes(`npx node-gyp rebuild --directory ${join(installed, 'native')}`),
      'it says how to build the addon',
    )
  },
)
