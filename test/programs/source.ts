// Fetches the source of a Debian package, so that a real program can be built on a mount and judge the
// file system by its own checks.
//
// Always true: the machine's own package lists are left alone (apt is given lists of ours), signatures
// are checked by apt, and what was fetched once is kept below node_modules/.cache, put there whole.

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findProgram } from '../support/requires.ts'
import { run } from '../support/run.ts'

const CACHE = fileURLToPath(new URL('../../node_modules/.cache/umbra-sources', import.meta.url))
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const TIMEOUT = { timeoutMs: 180_000 }

/**
 * The `.dsc` file of a source package, to be unpacked by dpkg-source -x; undefined, with a line that the
 * suite's runner collects, where it cannot be had: no Debian, no network, no root.
 */
export async function debianSource(name: string): Promise<string | undefined> {
  const kept = join(CACHE, name)
  try {
    if (!existsSync(kept)) await fetchSource(name, kept)
    const description = readdirSync(kept).find((file) => file.endsWith('.dsc'))
    if (description === undefined) throw new Error('it has no .dsc file')
    return join(kept, description)
  } catch (error) {
    const reason = String(error instanceof Error ? error.message : error).split('\n')[0]
    console.log(`# missing: the Debian source of ${name} (${reason})`)
    return undefined
  }
}

/**
 * Folder with the files of a source's first archive whose paths match (patterns of tar's): unpacked
 * once, since a large archive takes longer to read than a small part of it to use.
 */
export async function partOfSource(dsc: string, patterns: readonly string[]): Promise<string> {
  const archiveFolder = dirname(dsc)
  const kept = `${archiveFolder}-part`
  if (existsSync(kept)) return kept
  const archive = readdirSync(archiveFolder).find((file) => /\.orig\.tar\./.test(file)) ?? ''
  const beside = mkdtempSync(join(CACHE, '.part-'))
  const choice = ['--strip-components=1', '--no-same-owner', '--wildcards', ...patterns]
  await run('tar', ['-xf', join(archiveFolder, archive), '-C', beside, ...choice], TIMEOUT)
  if (!existsSync(kept)) renameSync(beside, kept)
  else rmSync(beside, { recursive: true })
  return kept
}

async function fetchSource(name: string, into: string): Promise<void> {
  const release = /^VERSION_CODENAME=(\w+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1]
  const isReady = ['apt-get', 'dpkg-source'].every(findProgram) && existsSync(KEYRING)
  if (!isReady || release === undefined) throw new Error('no Debian with dpkg-dev')
  const folder = mkdtempSync(join(tmpdir(), 'umbra-source-'))
  try {
    const at = (...path: string[]) => join(folder, ...path)
    for (const path of ['lists/partial', 'cache/archives/partial', 'files'])
      mkdirSync(at(path), { recursive: true })
    writeFileSync(
      at('own.sources'),
      `Types: deb-src\nURIs: http://deb.debian.org/debian\nSuites: ${release}\nComponents: main\nSigned-By: ${KEYRING}\n`,
    )
    const options = [
      `Dir::Etc::sourcelist=${at('own.sources')}`,
      'Dir::Etc::sourceparts=-',
      `Dir::State::Lists=${at('lists')}`,
      `Dir::Cache=${at('cache')}`,
      'APT::Sandbox::User=root',
      'Acquire::Retries=1',
      'Acquire::http::Timeout=20',
    ].flatMap((option) => ['-o', option])
    await run('apt-get', [...options, '-q', 'update', '--error-on=any'], TIMEOUT)
    await run('apt-get', [...options, '-q', 'source', '--download-only', name], {
      ...TIMEOUT,
      cwd: at('files'),
    })
    mkdirSync(CACHE, { recursive: true })
    // The cache may lie on another file system: copied beside its place, then renamed.
    const beside = mkdtempSync(join(CACHE, `.${name}-`))
    await run('cp', ['-r', `${at('files')}/.`, beside])
    if (!existsSync(into)) renameSync(beside, into)
    else rmSync(beside, { recursive: true })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
