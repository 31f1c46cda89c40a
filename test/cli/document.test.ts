// docs/CLI.md is what the commands are, and the shapes of JSON in it are what the commands print.

// deadline 240

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { cliDocument, DOCUMENT_PATH } from '../../scripts/cli-document.ts'
import { type Field, JSON_SHAPES } from '../../scripts/cli-json-shapes.ts'
import { ERROR_CODES } from '../../src/base/errors.ts'
import { EXIT_CODES } from '../../src/cli/exit-codes.ts'
import { buildProgram } from '../../src/cli/main.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { UMBRA, umbra } from '../support/umbra.ts'

test('docs/CLI.md is up to date', async (t) => {
  const isSame = readFileSync(DOCUMENT_PATH, 'utf8') === (await cliDocument())
  t.ok(isSame, 'else run: node --import tsx scripts/cli-document.ts')
})

test('every command with --json has its shape in the table, and nothing else is there', async (t) => {
  const program = await buildProgram()
  const paths = program.commands.flatMap((command) =>
    command.commands.length === 0
      ? [command.name()]
      : command.commands.map((child) => `${command.name()} ${child.name()}`),
  )
  t.alike(Object.keys(JSON_SHAPES).sort(), paths.sort())
})

test('every error has exactly one exit code', (t) => {
  const listed = EXIT_CODES.flatMap((entry) => entry.errors)
  t.alike([...listed].sort(), Object.keys(ERROR_CODES).sort())
  t.is(new Set(EXIT_CODES.map((entry) => entry.code)).size, EXIT_CODES.length)
})

function typeOf(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value
}

/** What is wrong with a value, by the table. */
function faults(fields: readonly Field[], value: unknown): string[] {
  if (typeOf(value) !== 'object') return [`not an object but ${typeOf(value)}`]
  const object = value as Record<string, unknown>
  const names = new Set(fields.map(([name]) => name))
  return [
    ...Object.keys(object)
      .filter((name) => !names.has(name))
      .map((name) => `${name} is not in the table`),
    ...fields
      .filter(([name, type]) => !type.split(' | ').includes(typeOf(object[name])))
      .map(([name, type]) => `${name} is ${typeOf(object[name])}, not ${type}`),
  ]
}

test('faults() sees what is missing, too much and of another type', (t) => {
  const fields: Field[] = [
    ['a', 'number', ''],
    ['b', 'string | null', ''],
  ]
  t.alike(faults(fields, { a: 1, b: null }), [])
  t.is(faults(fields, { a: 1 }).length, 1)
  t.is(faults(fields, { a: '1', b: 'x' }).length, 1)
  t.is(faults(fields, { a: 1, b: 'x', c: 0 }).length, 1)
  t.is(faults(fields, []).length, 1)
})

const LIFE = [
  ['create', 'v', '--size', '64M'],
  ['mount', 'v', 'mnt'],
  ['sync', 'mnt'],
  ['status', 'mnt'],
  ['snapshot', 'create', 'mnt', 'one'],
  ['snapshot', 'list', 'mnt'],
  ['snapshot', 'show', 'mnt', 'one'],
  ['snapshot', 'pin', 'mnt', 'one'],
  ['policy', 'mnt', '--snapshot-limit', '64M'],
  ['bookmark', 'create', 'mnt', 'b'],
  ['bookmark', 'list', 'mnt'],
  ['bookmark', 'delete', 'mnt', 'b'],
  ['diff', 'mnt', 'one'],
  ['export', 'mnt', 'one', '--format', 'qcow2', '-o', 'one.qcow2'],
  ['export', 'mnt', 'one', '--format', 'raw', '-o', 'one.img'],
  ['import', 'one.qcow2', '-o', 'w'],
  ['snapshot', 'create', 'mnt', 'two'],
  ['export', 'mnt', 'two', '--since', 'one', '--format', 'qcow2', '-o', 'two.qcow2'],
  ['apply', 'w', 'two.qcow2'],
  ['check', 'mnt'],
  ['shadow', 'create', 'mnt', '--persistent'],
  ['shadow', 'list'],
  ['shadow', 'expose', 'SHADOW', 'exposed'],
  ['shadow', 'reexpose'],
  ['shadow', 'unexpose', 'exposed'],
  ['shadow', 'providers'],
  ['shadow', 'volumes'],
  ['shadow', 'script', 'list.dsh'],
  ['shadow', 'shell'],
  ['unmount', 'mnt'],
  ['shadow', 'revert', 'SHADOW', '--volume', 'v'],
  ['shadow', 'delete', '--oldest', 'v'],
  ['snapshot', 'unpin', 'v', 'one'],
  ['snapshot', 'create', 'v', 'three'],
  ['snapshot', 'list', 'v'],
  ['snapshot', 'rollback', 'v', 'one'],
  ['snapshot', 'delete', 'v', 'one'],
  ['status', 'v'],
  ['check', 'v'],
  ['backup', 'v', '--to', 'repository'],
  ['restore', 'repository', '--to', 'r.umbra'],
  ['verify', 'repository'],
  ['backup', 'v', '--to', 'repository', '--type', 'incremental'],
  ['consolidate', 'repository'],
  ['prune', 'repository', '--keep-last', '1', '--yes'],
  ['resize', 'v', '--size', '300M'],
  ['writer', 'add', 'pages', 'pages.json'],
  ['writer', 'list'],
  ['writer', 'status', 'pages'],
  ['writer', 'metadata', 'pages'],
  ['writer', 'remove', 'pages'],
  ['doctor'],
] as const

test('what commands print with --json is what the table says', requires('root', '/dev/fuse'), async (t) => {
  const folder = tempFolder(t)
  mkdirSync(join(folder, 'mnt'))
  // A coordinator and writers of the test's own, and an early end for them.
  process.env['UMBRA_CONFIG_DIR'] = join(folder, 'config')
  process.env['UMBRA_RUNTIME_DIR'] = join(folder, 'run')
  process.env['UMBRA_COORDINATOR_IDLE_MS'] = '1000'
  writeFileSync(join(folder, 'pages.json'), '{"kind": "script", "components": [{"name": "pages"}]}')
  t.teardown(() => umbra(['unmount', '--force', join(folder, 'mnt')], { check: false }), { order: -1 })
  mkdirSync(join(folder, 'exposed'))
  writeFileSync(join(folder, 'list.dsh'), SHELL_INPUT)
  const seen = new Set<string>()
  let shadowId = ''
  for (const words of LIFE) {
    const args = words.map((word) => (word === 'SHADOW' ? shadowId : word))
    const path = args.slice(0, 2).join(' ') in JSON_SHAPES ? args.slice(0, 2).join(' ') : words[0]
    seen.add(path)
    const value = await assertShape(t, path, args, folder)
    if (path === 'shadow create')
      shadowId = (value as { shadows: { snapshotId: string }[] }).shadows[0]?.snapshotId ?? ''
    if (path === 'mount') writeFileSync(join(folder, 'mnt/x'), 'something')
  }
  t.alike([...seen].sort(), Object.keys(JSON_SHAPES).sort(), 'every command was run')
})

const SHELL_INPUT = '# what there is\nlist shadows all\nlist providers\n'

async function assertShape(
  t: Assertion,
  path: string,
  args: readonly string[],
  cwd: string,
): Promise<unknown> {
  const done = await run(process.execPath, [UMBRA, ...args, '--json'], {
    cwd,
    check: false,
    input: SHELL_INPUT,
  })
  t.is(done.code, 0, `${args.join(' ')} ${done.stderr}`)
  const shape = JSON_SHAPES[path]
  if (shape === undefined) throw new Error(`${path} has no shape`)
  const value = JSON.parse(done.stdout) as unknown
  if (shape.list) t.ok(Array.isArray(value) && value.length > 0, `${path} gives a list`)
  const values = Array.isArray(value) ? value : [value]
  t.alike(
    values.flatMap((entry) => faults(shape.fields, entry)),
    [],
    path,
  )
  return value
}
