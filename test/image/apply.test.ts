// Applying deltas to a raw file in place, and all that must be refused before a byte of it changes.

import { copyFileSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import test from 'brittle'
import { applyToRaw } from '../../src/image/apply.ts'
import { importToRaw } from '../../src/image/import.ts'
import { writeQcow2 } from '../../src/image/qcow2-writer.ts'
import { writeRaw } from '../../src/image/raw-writer.ts'
import { readSidecar, sidecarPath, writeSidecar } from '../../src/image/sidecar.ts'
import { chosenSeed, Random } from '../support/random.ts'
import { MemoryHistory } from './memory-history.ts'
import { rejectsWith, scratchFolder } from './scratch.ts'

type Place = (name: string) => string

async function deltas(history: MemoryHistory, random: Random, count: number, at: Place): Promise<string[]> {
  const files: string[] = []
  for (let i = 0; i < count; i++) {
    history.churn(random, 40)
    history.cut()
    if (i === 0) {
      await writeRaw(history.full(0), at('target.raw'))
      continue
    }
    files.push(at(`${i}.qcow2`))
    await writeQcow2(history.delta(i - 1, i), files[i - 1] as string)
  }
  return files
}

test('applyToRaw() brings a raw file forward, one delta or several at a time', async (t) => {
  const random = new Random(chosenSeed(t))
  for (let round = 0; round < 5; round++) {
    const at = scratchFolder(t)
    const history = new MemoryHistory(200 + random.below(4000))
    const [first, second, third, fourth] = (await deltas(history, random, 5, at)) as [
      string,
      string,
      string,
      string,
    ]
    await applyToRaw(at('target.raw'), [first])
    t.ok(readFileSync(at('target.raw')).equals(history.content(1)), 'one')
    await applyToRaw(at('target.raw'), [second, third])
    t.ok(readFileSync(at('target.raw')).equals(history.content(3)), 'two more')
    await rejectsWith(t, () => applyToRaw(at('target.raw'), [third]), 'WRONG_BASE', 'the same again')
    await importToRaw([at('target.raw'), fourth], at('whole.raw'))
    t.ok(readFileSync(at('whole.raw')).equals(history.content(4)), 'an untouched applied file is a base')
    await applyToRaw(at('target.raw'), [fourth])
    t.ok(readFileSync(at('target.raw')).equals(history.content(4)), 'and takes further deltas')
  }
})

test('applyToRaw() refuses wrong bases and damage before a byte changes', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(900)
  const [first, second] = (await deltas(history, random, 3, at)) as [string, string]
  const target = at('target.raw')
  const before = history.content(0)
  const refused = async (images: string[], code: 'WRONG_BASE' | 'BAD_IMAGE', comment: string) => {
    await rejectsWith(t, () => applyToRaw(target, images), code, comment)
    t.ok(readFileSync(target).equals(before), `${comment}: nothing has changed`)
  }
  await refused([second], 'WRONG_BASE', 'a missing link')
  await refused([second, first], 'WRONG_BASE', 'wrong order')
  await refused([first, first], 'WRONG_BASE', 'an image twice')
  await writeQcow2(history.full(2), at('full.qcow2'))
  await refused([at('full.qcow2')], 'WRONG_BASE', 'a full image')
  const bytes = readFileSync(second)
  bytes[bytes.byteLength - 100] = (bytes[bytes.byteLength - 100] as number) ^ 1
  writeFileSync(at('damaged.qcow2'), bytes)
  await refused([first, at('damaged.qcow2')], 'BAD_IMAGE', 'a damaged image')

  utimesSync(target, 1, 1)
  await applyToRaw(target, [first])
  t.ok(readFileSync(target).equals(history.content(1)), 'touched but the same: its digest tells')
  const now = readFileSync(target)
  utimesSync(target, 1, 1)
  await rejectsWith(
    t,
    () => applyToRaw(target, [second]),
    'WRONG_BASE',
    'touched after an apply: nothing tells',
  )
  t.ok(readFileSync(target).equals(now), 'nothing has changed')

  writeFileSync(at('edited.raw'), Buffer.from(before).fill(1, 0, 10))
  copyFileSync(sidecarPath(at('target.raw')), sidecarPath(at('edited.raw')))
  await rejectsWith(t, () => applyToRaw(at('edited.raw'), [second]), 'WRONG_BASE', 'edited content')
  writeFileSync(at('bare.raw'), before)
  await rejectsWith(t, () => applyToRaw(at('bare.raw'), [first]), 'WRONG_BASE', 'no sidecar')
})

test('applyToRaw() that was interrupted is completed by the same images and refused to others', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(20_000)
  const [first, second] = (await deltas(history, random, 3, at)) as [string, string]
  const target = at('target.raw')
  const sidecar = readSidecar(target)
  if (!sidecar) throw new Error('The target has its sidecar')

  // As a crash in the middle leaves it: half of the new content, and the mark.
  const half = history.content(0)
  history.content(2).copy(half, 0, 0, half.byteLength / 2)
  writeFileSync(target, half)
  await writeSidecar(target, { ...sidecar, applyingTo: history.cuts[2]?.point.id ?? null })

  await rejectsWith(t, () => applyToRaw(target, [first]), 'WRONG_BASE', 'other images')
  await rejectsWith(t, () => importToRaw([target], at('x.raw')), 'BAD_IMAGE', 'as a base')
  await applyToRaw(target, [first, second])
  t.ok(readFileSync(target).equals(history.content(2)), 'completed')
})

test('applyToRaw() aborted on the way can be completed', async (t) => {
  const at = scratchFolder(t)
  const random = new Random(chosenSeed(t))
  const history = new MemoryHistory(20_000)
  history.cut()
  await writeRaw(history.full(0), at('target.raw'))
  for (let i = 0; i < 40; i++) history.churn(random, 100)
  history.cut()
  await writeQcow2(history.delta(0, 1), at('delta'))
  const abort = new AbortController()
  const work = { signal: abort.signal, onProgress: () => abort.abort() }
  await rejectsWith(t, () => applyToRaw(at('target.raw'), [at('delta')], work), 'ABORTED', 'aborted')
  await applyToRaw(at('target.raw'), [at('delta')])
  t.ok(readFileSync(at('target.raw')).equals(history.content(1)))
})
