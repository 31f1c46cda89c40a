import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'brittle'
import type { FieldKind } from '../../src/base/struct.ts'
import { IOCTL } from '../../src/fuse/handle-ioctl.ts'
import * as protocol from '../../src/fuse/protocol.ts'
import * as structs from '../../src/fuse/wire-structs.ts'

interface AnyStruct {
  readonly name: string
  readonly sizeBytes: number
  readonly fields: Readonly<Record<string, FieldKind<unknown>>>
}

const SKIPPED_FIELDS = /^(?:padding|dummy|spare\d?|unused\d?|reserved|\w+_pad)$/
/** Structures with their attributes in a table of their own: what the C structure adds. */
const TAIL_BYTES: Record<string, number> = { fuse_entry_out: 88, fuse_attr_out: 88 }
/** Newer than some machines' header. */
const NEWER = ['fuse_statx', 'fuse_statx_in', 'fuse_statx_out', 'fuse_copy_file_range_out']

const all = Object.values(structs).filter(
  (value): value is AnyStruct & typeof value => typeof value === 'object' && 'fields' in value,
) as unknown as AnyStruct[]

function cField(structName: string, key: string): string {
  if (structName === 'fuse_statfs_out') return `st.${key}`
  return key
}

/** name -> number, as computed by the C compiler from the machine's own headers. */
function compiled(expressions: Map<string, string>): Map<string, number> {
  const folder = mkdtempSync(join(tmpdir(), 'umbra-offsets-'))
  try {
    const source = join(folder, 'offsets.c')
    const program = [
      '#define _GNU_SOURCE',
      '#include <stddef.h>',
      '#include <stdio.h>',
      '#include <fcntl.h>',
      '#include <linux/fuse.h>',
      '#include <linux/fs.h>',
      '#include <linux/stat.h>',
      'int main(void) {',
      ...[...expressions].map(
        ([name, expression]) => `  printf("%s %llu\\n", "${name}", (unsigned long long)(${expression}));`,
      ),
      '  return 0;',
      '}',
    ].join('\n')
    writeFileSync(source, program)
    execFileSync('gcc', ['-O0', '-o', join(folder, 'offsets'), source], { stdio: 'pipe' })
    const output = execFileSync(join(folder, 'offsets'), { encoding: 'utf8' })
    return new Map(
      output
        .trim()
        .split('\n')
        .map((line) => [line.split(' ')[0] ?? '', Number(line.split(' ')[1])]),
    )
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const canCompile = existsSync('/usr/include/linux/fuse.h')

test('structures have the sizes and offsets of linux/fuse.h', { skip: !canCompile }, (t) => {
  const expressions = new Map<string, string>()
  const expected = new Map<string, number>()
  const add = (name: string, expression: string, value: number) => {
    expressions.set(name, expression)
    expected.set(name, value)
  }
  for (const { name, sizeBytes, fields } of all) {
    if (NEWER.includes(name)) continue
    add(name, `sizeof(struct ${name})`, sizeBytes + (TAIL_BYTES[name] ?? 0))
    for (const [key, field] of Object.entries(fields)) {
      if (SKIPPED_FIELDS.test(key)) continue
      const member = cField(name, key)
      add(`${name}.${key}`, `offsetof(struct ${name}, ${member})`, field.offsetBytes)
      add(`${name}.${key}#`, `sizeof(((struct ${name} *)0)->${member})`, field.sizeBytes)
    }
  }
  add('entry.attr', 'offsetof(struct fuse_entry_out, attr)', 40)
  add('attr_out.attr', 'offsetof(struct fuse_attr_out, attr)', 16)
  add('direntplus.name', 'FUSE_NAME_OFFSET_DIRENTPLUS', structs.DIRENTPLUS_NAME_OFFSET_BYTES)
  add('compat setxattr', 'FUSE_COMPAT_SETXATTR_IN_SIZE', structs.SETXATTR_IN_SHORT_BYTES)
  const found = compiled(new Map([...expressions].map(([n, e]) => [n.replaceAll(' ', '_'), e])))
  for (const [name, value] of expected) t.is(found.get(name.replaceAll(' ', '_')), value, name)
})

test('fuse_statx is struct statx of linux/stat.h', { skip: !canCompile }, (t) => {
  const expressions = new Map<string, string>()
  const names: Record<string, string> = {
    atime: 'stx_atime.tv_sec',
    atime_nsec: 'stx_atime.tv_nsec',
    btime: 'stx_btime.tv_sec',
    btime_nsec: 'stx_btime.tv_nsec',
    ctime: 'stx_ctime.tv_sec',
    ctime_nsec: 'stx_ctime.tv_nsec',
    mtime: 'stx_mtime.tv_sec',
    mtime_nsec: 'stx_mtime.tv_nsec',
    rdev_major: 'stx_rdev_major',
    rdev_minor: 'stx_rdev_minor',
    dev_major: 'stx_dev_major',
    dev_minor: 'stx_dev_minor',
  }
  const fields = Object.entries(structs.Statx.fields).filter(([key]) => !SKIPPED_FIELDS.test(key))
  for (const [key] of fields) {
    expressions.set(key, `offsetof(struct statx, ${names[key] ?? `stx_${key}`})`)
  }
  expressions.set('total', 'sizeof(struct statx)')
  const found = compiled(expressions)
  for (const [key, field] of fields) t.is(found.get(key), field.offsetBytes, key)
  t.is(found.get('total'), structs.Statx.sizeBytes)
  t.is(structs.StatxOut.sizeBytes + structs.Statx.sizeBytes, structs.STATX_OUT_BYTES)
  t.is(structs.STATX_OUT_BYTES, 288)
  t.is(structs.StatxIn.sizeBytes, 24)
  t.is(structs.CopyFileRangeOut.sizeBytes, 8)
})

test('numbers are those of linux/fuse.h and linux/fs.h', { skip: !canCompile }, (t) => {
  const expressions = new Map<string, string>()
  const expected = new Map<string, number>()
  const add = (name: string, value: number) => {
    expressions.set(name, name)
    expected.set(name, value >>> 0)
  }
  const newerOpcodes = ['STATX', 'COPY_FILE_RANGE_64']
  for (const [name, value] of Object.entries(protocol.OPCODE)) {
    if (!newerOpcodes.includes(name)) add(`FUSE_${name}`, value)
  }
  for (const [name, value] of Object.entries(protocol.INIT_LOW)) add(`FUSE_${name}`, value)
  add('FUSE_SECURITY_CTX', 0)
  expressions.set('FUSE_SECURITY_CTX', 'FUSE_SECURITY_CTX >> 32')
  expected.set('FUSE_SECURITY_CTX', protocol.INIT_HIGH.SECURITY_CTX)
  expressions.set('FUSE_HAS_EXPIRE_ONLY', 'FUSE_HAS_EXPIRE_ONLY >> 32')
  expected.set('FUSE_HAS_EXPIRE_ONLY', protocol.INIT_HIGH.HAS_EXPIRE_ONLY)
  for (const [name, value] of Object.entries(protocol.FATTR)) add(`FATTR_${name}`, value)
  for (const [name, value] of Object.entries(protocol.FOPEN)) add(`FOPEN_${name}`, value)
  for (const [name, value] of Object.entries(protocol.WRITE)) add(`FUSE_WRITE_${name}`, value)
  for (const [name, value] of Object.entries(protocol.NOTIFY)) {
    if (value <= protocol.NOTIFY.DELETE) add(`FUSE_NOTIFY_${name}`, value)
  }
  for (const [name, value] of Object.entries(protocol.O)) add(`O_${name}`, value)
  add('FUSE_OPEN_KILL_SUIDGID', protocol.OPEN_KILL_SUIDGID)
  add('FUSE_FSYNC_FDATASYNC', protocol.FSYNC_FDATASYNC)
  add('FUSE_SETXATTR_ACL_KILL_SGID', protocol.SETXATTR_ACL_KILL_SGID)
  add('FUSE_IOCTL_DIR', protocol.IOCTL_DIR)
  add('STATX_BASIC_STATS', protocol.STATX.BASIC_STATS)
  add('STATX_BTIME', protocol.STATX.BTIME)
  const ioctls: Record<string, string> = {
    GETFLAGS: 'FS_IOC_GETFLAGS',
    SETFLAGS: 'FS_IOC_SETFLAGS',
    GETFLAGS_32: 'FS_IOC32_GETFLAGS',
    SETFLAGS_32: 'FS_IOC32_SETFLAGS',
    GETVERSION: 'FS_IOC_GETVERSION',
    GETVERSION_32: 'FS_IOC32_GETVERSION',
    FSGETXATTR: 'FS_IOC_FSGETXATTR',
    FSSETXATTR: 'FS_IOC_FSSETXATTR',
    FITRIM: 'FITRIM',
    EXT4_GETVERSION: "_IOR('f',3,long)",
    GETFSLABEL: 'FS_IOC_GETFSLABEL',
    SETFSLABEL: 'FS_IOC_SETFSLABEL',
  }
  for (const [name, value] of Object.entries(IOCTL)) add(ioctls[name] ?? name, value)
  const found = compiled(expressions)
  for (const [name, value] of expected) t.is((found.get(name) ?? -1) >>> 0, value, name)
})
