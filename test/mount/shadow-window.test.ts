// The auto-recovery window: between PreFinalCommit and the sealing the shadow can be changed below
// .snapshots by who serves the mount; afterwards nothing changes it any more.

// deadline 180

import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { SNAPSHOT_ATTRIBUTES } from '../../src/shadow/documents/vocabulary.ts'
import { e2fsck } from '../support/e2fsck.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { Hands } from './hands.ts'
import { exportRaw, type Lab, makeLab, recordTree, treeDifferences } from './lab.ts'
import { makeSet, type ShadowSet } from './shadow-sets.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'python3'), timeout: 240_000 }

async function judge(t: Assertion, lab: Lab, { name }: ShadowSet): Promise<void> {
  const image = lab.at(`${name}.img`)
  await exportRaw(lab.volume, name, image)
  const verdict = e2fsck(image)
  rmSync(image)
  t.ok(verdict.clean, `e2fsck finds nothing in ${name}`)
  if (!verdict.clean) t.comment(verdict.output)
}

test('row 15: every change of a sealed shadow is EROFS', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  writeFileSync(join(lab.dir, 'file'), 'text')
  mkdirSync(join(lab.dir, 'folder'))
  const hands = new Hands(t)
  const set = await makeSet(t, [lab.dir], { context: 'app-rollback' })
  const shadow = join(lab.dir, '.snapshots', set.name)
  const file = join(shadow, 'file')
  const attempts: [string, object][] = [
    ['write', { path: file, text: 'x' }],
    ['write', { path: join(shadow, 'new'), text: 'x' }],
    ['truncate', { path: file, length: 0 }],
    ['chmod', { path: file, mode: 0o600 }],
    ['unlink', { path: file }],
    ['mkdir', { path: join(shadow, 'made') }],
    ['rename', { path: file, to: join(shadow, 'other') }],
    ['link', { path: file, to: join(shadow, 'linked') }],
    ['symlink', { path: join(shadow, 'symbolic'), to: 'file' }],
    ['setxattr', { path: file }],
    ['utime', { path: file }],
    ['open', { path: file, name: 'f' }],
  ]
  for (const [command, fields] of attempts) t.is(await hands.errno(command, fields), 'EROFS', command)
  t.is(readFileSync(file, 'utf8'), 'text')
  await judge(t, lab, set)
})

test('row 16: what a hook edits in the window is in the shadow alone, and then no more', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  const mounted = await lab.mount()
  const hands = new Hands(t)
  writeFileSync(join(lab.dir, 'edited'), 'as it was frozen')
  writeFileSync(join(lab.dir, 'removed'), 'x')
  writeFileSync(join(lab.dir, 'grown'), 'x')
  const big = Buffer.alloc(3 << 20, 'recovered ')
  const paths = (shadow: string, ...files: string[]) => files.map((file) => join(shadow, file))
  const set = await makeSet(t, [lab.dir], {
    context: 'app-rollback',
    after: async (step) => {
      if (step !== 'preFinalCommit') return
      const shadow = join(lab.dir, '.snapshots', 'windowed')
      const [edited = '', removed = '', grown = '', held = ''] = paths(
        shadow,
        'edited',
        'removed',
        'grown',
        'held',
      )
      await hands.do('write', { path: edited, text: 'recovered' })
      await hands.do('chmod', { path: edited, mode: 0o640 })
      await hands.do('unlink', { path: removed })
      writeFileSync(grown, big)
      mkdirSync(join(shadow, 'made'))
      symlinkSync('../grown', join(shadow, 'made', 'link'))
      await hands.do('open', { path: held, name: 'held' })
      await hands.do('write_open', { name: 'held', text: 'in the window' })
      await hands.do('open', { path: join(shadow, 'mapped'), name: 'mapped' })
      await hands.do('write_open', { name: 'mapped', text: ' '.repeat(4096) })
      await hands.do('map_open', { name: 'mapped', text: 'through a mapping' })
      t.is(await hands.errno('rename', { path: edited, to: join(lab.dir, 'out') }), 'EXDEV')
      t.is(await hands.do('as_user', { path: shadow }), 'EACCES', 'nobody else gets in')
      t.alike(await hands.do('list', { path: join(lab.dir, '.snapshots') }), [], 'and it is not listed')
    },
    name: 'windowed',
  })
  const shadow = join(lab.dir, '.snapshots', set.name)
  const look = async (): Promise<void> => {
    t.is(readFileSync(join(shadow, 'edited'), 'utf8'), 'recovered frozen')
    t.is(statSync(join(shadow, 'edited')).mode & 0o777, 0o640)
    t.absent(existsSync(join(shadow, 'removed')))
    t.ok(readFileSync(join(shadow, 'grown')).equals(big))
    t.ok(readFileSync(join(shadow, 'made', 'link')).equals(big))
    t.is(readFileSync(join(shadow, 'held'), 'utf8'), 'in the window')
    t.ok(readFileSync(join(shadow, 'mapped'), 'utf8').startsWith('through a mapping'))
  }
  await look()
  t.is(readFileSync(join(lab.dir, 'edited'), 'utf8'), 'as it was frozen', 'the live volume is as it was')
  t.is(readFileSync(join(lab.dir, 'grown'), 'utf8'), 'x')
  t.ok(existsSync(join(lab.dir, 'removed')))
  t.is(
    await hands.errno('write', { path: join(shadow, 'edited'), text: 'x' }),
    'EROFS',
    'the same edit later',
  )
  t.is(await hands.errno('chmod', { path: join(shadow, 'edited'), mode: 0o600 }), 'EROFS')
  t.is(await hands.errno('write_open', { name: 'held', text: 'late' }), 'EROFS', 'a file that stayed open')
  t.is(await hands.do('read_open', { name: 'held', length: 13 }), 'in the window', 'is still read')
  const recorded = await recordTree(shadow)
  await hands.do('close', { name: 'held' })
  await hands.do('close', { name: 'mapped' })
  await judge(t, lab, set)
  await mounted.unmount()
  await lab.mount()
  await look()
  t.alike(treeDifferences(recorded, await recordTree(shadow)), [], 'the same after another mount')
})

test('row 17: without auto-recovery the shadow is read-only at once, exclusions stay', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  await lab.mount()
  writeFileSync(join(lab.dir, 'cache.tmp'), 'x')
  const hands = new Hands(t)
  const set = await makeSet(t, [lab.dir], {
    context: 'app-rollback',
    attributes: SNAPSHOT_ATTRIBUTES['no-autorecovery'],
    name: 'fixed',
    after: async (step, [sequence]) => {
      if (step !== 'preFinalCommit') return
      const path = join(lab.dir, '.snapshots', 'fixed', 'cache.tmp')
      t.not(await hands.errno('write', { path, text: 'x' }), 'none')
      const files = [{ path: lab.dir, filespec: '*.tmp', recursive: true }]
      t.is(await sequence?.deleteFromSnapshot(files), 0)
    },
  })
  t.is(readFileSync(join(lab.dir, '.snapshots', set.name, 'cache.tmp'), 'utf8'), 'x')
})

async function fillForExclusion(root: string): Promise<void> {
  await run('sh', [
    '-ec',
    `cd ${root}; mkdir -p a/b/c other; touch a/one.tmp a/b/two.tmp a/b/c/three.tmp a/keep.txt a/b/x1 a/b/x22
     touch other/four.tmp "a/ümlaut.tmp"; mkdir a/folder.tmp; touch a/folder.tmp/inside; ln -s ../other a/link.tmp
     ln -s b a/to-b; for i in $(seq 500); do echo $i > a/b/c/many-$i.log; done`,
  ])
}

const EXCLUDED = (root: string) => [
  { path: join(root, 'a'), filespec: '*.tmp', recursive: true },
  { path: join(root, 'a/b'), filespec: 'x?', recursive: false },
  { path: join(root, 'a/to-b'), filespec: '*', recursive: true },
  { path: join(root, 'a/b/c'), filespec: 'many-*.log', recursive: false },
  { path: join(root, 'nowhere'), filespec: '*', recursive: true },
  { path: '/etc', filespec: '*', recursive: true },
]

test('row 18: excluded files are gone in the shadow, present live, mounted or not', NEEDS, async (t) => {
  const lab = await makeLab(t, '128M')
  const mounted = await lab.mount()
  await fillForExclusion(lab.dir)
  const before = await recordTree(lab.dir)
  const make = (volume: string, root: string, name: string) =>
    makeSet(t, [volume], {
      context: 'app-rollback',
      name,
      after: async (step, [sequence]) => {
        if (step !== 'preFinalCommit') return
        t.is(await sequence?.deleteFromSnapshot(EXCLUDED(root)), 506, 'files deleted')
        t.is(await sequence?.deleteFromSnapshot([{ path: root, filespec: 'none', recursive: true }]), 0)
      },
    })
  const set = await make(lab.dir, lab.dir, 'mounted')
  t.alike(
    treeDifferences(before, await recordTree(lab.dir), ['ino', 'atime']),
    [],
    'the live tree is untouched',
  )
  await judge(t, lab, set)
  await mounted.unmount()
  const unmounted = await make(lab.volume, '/', 'unmounted')
  await unmounted.end()
  await lab.mount()
  for (const { name } of [set, unmounted]) {
    const { stdout } = await run('find', ['.', '-mindepth', '1'], { cwd: join(lab.dir, '.snapshots', name) })
    const left = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('./lost+found'))
    t.alike(left.sort(), LEFT, name)
  }
  await judge(t, lab, unmounted)
})

const LEFT = [
  './a',
  './a/b',
  './a/b/c',
  './a/b/x22',
  './a/folder.tmp',
  './a/folder.tmp/inside',
  './a/keep.txt',
  './a/to-b',
  './other',
  './other/four.tmp',
]
