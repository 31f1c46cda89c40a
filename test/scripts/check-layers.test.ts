// The check of import directions, proved with planted breaches.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'brittle'
import { checkLayers, ROOMS } from '../../scripts/check-layers.ts'

function plant(folder: string, files: Record<string, string>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  return folder
}

const GOOD = {
  'base/errors.ts': "import { constants } from 'node:os'\n",
  'volume/volume.ts': "import { a } from '../base/errors.ts'\nimport { b } from './points.ts'\n",
  'index.ts': "export { a } from './volume/volume.ts'\nexport { c } from './cli/main.ts'\n",
}

test('checkLayers() passes what follows the arrows and counts it', async (t) => {
  const report = checkLayers(plant(await t.tmp(), GOOD))

  t.alike(report, { moduleCount: 3, importCount: 5, breaches: [] })
})

test('checkLayers() finds an import against the arrows, in every form', async (t) => {
  const forms = [
    "import { V } from '../volume/volume.ts'",
    "import type { V } from '../volume/volume.ts'",
    "import {\n  V,\n} from '../volume/volume.ts'",
    "export * from '../volume/volume.ts'",
    "import '../volume/volume.ts'",
    "const v = await import('../volume/volume.ts')",
    "type V = import('../volume/volume.ts').V",
  ]
  for (const form of forms) {
    const { breaches } = checkLayers(plant(await t.tmp(), { ...GOOD, 'ext4/ext4.ts': `${form}\n` }))
    t.is(breaches.length, 1, form)
    t.ok(breaches[0]?.includes('ext4 may not import volume'), breaches[0])
  }
})

test('checkLayers() ignores an import that is only in a comment', async (t) => {
  const { breaches } = checkLayers(
    plant(await t.tmp(), { ...GOOD, 'ext4/ext4.ts': "// from '../volume/volume.ts'\n" }),
  )

  t.is(breaches.length, 0)
})

test('checkLayers() finds an unknown room, an import out of src, a package in base and an empty folder', async (t) => {
  const unknown = checkLayers(plant(await t.tmp(), { ...GOOD, 'misc/x.ts': '' }))
  const outside = checkLayers(plant(await t.tmp(), { ...GOOD, 'cli/x.ts': "import '../../scripts/y.ts'\n" }))
  const inBase = checkLayers(plant(await t.tmp(), { ...GOOD, 'base/x.ts': "import 'pino'\n" }))
  const empty = checkLayers(await t.tmp())

  for (const report of [unknown, outside, inBase, empty]) t.is(report.breaches.length, 1, report.breaches[0])
})

test('the table of rooms has no cycle and the project follows it', (t) => {
  const names = Object.keys(ROOMS)
  for (const [room, allowed] of Object.entries(ROOMS)) {
    for (const other of allowed) t.ok(names.indexOf(other) < names.indexOf(room), `${other} is below ${room}`)
  }

  t.alike(checkLayers('src').breaches, [])
})
