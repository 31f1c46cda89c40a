// npm ci inside a mount, with this project's own lock file: tens of thousands of small files, renames
// and links, compared with what npm installs on the host, and used from the live tree and a snapshot.

// deadline 300

import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra } from '../support/umbra.ts'
import { differences, makeStage } from './stage.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const NO_REGISTRY =
  /ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|E40[0-9]|E50[0-9]/

test(
  'npm ci in the mount, whole in the live tree and in its snapshot',
  requires('root', '/dev/fuse', 'npm', 'e2fsck', 'diff'),
  async (t) => {
    const stage = await makeStage(t, '4G')
    const app = join(stage.dir, 'app')
    mkdirSync(app)
    for (const name of ['package.json', 'package-lock.json']) copyFileSync(join(ROOT, name), join(app, name))

    const installed = await run(
      'npm',
      ['ci', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund', '--no-progress'],
      { cwd: app, check: false, timeoutMs: 150_000 },
    )
    if (installed.code !== 0 && NO_REGISTRY.test(installed.stderr)) {
      return t.comment('skipped: npm has neither the packages in its cache nor a registry')
    }
    t.is(installed.code, 0, installed.stderr)
    await umbra(['snapshot', 'create', stage.dir, 'installed'])

    const inSnapshot = stage.within('installed', 'app')
    t.alike(await differences(app, inSnapshot), [], 'the snapshot is the live tree')
    const host = join(ROOT, 'node_modules')
    if (sameLock(app, ROOT)) {
      // What install scripts change on the host is not the same, nor is what they add.
      const other = await differences(host, join(app, 'node_modules'), '--exclude=.package-lock.json')
      t.alike(
        other.filter((line) => / differ$/.test(line) && !line.includes('/esbuild')),
        [],
        'files are those of the host',
      )
      t.alike(
        other.filter((line) => line.startsWith(`Only in ${host}`) && line.endsWith('.ts')),
        [],
        'none is missing',
      )
    } else t.comment('not compared: the host has no installation of this lock file')
    for (const [folder, what] of [
      [app, 'the live tree'],
      [inSnapshot, 'the snapshot'],
    ] as const) {
      const listed = await run('npm', ['ls', '--all', '--json'], { cwd: folder, check: false })
      const problems = (JSON.parse(listed.stdout) as { problems?: string[] }).problems ?? []
      t.alike(
        problems.filter((text) => /missing|invalid/.test(text) && !/optional/.test(text)),
        [],
        `npm ls in ${what}`,
      )
      const program = `console.log(typeof require('commander').Command, require('vscode-jsonrpc/package.json').name)`
      const used = await run(process.execPath, ['-e', program], { cwd: folder })
      t.is(used.stdout.trim(), 'function vscode-jsonrpc', `packages load from ${what}`)
    }
    await run('rm', ['-rf', join(app, 'node_modules')])
    t.absent(existsSync(join(app, 'node_modules')), 'and it can be removed')
    t.ok(
      existsSync(join(inSnapshot, 'node_modules', 'commander', 'package.json')),
      'but not from the snapshot',
    )
    await stage.judge()
  },
)

/** Whether the host's installation is of the same lock file. */
function sameLock(app: string, root: string): boolean {
  const read = (folder: string): unknown => {
    const path = join(folder, 'node_modules', '.package-lock.json')
    if (!existsSync(path)) return undefined
    const { packages } = JSON.parse(readFileSync(path, 'utf8')) as {
      packages: Record<string, { version: string }>
    }
    return packages['node_modules/typescript']?.version
  }
  return read(app) === read(root)
}
