// The mount table: what the kernel escapes, and what is no mount line.

import { mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import test from 'brittle'
import { escapeOption } from '../../src/fuse/device/mount.ts'
import {
  canonicalMountPoint,
  mountAt,
  parseMountTable,
  readMountTable,
} from '../../src/fuse/device/mount-table.ts'
import { tempFolder } from '../support/temp.ts'

const LINES = `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
42 27 0:39 / /tmp/a\\040b\\134c\\011d rw,relatime shared:1 master:2 - fuse.umbra /v\\040x,\\134y rw,user_id=0,allow_other
43 42 0:40 / /tmp/\\303\\244 ro - fuse.umbra none ro
44 42 0:41 / /tmp/a\\040b\\134c\\011d rw - tmpfs none rw
`

test('parseMountTable unescapes, skips optional fields, and keeps the order', (t) => {
  const table = parseMountTable(`${LINES}\nnot a mount\n1 2 3 4 5 6 - \n`)
  t.is(table.length, 4)
  t.alike(table[1], {
    mountId: 42,
    deviceMajor: 0,
    deviceMinor: 39,
    mountPoint: '/tmp/a b\\c\td',
    options: ['rw', 'relatime'],
    type: 'fuse.umbra',
    source: '/v x,\\y',
    superOptions: ['rw', 'user_id=0', 'allow_other'],
  })
  t.is(table[2]?.mountPoint, '/tmp/ä', 'bytes are UTF-8')
  t.is(mountAt(table, '/tmp/a b\\c\td')?.type, 'tmpfs', 'the later mount covers the earlier')
  t.is(mountAt(table, '/tmp'), undefined)
})

test('readMountTable knows the root', async (t) => {
  t.ok(mountAt(await readMountTable(), '/'))
})

test('canonicalMountPoint follows links, and a missing name is kept', async (t) => {
  const folder = tempFolder(t)
  mkdirSync(join(folder, 'real', 'below'), { recursive: true })
  symlinkSync('real', join(folder, 'link'))
  t.is(await canonicalMountPoint(join(folder, 'link', 'below')), join(folder, 'real', 'below'))
  t.is(await canonicalMountPoint(join(folder, 'link')), join(folder, 'real'))
  t.is(await canonicalMountPoint(join(folder, 'none')), join(folder, 'none'))
  await t.exception(canonicalMountPoint(join(folder, 'none', 'below')), /ENOENT/)
})

test('escapeOption: a comma does not end an option', (t) => {
  t.is(escapeOption('/a,ro\\b'), '/a\\,ro\\\\b')
})
