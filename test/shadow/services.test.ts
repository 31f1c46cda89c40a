// Services around a restore, stopped and started by a stand-in for systemctl that is found on the PATH: what it is asked
// for and when, and what becomes of files and service when it fails or the user presses Ctrl-C.

// deadline 240

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type Assertion } from 'brittle'
import { requires } from '../support/requires.ts'
import type { RunResult } from '../support/run.ts'
import { tempFolder } from '../support/temp.ts'
import { mountVolume, umbra } from '../support/umbra.ts'

const NEEDS = requires('/dev/fuse', 'root')

/** Logs what it is asked and by whom; does what a file named like the action says; `down` is there while it is stopped. */
const SYSTEMCTL = `#!/bin/sh
cd "$(dirname "$0")/.."
echo "$*" >> asked
echo $PPID > requester
[ ! -f "on-$1" ] || . "./on-$1"
case "$1" in stop) touch down ;; start) rm -f down ;; esac
`

interface Place {
  at(...names: string[]): string
  readonly data: string
  backup(type: string): Promise<void>
  /** With the stand-in on the PATH; `on` is shell for an action or an event. */
  restore(
    on?: Readonly<Record<string, string>>,
    args?: readonly string[],
  ): Promise<RunResult & { asked: string[] }>
}

async function place(t: Assertion): Promise<Place> {
  const folder = tempFolder(t)
  const at = (...names: string[]) => join(folder, ...names)
  const env = { UMBRA_RUNTIME_DIR: at('run'), UMBRA_CONFIG_DIR: at('config') }
  for (const [name, value] of Object.entries(env)) {
    process.env[name] = value
    t.teardown(() => void delete process.env[name], { order: 2_000_000 })
  }
  for (const name of ['bin', 'v']) mkdirSync(at(name))
  const script = (path: string, text: string) => {
    writeFileSync(path, text)
    chmodSync(path, 0o755)
  }
  script(at('bin', 'systemctl'), SYSTEMCTL)
  script(at('told'), `#!/bin/sh\ncd '${folder}'\necho "$1" >> asked\n[ ! -f "on-$1" ] || . "./on-$1"\n`)
  await umbra(['create', at('v.umbra'), '--size', '64M'])
  await mountVolume(t, at('v.umbra'), at('v'))
  const data = at('v', 'shop')
  mkdirSync(data)
  writeFileSync(
    at('shop.json'),
    JSON.stringify({
      kind: 'script',
      name: 'Shop',
      backupSchema: ['incremental'],
      restoreMethod: { method: 'stop-restore-start', writerRestore: 'always', serviceName: 'shop.service' },
      components: [{ name: 'data', files: [{ path: data }] }],
      commands: { 'pre-restore': [at('told'), 'pre-restore'], 'post-restore': [at('told'), 'post-restore'] },
    }),
  )
  await umbra(['writer', 'add', 'shop', at('shop.json')])
  const backup = async (type: string) => {
    await umbra([
      ...['backup', '--to', at('repository'), '--type', type, '--components', 'Shop', '--no-images'],
      at('v'),
    ])
  }
  const restore: Place['restore'] = async (on = {}, args = []) => {
    rmSync(at('asked'), { force: true })
    for (const [name, text] of Object.entries(on)) writeFileSync(at(`on-${name}`), `${text}\n`)
    const result = await umbra(['restore', at('repository'), '--components', 'Shop', ...args], {
      check: false,
      env: { PATH: `${at('bin')}:${process.env['PATH']}:/usr/sbin:/sbin` },
    })
    for (const name of Object.keys(on)) rmSync(at(`on-${name}`))
    const asked = existsSync(at('asked')) ? readFileSync(at('asked'), 'utf8').trim().split('\n') : []
    return { ...result, asked }
  }
  return { at, data, backup, restore }
}

const STOP = 'stop shop.service'
const START = 'start shop.service'
/** As Ctrl-C on the restore alone. */
const INTERRUPT = 'kill -INT $(cat requester)'

test(
  'row 79: systemctl is found, asked once each for a chain, and told of when it fails',
  NEEDS,
  async (t) => {
    const { at, data, backup, restore } = await place(t)
    const path = join(data, 'a')
    const now = () => readFileSync(path, 'utf8')
    writeFileSync(path, 'full')
    await backup('full')
    writeFileSync(path, 'last')
    await backup('incremental')

    writeFileSync(path, 'of now')
    const good = await restore()
    t.is(good.code, 0, good.stderr)
    t.is(now(), 'last')
    t.alike(good.asked, ['pre-restore', STOP, 'post-restore', 'pre-restore', START, 'post-restore'])
    t.absent(existsSync(at('down')))

    writeFileSync(path, 'of now')
    const stuck = await restore({ stop: 'echo "Unit shop.service not loaded." >&2; exit 5' })
    t.is(stuck.code, 17, stuck.stderr)
    t.ok(stuck.stderr.includes('shop.service does not stop: exit code 5: Unit shop.service not loaded.'))
    t.is(now(), 'of now', 'nothing was written')
    t.absent(stuck.asked.includes(START), 'nor was it started')

    const lame = await restore({ start: 'echo "Job failed." >&2; exit 1' })
    t.is(now(), 'last', 'the files are there')
    t.ok(/shop\.service did not start: .*exit code 1: Job failed\./.test(lame.stderr), lame.stderr)
    t.ok(existsSync(at('down')), 'it is down')
    t.is(lame.code, 16, 'and that is no success')

    writeFileSync(path, 'of now')
    const custom = join(at('bin'), 'rc')
    writeFileSync(custom, `#!/bin/sh\nexec '${at('bin', 'systemctl')}' "$2" "$3"\n`)
    chmodSync(custom, 0o755)
    writeFileSync(at('config', 'services.json'), JSON.stringify({ command: [custom, '--quiet'] }))
    const configured = await restore()
    t.is(configured.code, 0, configured.stderr)
    t.alike([configured.asked[1], configured.asked[4]], [STOP, START], 'services.json says what is run')
    writeFileSync(at('config', 'services.json'), '{"command": "systemctl"}')
    const wrong = await restore()
    t.is(wrong.code, 10, wrong.stderr)
    t.ok(wrong.stderr.includes('services.json'), wrong.stderr)
  },
)

test('row 79: Ctrl-C while services are stopped', NEEDS, async (t) => {
  const { at, data, backup, restore } = await place(t)
  const path = join(data, 'a')
  const now = () => readFileSync(path, 'utf8')
  writeFileSync(path, 'full')
  await backup('full')
  writeFileSync(path, 'last')
  await backup('incremental')
  writeFileSync(path, 'of now')

  const stopping = await restore({ stop: INTERRUPT })
  t.is(stopping.code, 130, stopping.stderr)
  t.is(now(), 'of now', 'nothing was written')
  t.absent(existsSync(at('down')), 'what was stopped is started again')

  const between = await restore({ 'post-restore': INTERRUPT })
  t.is(between.code, 130, between.stderr)
  t.is(now(), 'full', 'the first of the chain is there')
  t.ok(existsSync(at('down')), 'half a chain is nothing to start on')
  t.ok(between.stderr.includes('shop.service stays stopped'), between.stderr)

  const whole = await restore({ start: INTERRUPT })
  t.is(now(), 'last', whole.stderr)
  t.absent(existsSync(at('down')), 'the next run starts it')
})
