// What can be said to the shadow shell: diskshadow's commands, as data.
//
// Always true: every command of diskshadow is in VERBS, also those that mean nothing here: they are known and
// refused with their reason.

import type { SnapshotContext } from '../../documents/vocabulary.ts'
import type { ShadowChoice } from './shadow-store.ts'

export interface ShadowOptions {
  readonly noAutoRecovery: boolean
  readonly rollbackRecovery: boolean
}

export const WRITER_LISTS = ['metadata', 'detailed', 'status'] as const
export type WriterListing = (typeof WRITER_LISTS)[number]

export type ShellCommand =
  | { readonly verb: 'set' }
  | { readonly verb: 'set context'; readonly context: SnapshotContext }
  | { readonly verb: 'set option'; readonly options: ShadowOptions }
  | { readonly verb: 'set metadata'; readonly folder: string }
  | { readonly verb: 'set verbose'; readonly on: boolean }
  | { readonly verb: 'load metadata'; readonly folder: string }
  | { readonly verb: 'writer verify' | 'writer exclude'; readonly writer: string }
  | { readonly verb: 'add' }
  | {
      readonly verb: 'add volume'
      readonly volume: string
      readonly alias: string | null
      readonly provider: string | null
    }
  | { readonly verb: 'add alias'; readonly name: string; readonly value: string }
  | { readonly verb: 'exec'; readonly program: string; readonly args: readonly string[] }
  | { readonly verb: 'begin backup' | 'create' | 'end backup' }
  | { readonly verb: 'begin restore' | 'end restore' | 'simulate restore' }
  | { readonly verb: 'list writers'; readonly listing: WriterListing }
  | { readonly verb: 'list shadows'; readonly choice: ShadowChoice }
  | { readonly verb: 'list providers' }
  | { readonly verb: 'delete shadows'; readonly choice: ShadowChoice }
  | { readonly verb: 'expose'; readonly id: string; readonly folder: string }
  | { readonly verb: 'unexpose'; readonly idOrFolder: string }
  | { readonly verb: 'revert'; readonly id: string; readonly force: boolean }
  | { readonly verb: 'reset' | 'exit' | 'help' }

export type ShellVerb = ShellCommand['verb']

/** With their usage, in the order in which help prints them. */
export const VERBS: Readonly<Record<ShellVerb, string>> = {
  set: '',
  'set context': 'clientaccessible | persistent [nowriters] | volatile [nowriters]',
  'set option': '[differential] [rollbackrecover | noautorecover]',
  'set metadata': 'FOLDER',
  'set verbose': 'on | off',
  'load metadata': 'FOLDER',
  'writer verify': 'WRITER[:PATH/NAME]',
  'writer exclude': 'WRITER[:PATH/NAME]',
  add: '',
  'add volume': 'VOLUME [alias NAME] [provider ID]',
  'add alias': 'NAME VALUE',
  'begin backup': '',
  create: '',
  exec: 'FILE [ARGUMENT...]',
  'end backup': '',
  'begin restore': '',
  'end restore': '',
  'simulate restore': '',
  'list writers': '[metadata | detailed | status]',
  'list shadows': 'all | set ID | id ID | volume VOLUME',
  'list providers': '',
  'delete shadows': 'all | volume VOLUME | oldest VOLUME | set ID | id ID | exposed FOLDER',
  expose: 'ID FOLDER',
  unexpose: 'ID | FOLDER',
  revert: 'ID [force]',
  reset: '',
  exit: '',
  help: '',
}

/** Commands that need hardware, and why there is nothing for them to do. */
export const NOT_APPLICABLE: Readonly<Record<string, string>> = {
  import:
    'there is no hardware that could bring a shadow copy here; a shadow copy travels as an image (umbra export, umbra import)',
  mask: 'there are no imported hardware shadow copies to be masked; umbra shadow delete deletes shadow copies',
  break:
    'a shadow copy shares its blocks with its volume and cannot be parted from it; umbra export and umbra import make a volume of it',
}
