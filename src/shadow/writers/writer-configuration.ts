// Configured writers: one JSON file each in the configuration folder, writers/NAME.json.
//
// Always true: a configuration has passed its schema before anything is made of it; the folder and its
// files belong to root or this user and cannot be written by others, since what they name is run.

import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { canonicalText, parseDocument } from '../documents/canonical-json.ts'
import { checkShape } from '../documents/document-schemas.ts'
import { trustedPath } from './trusted-path.ts'

export const WRITER_KINDS = ['script', 'postgresql', 'mariadb', 'redis', 'sqlite'] as const
export type WriterKind = (typeof WRITER_KINDS)[number]

/** What else is in it depends on the kind. */
export interface WriterConfiguration {
  readonly kind: WriterKind
}

export interface ConfiguredWriter {
  readonly name: string
  /** Of its file. */
  readonly path: string
  readonly configuration: WriterConfiguration
  /** The file's text: another text is another writer. */
  readonly text: string
}

const CONFIGURATION_MAX_BYTES = 1024 * 1024
const SUFFIX = '.json'

/** `UMBRA_CONFIG_DIR`, or /etc/umbra for root and ~/.config/umbra for others. It need not exist. */
export function configurationFolder(): string {
  const chosen = process.env['UMBRA_CONFIG_DIR']
  if (chosen) return chosen
  if (process.getuid?.() === 0) return '/etc/umbra'
  return join(process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config'), 'umbra')
}

/** Where hooks are that belong to no mount. */
export function hooksFolder(): string {
  return join(configurationFolder(), 'hooks.d')
}

export function writersFolder(): string {
  return join(configurationFolder(), 'writers')
}

/** @throws UmbraError INVALID_NAME for what cannot be a writer's file */
export function configurationPath(name: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(name)) {
    throw new UmbraError('INVALID_NAME', `Not a name for a writer: ${JSON.stringify(name)}`)
  }
  return join(writersFolder(), `${name}${SUFFIX}`)
}

/** @throws UmbraError INVALID_DOCUMENT that says where and what */
export function validateConfiguration(value: unknown, what: string): WriterConfiguration {
  checkShape('writer-configuration', value, what)
  return value as WriterConfiguration
}

/** The names of all configured writers, sorted. */
export function configuredNames(): string[] {
  try {
    return readdirSync(writersFolder())
      .filter((name) => name.endsWith(SUFFIX) && !name.startsWith('.'))
      .map((name) => name.slice(0, -SUFFIX.length))
      .sort()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** @throws UmbraError NOT_FOUND, NOT_PERMITTED, INVALID_DOCUMENT, INVALID_NAME */
export function readConfiguredWriter(name: string): ConfiguredWriter {
  const path = configurationPath(name)
  const real = trustedPath(path)
  if (statSync(real).size > CONFIGURATION_MAX_BYTES) {
    throw new UmbraError('INVALID_DOCUMENT', `${path} is larger than ${CONFIGURATION_MAX_BYTES} bytes`)
  }
  const text = readFileSync(real, 'utf8')
  return { name, path, configuration: validateConfiguration(parseDocument(text, path), path), text }
}

/**
 * Adds a writer, whole or not at all.
 * @throws UmbraError ALREADY_EXISTS unless `replace`; INVALID_DOCUMENT, INVALID_NAME, NOT_PERMITTED
 */
export function addConfiguredWriter(name: string, value: unknown, replace: boolean): ConfiguredWriter {
  const path = configurationPath(name)
  const configuration = validateConfiguration(value, path)
  mkdirSync(writersFolder(), { recursive: true, mode: 0o700 })
  trustedPath(writersFolder())
  if (!replace && statSync(path, { throwIfNoEntry: false })) {
    throw new UmbraError('ALREADY_EXISTS', `There is a writer ${name} already: ${path}`)
  }
  const text = canonicalText(configuration)
  const unfinished = join(writersFolder(), `.${name}.${process.pid}`)
  try {
    writeFileSync(unfinished, text, { mode: 0o600, flush: true })
    renameSync(unfinished, path)
  } finally {
    rmSync(unfinished, { force: true })
  }
  return { name, path, configuration, text }
}

/** @throws UmbraError NOT_FOUND, INVALID_NAME */
export function removeConfiguredWriter(name: string): void {
  try {
    rmSync(configurationPath(name))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new UmbraError('NOT_FOUND', `There is no configured writer ${name}`, { name }, error)
  }
}
