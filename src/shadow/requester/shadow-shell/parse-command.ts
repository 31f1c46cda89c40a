// Reads the shadow shell's commands: words in, a ShellCommand out.
//
// Always true: verbs and keywords may be in either case, names and paths are taken as they are; what is
// refused here has changed nothing.

import { UmbraError } from '../../../base/errors.ts'
import type { SnapshotContext } from '../../documents/vocabulary.ts'
import type { ShadowChoice } from './shadow-store.ts'
import {
  NOT_APPLICABLE,
  type ShadowOptions,
  type ShellCommand,
  type ShellVerb,
  VERBS,
  WRITER_LISTS,
} from './shell-command.ts'

/**
 * @param words at least one
 * @throws UmbraError INVALID_ARGUMENT; UNAVAILABLE for a command that needs hardware;
 *   VOLUME_NOT_SUPPORTED for an option that does
 */
export function parseCommand(words: readonly string[]): ShellCommand {
  const [first = '', second = ''] = words.map((word) => word.toLowerCase())
  const reason = Object.hasOwn(NOT_APPLICABLE, first) ? NOT_APPLICABLE[first] : undefined
  if (reason !== undefined) throw new UmbraError('UNAVAILABLE', `${first} does not apply: ${reason}`)
  const pair = `${first} ${second}`
  const verb = [pair, first].find((name): name is ShellVerb => Object.hasOwn(VERBS, name))
  if (verb === undefined) throw unknown(first, second)
  const args = words.slice(verb.split(' ').length)
  const command = PARSERS[verb](args)
  if (command !== undefined) return command
  throw new UmbraError('INVALID_ARGUMENT', `Usage: ${`${verb} ${VERBS[verb]}`.trim()}`)
}

type Parser = (args: readonly string[]) => ShellCommand | undefined

const PARSERS: Readonly<Record<ShellVerb, Parser>> = {
  set: alone({ verb: 'set' }),
  'set context': contextCommand,
  'set option': optionCommand,
  'set metadata': one((folder) => ({ verb: 'set metadata', folder })),
  'set verbose': one((word) => {
    const isKnown = ['on', 'off'].includes(word.toLowerCase())
    return isKnown ? { verb: 'set verbose', on: word.toLowerCase() === 'on' } : undefined
  }),
  'load metadata': one((folder) => ({ verb: 'load metadata', folder })),
  'writer verify': one((writer) => ({ verb: 'writer verify', writer })),
  'writer exclude': one((writer) => ({ verb: 'writer exclude', writer })),
  add: alone({ verb: 'add' }),
  'add volume': volumeCommand,
  'add alias': ([name, value, ...rest]) =>
    name === undefined || value === undefined || rest.length > 0
      ? undefined
      : { verb: 'add alias', name: aliasName(name), value },
  'begin backup': alone({ verb: 'begin backup' }),
  create: alone({ verb: 'create' }),
  exec: ([program, ...args]) => (program === undefined ? undefined : { verb: 'exec', program, args }),
  'end backup': alone({ verb: 'end backup' }),
  'begin restore': alone({ verb: 'begin restore' }),
  'end restore': alone({ verb: 'end restore' }),
  'simulate restore': alone({ verb: 'simulate restore' }),
  'list writers': writersCommand,
  'list shadows': (args) => {
    const choice = choiceOf(args)
    const isListed = choice !== undefined && choice.by !== 'oldest' && choice.by !== 'exposed'
    return isListed ? { verb: 'list shadows', choice } : undefined
  },
  'list providers': alone({ verb: 'list providers' }),
  'delete shadows': (args) => {
    const choice = choiceOf(args)
    return choice && { verb: 'delete shadows', choice }
  },
  expose: exposeCommand,
  unexpose: one((idOrFolder) => ({ verb: 'unexpose', idOrFolder })),
  revert: ([id, force, ...rest]) =>
    id === undefined || rest.length > 0 || (force !== undefined && force.toLowerCase() !== 'force')
      ? undefined
      : { verb: 'revert', id: bare(id), force: force !== undefined },
  reset: alone({ verb: 'reset' }),
  exit: alone({ verb: 'exit' }),
  help: () => ({ verb: 'help' }),
}

function alone(command: ShellCommand): Parser {
  return (args) => (args.length === 0 ? command : undefined)
}

function one(make: (argument: string) => ShellCommand | undefined): Parser {
  return ([argument, ...rest]) => (argument === undefined || rest.length > 0 ? undefined : make(argument))
}

const CONTEXTS: Readonly<Record<string, SnapshotContext>> = {
  clientaccessible: 'client-accessible',
  persistent: 'app-rollback',
  'persistent nowriters': 'nas-rollback',
  volatile: 'backup',
  'volatile nowriters': 'file-share-backup',
}

function contextCommand(args: readonly string[]): ShellCommand | undefined {
  const words = args.join(' ').toLowerCase()
  const context = Object.hasOwn(CONTEXTS, words) ? CONTEXTS[words] : undefined
  return context && { verb: 'set context', context }
}

const OPTIONS = ['differential', 'plex', 'transportable', 'rollbackrecover', 'txfrecover', 'noautorecover']

function optionCommand(args: readonly string[]): ShellCommand | undefined {
  const given = new Set(args.map((word) => word.toLowerCase()))
  if ([...given].some((word) => !OPTIONS.includes(word))) return undefined
  const has = (word: string): boolean => given.has(word)
  if (has('differential') && has('plex')) {
    throw new UmbraError('INVALID_ARGUMENT', 'A shadow copy is either differential or a full clone (plex)')
  }
  if (has('noautorecover') && (has('rollbackrecover') || has('txfrecover'))) {
    throw new UmbraError('INVALID_ARGUMENT', 'Recovery needs auto-recovery: noautorecover goes alone')
  }
  const refuse = (what: string): never => {
    throw new UmbraError('VOLUME_NOT_SUPPORTED', what)
  }
  if (has('plex')) refuse('Shadow copies are differential; a full clone (plex) is made by umbra export')
  if (has('transportable'))
    refuse('No shadow copy is transportable: that needs hardware; umbra export instead')
  if (has('txfrecover')) refuse('There is no transactional file system to be recovered (txfrecover)')
  const options: ShadowOptions = {
    noAutoRecovery: has('noautorecover'),
    rollbackRecovery: has('rollbackrecover'),
  }
  return { verb: 'set option', options }
}

function volumeCommand(args: readonly string[]): ShellCommand | undefined {
  const [volume, ...rest] = args
  if (volume === undefined || rest.length % 2 !== 0) return undefined
  let alias: string | null = null
  let provider: string | null = null
  for (let at = 0; at < rest.length; at += 2) {
    const [word = '', value = ''] = rest.slice(at)
    if (word.toLowerCase() === 'alias') alias = aliasName(value)
    else if (word.toLowerCase() === 'provider') provider = bare(value).toLowerCase()
    else return undefined
  }
  return { verb: 'add volume', volume, alias, provider }
}

/** It becomes an environment variable. */
function aliasName(name: string): string {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name)) return name
  throw new UmbraError('INVALID_ARGUMENT', `Not a name for an alias: ${JSON.stringify(name)}`)
}

function writersCommand([given, ...rest]: readonly string[]): ShellCommand | undefined {
  if (given === undefined) return { verb: 'list writers', listing: 'metadata' }
  const listing = WRITER_LISTS.find((word) => word === given.toLowerCase())
  return listing && rest.length === 0 ? { verb: 'list writers', listing } : undefined
}

function choiceOf([how = '', what, ...rest]: readonly string[]): ShadowChoice | undefined {
  if (rest.length > 0) return undefined
  const by = how.toLowerCase()
  if (by === 'all') return what === undefined ? { by } : undefined
  if (what === undefined) return undefined
  if (by === 'set' || by === 'id') return { by, id: bare(what) }
  if (by === 'volume' || by === 'oldest') return { by, volume: what }
  return by === 'exposed' ? { by, folder: what } : undefined
}

function exposeCommand([id, folder, ...rest]: readonly string[]): ShellCommand | undefined {
  if (id === undefined || folder === undefined || rest.length > 0) return undefined
  if (!/^[A-Za-z]:$|^\\\\/.test(folder)) return { verb: 'expose', id: bare(id), folder }
  throw new UmbraError(
    'INVALID_ARGUMENT',
    `Not a folder: ${folder}. There are no drive letters here, and a share is made of the folder where a shadow copy is exposed`,
  )
}

/** Ids are written in braces on Windows. */
function bare(id: string): string {
  return id.replace(/^\{(.*)\}$/, '$1')
}

function unknown(first: string, second: string): UmbraError {
  const more = Object.keys(VERBS).filter((verb) => verb.startsWith(`${first} `))
  const what = more.length === 0 ? first : `${first} ${second}`.trim()
  const hint = more.length === 0 ? 'help lists the commands' : `there is ${more.join(', ')}`
  return new UmbraError('INVALID_ARGUMENT', `No such command: ${what}; ${hint}`)
}
