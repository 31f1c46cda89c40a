// Hook folders: which of their files are hooks, and in what order.
//
// Always true: a folder that somebody else may write, or a hook in it, is refused by an error and not
// left out in silence, since a backup without its freeze looks like one with it; names are taken in the
// order of their bytes; hidden files and what editors and packages leave behind are no hooks.

import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { UmbraError } from '../../base/errors.ts'
import { HookOrder } from './hook-order.ts'
import { type HookOptions, HookPort } from './hook-port.ts'
import { trustedPath } from './trusted-path.ts'
import type { WriterPort, WriterSource } from './writer-port.ts'

/** As qemu-ga's wrapper has it. */
const LEFTOVERS = /^\.|~$|\.(?:bak|orig|rpmnew|rpmorig|rpmsave|sample|dpkg-[a-z]+)$/
const HOOKS_MAX = 1000

/**
 * The hooks of a folder, sorted; none where there is no folder.
 * @throws UmbraError NOT_PERMITTED: others may write the folder or one of its hooks; INVALID_ARGUMENT: it is no folder
 */
export function listHooks(folder: string): string[] {
  let real: string
  try {
    real = trustedPath(folder)
  } catch (error) {
    if (error instanceof UmbraError && error.code === 'NOT_FOUND') return []
    throw error
  }
  if (!statSync(real).isDirectory())
    throw new UmbraError('INVALID_ARGUMENT', `${folder} is no folder of hooks`)
  const names = readdirSync(real).filter((name) => !LEFTOVERS.test(name))
  const hooks = names.map((name) => join(folder, name)).filter(isExecutable)
  if (hooks.length > HOOKS_MAX) {
    throw new UmbraError('LIMIT_EXCEEDED', `${folder} holds more than ${HOOKS_MAX} hooks`)
  }
  for (const hook of hooks) trustedPath(hook)
  return hooks.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

function isExecutable(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false })
  return stat?.isFile() === true && (stat.mode & 0o111) !== 0
}

/** The hooks of several folders, looked for anew each time; a hook that stays keeps its port. */
export class HookFolders implements WriterSource {
  readonly #folders: () => readonly string[] | Promise<readonly string[]>
  readonly #options: HookOptions
  readonly #order = new HookOrder()
  #ports = new Map<string, HookPort>()

  /** @param folders the system's first, then those of the mounts; one given twice counts once */
  constructor(folders: () => readonly string[] | Promise<readonly string[]>, options: HookOptions = {}) {
    this.#folders = folders
    this.#options = options
  }

  /** @throws UmbraError as listHooks() */
  async ports(): Promise<readonly WriterPort[]> {
    const hooks = [...new Set(await this.#folders())].flatMap(listHooks)
    this.#ports = new Map(hooks.map((hook) => [hook, this.#ports.get(hook) ?? this.#portOf(hook)]))
    return [...this.#ports.values()]
  }

  #portOf(hook: string): HookPort {
    const index = (): number => [...this.#ports.keys()].indexOf(hook)
    return new HookPort(hook, { ...this.#options, place: { order: this.#order, index } })
  }
}
