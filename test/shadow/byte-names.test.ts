// deadline 240
// Names that are not UTF-8 through a shipped script writer: saved, deleted, linked, and back by umbra restore and by
// stock tools; writers' documents, which are JSON, name what such files lie in.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { setEnvironment } from '../support/environment.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra, umbraJson } from '../support/umbra.ts'
import { differences, treeRecord } from './restore-lab.ts'

const NEEDS = { ...requires('/dev/fuse', 'root', 'jq'), timeout: 200_000 }

test('names that are not UTF-8 come back as they were, from umbra and from stock tools', NEEDS, async (t) => {
  const folder = tempFolder(t)
  const at = (...names: string[]) => join(folder, ...names)
  setEnvironment(t, { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') })
  await umbra(['create', at('v.umbra'), '--size', '64M'])
  mkdirSync(at('v'))
  await mountVolume(t, at('v.umbra'), at('v'))
  const data = at('v', 'shop')
  mkdirSync(data)
  writeFileSync(
    at('shop.json'),
    JSON.stringify({
      kind: 'script',
      name: 'Shop',
      backupSchema: ['incremental', 'new-target'],
      components: [{ name: 'data', files: [{ path: data, changedRanges: true }] }],
    }),
  )
  await umbra(['writer', 'add', 'shop', at('shop.json')])
  const back = async (type: string, change: string) => {
    await run('bash', ['-c', `cd '${data}' && ${change}`])
    const told = await umbraJson<{ id: string; restoreCommands: string[] }>([
      ...['backup', '--to', at('repository'), '--type', type, '--components', 'Shop'],
    ])
    return { ...told, record: await treeRecord(data) }
  }
  // The first two, and the third, are one name where what is no UTF-8 is replaced.
  const full = await back(
    'full',
    String.raw`echo one > $'bad\377' && echo two > $'bad\376' && echo three > $'bad\357\277\275' &&
      mkdir $'dir\200 it'"'"'s' && echo in > $'dir\200 it'"'"'s/'$'n\nn\377' && ln $'bad\377' $'hard\377' &&
      ln -s $'to\377' $'link\376' && ln -s $'to\377' plain && mkfifo $'pipe\377' && mkdir $'gone\377' &&
      echo x > $'gone\377/x' && seq 20000 > $'big\377' && setfattr -n user.k -v v $'bad\376'`,
  )
  const last = await back(
    'incremental',
    String.raw`rm -r $'gone\377' && rm $'bad\376' && printf 99 | dd of=$'big\377' seek=5000 bs=1 conv=notrunc status=none`,
  )
  for (const { id, record, restoreCommands } of [full, last]) {
    const target = at(`target-${id}`)
    await umbra(['restore', at('repository'), id, '--components', 'Shop', '--to-folder', `${data}=${target}`])
    t.alike(differences(record, await treeRecord(target)), [], `${id}: umbra restore`)
    rmSync(at('repository', 'restored'), { recursive: true, force: true })
    for (const command of restoreCommands) await run('sh', ['-c', `cd '${at('repository')}' && ${command}`])
    const found = await treeRecord(at('repository', `restored${data}`))
    t.alike(differences(record, found), [], `${id}: jq, base64 and sh`)
  }
  const cut = await back('full', String.raw`echo x > $'end\377\n'`)
  const ends: number[] = []
  for (const command of cut.restoreCommands)
    ends.push((await run('sh', ['-c', `cd '${at('repository')}' && ${command}`], { check: false })).code)
  t.ok(
    ends.some((code) => code !== 0),
    'what sh would cut off is not restored under another name',
  )
})
