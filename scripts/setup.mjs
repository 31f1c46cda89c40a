// Brings a checkout to the point where everything runs: npm packages, Debian packages, the build.
//
// Always true: it needs nothing but Node and npm; what is there and fresh is left alone, so with
// everything in place it starts no program that needs a network; what cannot be had is named
// together with what will be skipped for lack of it. It fails only when the build does.
//
// Usage: node scripts/setup.mjs [--no-apt]

import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))

/** Debian packages, how to see that each is there (any path of `found`), and what lacks without it. */
const PACKAGES = [
  { name: 'gcc', found: ['cc', 'gcc'], without: 'the native addon cannot be built: no mounts' },
  { name: 'make', found: ['make'], without: 'the native addon cannot be built: no mounts' },
  {
    name: 'libc6-dev',
    found: ['/usr/include/stdio.h'],
    without: 'the native addon cannot be built: no mounts',
  },
  { name: 'python3', found: ['python3'], without: 'node-gyp cannot build the native addon: no mounts' },
  { name: 'e2fsprogs', found: ['e2fsck', '/sbin/e2fsck'], without: 'file systems are not judged by e2fsck' },
  { name: 'qemu-utils', found: ['qemu-img'], without: 'qcow2 images are not judged by qemu' },
  { name: 'libnbd-bin', found: ['nbdinfo'], without: 'dirty bitmaps are not read over NBD' },
  { name: 'fuse3', found: ['fusermount3'], without: 'mounts without privilege are not tested' },
  { name: 'libfuse3-dev', found: ['/usr/include/fuse3/fuse.h'], without: 'no bench beside libfuse' },
  {
    name: 'libfuse2',
    found: [
      '/lib/x86_64-linux-gnu/libfuse.so.2',
      '/usr/lib/x86_64-linux-gnu/libfuse.so.2',
      '/lib/aarch64-linux-gnu/libfuse.so.2',
    ],
    without: 'the fuse-native driver cannot load',
  },
  { name: 'fuse2fs', found: ['fuse2fs'], without: 'no bench beside fuse2fs' },
  { name: 'fio', found: ['fio'], without: 'no bench by fio' },
  { name: 'sqlite3', found: ['sqlite3'], without: 'no SQLite database on the mount is tested' },
  {
    name: 'postgresql',
    // The clients' package makes the folder, too.
    found: ['15', '16', '17', '18'].map((version) => `/usr/lib/postgresql/${version}/bin/postgres`),
    without: 'no PostgreSQL on the mount is tested',
  },
  {
    name: 'libpq-dev',
    found: ['/usr/include/postgresql/pg_config.h'],
    without: "PostgreSQL's own checks are not run on the mount",
  },
  { name: 'bzip2', found: ['bzip2'], without: "PostgreSQL's own checks are not run on the mount" },
  { name: 'mariadb-server', found: ['mariadbd'], without: 'the writer for MariaDB is not tested' },
  { name: 'redis-server', found: ['redis-server'], without: 'the writer for Redis is not tested' },
  { name: 'attr', found: ['getfattr'], without: 'extended attributes are not judged by getfattr' },
  { name: 'acl', found: ['getfacl'], without: 'ACLs are not judged by getfacl' },
  { name: 'git', found: ['git'], without: 'no git clone on the mount is tested' },
  { name: 'dpkg-dev', found: ['dpkg-source'], without: "no other program's source is built on the mount" },
  {
    name: 'libacl1-dev',
    found: ['/usr/include/sys/acl.h'],
    without: 'rsync and tar are not built on the mount',
  },
  { name: 'zlib1g-dev', found: ['/usr/include/zlib.h'], without: 'git is not built on the mount' },
  { name: 'tcl8.6-dev', found: ['/usr/include/tcl8.6/tcl.h'], without: 'SQLite is not built on the mount' },
  { name: 'tcl', found: ['tclsh'], without: 'SQLite is not built on the mount' },
  { name: 'dbench', found: ['dbench'], without: 'no load of dbench on the mount is tested' },
  { name: 'stress-ng', found: ['stress-ng'], without: "stress-ng's file-system stressors are not run" },
  { name: 'rsync', found: ['rsync'], without: 'trees are not compared by rsync' },
  { name: 'jq', found: ['jq'], without: "a backup's list of files is not read by jq" },
  { name: 'restic', found: ['restic'], without: 'lists of changed files are not read by restic' },
  { name: 'tar', found: ['tar'], without: 'no copy is brought up to date by tar' },
]

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 64 << 20, ...options })
  return {
    ok: result.status === 0,
    output: `${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}`,
  }
}

function onPath(command) {
  if (command.startsWith('/')) return existsSync(command)
  const folders = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`.split(':')
  return folders.some((folder) => folder !== '' && existsSync(join(folder, command)))
}

const isThere = (entry) => entry.found.some(onPath)

/** Installs the npm packages when they are not there or older than the lock file. */
function installNpmPackages(say) {
  const mark = join(ROOT, 'node_modules/.package-lock.json')
  const lock = join(ROOT, 'package-lock.json')
  if (existsSync(mark) && sameLock(lock, mark)) return
  say('installing npm packages')
  const result = run('npm', ['ci', '--no-audit', '--no-fund'])
  if (!result.ok) throw new Error(`npm ci failed:\n${result.output}`)
}

function sameLock(lock, mark) {
  if (statSync(mark).mtimeMs >= statSync(lock).mtimeMs) return true
  // A fresh checkout may only have touched the lock: compare what is installed with what it asks for.
  const wanted = JSON.parse(readFileSync(lock, 'utf8')).packages
  const installed = JSON.parse(readFileSync(mark, 'utf8')).packages
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '' || entry.optional) continue
    if (installed[path]?.version !== entry.version) return false
  }
  const now = new Date()
  utimesSync(mark, now, now)
  return true
}

/** @returns the entries that are still missing */
function installDebianPackages(say) {
  const missing = PACKAGES.filter((entry) => !isThere(entry))
  if (missing.length === 0) return missing
  const isRoot = process.getuid?.() === 0
  if (!isRoot || !onPath('apt-get') || process.argv.includes('--no-apt')) return missing
  say(`installing ${missing.map((entry) => entry.name).join(' ')}`)
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const install = (names) =>
    run('apt-get', ['install', '-y', '--no-install-recommends', ...names], { env, timeout: 600_000 }).ok
  if (install(missing.map((entry) => entry.name))) return PACKAGES.filter((entry) => !isThere(entry))
  run('apt-get', ['update'], { env, timeout: 300_000 })
  // One package that this release does not have must not cost the others.
  if (!install(missing.map((entry) => entry.name))) for (const entry of missing) install([entry.name])
  return PACKAGES.filter((entry) => !isThere(entry))
}

function newestMs(paths) {
  let newest = 0
  for (const path of paths) {
    const full = join(ROOT, path)
    if (!existsSync(full)) continue
    const files = statSync(full).isDirectory()
      ? readdirSync(full, { recursive: true }).map((f) => join(full, f))
      : [full]
    for (const file of files) newest = Math.max(newest, statSync(file).mtimeMs)
  }
  return newest
}

function isStale(target, sources) {
  const full = join(ROOT, target)
  return !existsSync(full) || statSync(full).mtimeMs < newestMs(sources)
}

function build(say) {
  const stamp = 'dist/.built'
  const bundling = ['scripts/bundle-programs.mjs', 'scripts/program-loader.mjs']
  if (
    isStale(stamp, [
      'src',
      'types',
      'schemas',
      'tsconfig.json',
      'package.json',
      'package-lock.json',
      ...bundling,
    ])
  ) {
    say('compiling TypeScript')
    const startedMs = Date.now()
    const result = run('npm', ['run', '--silent', 'build:ts'])
    if (!result.ok) throw new Error(`The TypeScript build failed:\n${result.output}`)
    mkdirSync(join(ROOT, 'dist'), { recursive: true })
    writeFileSync(join(ROOT, stamp), '')
    // What changed while it was compiled is not in it.
    utimesSync(join(ROOT, stamp), new Date(startedMs), new Date(startedMs))
  }
  if (isStale('native/build/Release/umbra.node', ['native/src', 'native/binding.gyp'])) {
    say('compiling the native addon')
    const result = run('npm', ['run', '--silent', 'build:native'])
    if (!result.ok) throw new Error(`The build of the native addon failed:\n${result.output}`)
  }
}

/**
 * @param {{ quiet?: boolean }} [options]
 * @returns {{ missing: string[] }} what is not there, with what it costs, one sentence each
 */
export function setup(options = {}) {
  const say = options.quiet ? () => {} : (text) => console.error(`setup: ${text}`)
  const missing = installDebianPackages(say)
  installNpmPackages(say)
  const sentences = missing.map((entry) => `${entry.name} is not installed: ${entry.without}`)
  if (!existsSync('/dev/fuse')) sentences.push('/dev/fuse is not there: mounts are not tested')
  for (const sentence of sentences) say(sentence)
  build(say)
  return { missing: sentences }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    setup()
  } catch (error) {
    console.error(`setup: ${error.message}`)
    process.exitCode = 1
  }
}
