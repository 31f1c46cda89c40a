// What umbra backup, prune and shadow list tell people and programs: warnings, plans, what is not there.

import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { Repository } from '../../src/shadow/repository/repository.ts'
import { setEnvironment } from '../support/environment.ts'
import { requires } from '../support/requires.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra } from '../support/umbra.ts'

const NEEDS = { ...requires('/dev/fuse', 'root'), timeout: 170_000 }

interface Place {
  readonly at: (name: string) => string
  readonly run: (...args: string[]) => ReturnType<typeof umbra>
}

function place(t: Assertion): Place {
  const folder = tempFolder(t)
  const at = (name: string) => join(folder, name)
  setEnvironment(t, { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') })
  return { at, run: (...args) => umbra(args, { check: false }) }
}

test('a backup of what is not there leaves no repository behind', async (t) => {
  const { at, run } = place(t)
  const { code, stderr } = await run('backup', at('nosuch'), '--to', at('r'))
  t.is(code, 3, stderr.trim())
  t.absent(existsSync(at('r')))
})

test('a repository on the volume that is backed up is warned of', NEEDS, async (t) => {
  const { at, run } = place(t)
  await umbra(['create', at('v.umbra'), '--size', '64M'])
  mkdirSync(at('v'))
  await mountVolume(t, at('v.umbra'), at('v'))
  const inside = await run('backup', at('v.umbra'), '--to', at('v/repository'), '--without-writers', '--json')
  t.is(inside.code, 0, inside.stderr)
  t.ok(inside.stderr.includes(`The repository lies on ${at('v.umbra')}`), inside.stderr.trim())
  const { notes } = JSON.parse(inside.stdout) as { notes: string[] }
  t.ok(
    notes.some((note) => note.includes('The repository lies on')),
    'and in the JSON',
  )
  const outside = await run('backup', at('v'), '--to', at('r'), '--without-writers')
  t.is(outside.code, 0)
  t.is(outside.stderr, '', 'elsewhere there is nothing to be said')
  await run('backup', at('v'), '--to', at('r'), '--without-writers')
  const planned = await run('prune', at('r'), '--keep-last', '1', '--json')
  t.is(planned.code, 2)
  t.ok(planned.stderr.includes('--yes'))
  const plan = JSON.parse(planned.stdout) as { isDone: boolean; backups: { keep: boolean }[] }
  t.alike([plan.isDone, plan.backups.map(({ keep }) => keep)], [false, [false, true]], 'the plan is there')
  const done = await run('prune', at('r'), '--keep-last', '1', '--yes')
  t.ok(done.stdout.includes('1 of 2 backups to be deleted'), done.stdout)
  t.ok(done.stdout.includes('\n1 backup deleted'), 'one is one')
  const one = JSON.parse(
    (await run('prune', at('r'), '--keep-last', '1', '--yes', '--json')).stdout,
  ) as object
  t.ok('isDone' in one, 'with --yes the result alone')
})

test('a repository without backups is not verified as whole', async (t) => {
  const { at, run } = place(t)
  await Repository.create(at('empty'))
  const { code, stderr } = await run('verify', at('empty'), '--restore')
  t.is(code, 3, stderr.trim())
})

test('shadow list of one that is not there fails as everything that is not found', async (t) => {
  const { run } = place(t)
  for (const args of [
    ['--id', 'bogus'],
    ['--set', 'bogus'],
    ['--id', '00000000-0000-4000-8000-000000000000', '--json'],
  ]) {
    const { code, stderr, stdout } = await run('shadow', 'list', ...args)
    t.is(code, 3, stderr.trim())
    t.is(stdout, '')
  }
  t.is((await run('shadow', 'list')).code, 0, 'none at all is no failure')
})
