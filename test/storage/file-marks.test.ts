// Marks on a file: seen by whoever else has it open, gone with the file's end, refused where there are no locks.

import { join } from 'node:path'
import test from 'brittle'
import { hasCode } from '../../src/base/errors.ts'
import { NODE_DESCRIPTOR_IO } from '../../src/storage/descriptor-io.ts'
import { FileMarks } from '../../src/storage/file-marks.ts'
import { FileStorage } from '../../src/storage/file-storage.ts'
import { tempFolder } from '../support/temp.ts'

test('a mark is set from set() until clear() or the end of its file', async (t) => {
  const path = join(tempFolder(t), 'file')
  const held = await FileStorage.open(path, { create: true })
  const looking = await FileStorage.open(path, { readOnly: true, lock: 'none' })
  t.teardown(() => looking.close())
  const holder = new FileMarks(held)
  const reader = new FileMarks(looking)
  const [one, two] = [holder.set(), holder.set()]
  t.not(one, two)
  t.alike([reader.isSet(one), reader.isSet(two), reader.isSet(one + 1)], [true, true, false])
  holder.clear(one)
  t.alike([reader.isSet(one), reader.isSet(two)], [false, true])
  await held.close()
  t.absent(reader.isSet(two), 'as when its process ends')
  holder.clear(two)
  t.ok(await thrown(() => holder.set(), 'CLOSED'))
})

test('where there are no locks nothing is promised', async (t) => {
  const storage = await FileStorage.open(join(tempFolder(t), 'file'), { create: true })
  t.teardown(() => storage.close())
  const marks = new FileMarks(storage, NODE_DESCRIPTOR_IO)
  t.ok(await thrown(() => marks.set(), 'UNAVAILABLE'))
  t.ok(await thrown(() => marks.isSet(1), 'UNAVAILABLE'))
})

async function thrown(call: () => unknown, code: 'CLOSED' | 'UNAVAILABLE'): Promise<boolean> {
  try {
    call()
    return false
  } catch (error) {
    return hasCode(error, code)
  }
}
