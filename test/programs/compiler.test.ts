// A C compiler at work in a mount: what is built is this project's own addon, compared with the same on
// the host, and a program of many files by make with several jobs, twice: the second time nothing is to
// be done, which needs times that stay; then the program is run.

// deadline 280

import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'brittle'
import { isLong } from '../mount/lab.ts'
import { requires } from '../support/requires.ts'
import { run } from '../support/run.ts'
import { umbra } from '../support/umbra.ts'
import { differences, makeStage } from './stage.ts'

const NEEDS = { ...requires('root', '/dev/fuse', 'e2fsck', 'cc', 'make', 'ar'), timeout: 900_000 }
const NATIVE = fileURLToPath(new URL('../../native/src', import.meta.url))
const NODE_HEADERS = join(process.execPath, '../../include/node')
const TIMEOUT = { timeoutMs: 600_000 }
const UNITS = isLong ? 1500 : 120

const MAKEFILE = `
UNITS := $(wildcard unit-*.c)
program: main.o libunits.a
	$(CC) -g -o $@ $^
libunits.a: $(UNITS:.c=.o)
	rm -f $@ && $(AR) rcs $@ $^
%.o: %.c units.h
	$(CC) -g -O1 -c -MMD -o $@ $<
-include $(wildcard *.d)
`

/** Each unit calls the next, and the sum of all is what main() says. */
function writeProgram(folder: string): number {
  const names = Array.from({ length: UNITS }, (_, number) => number)
  writeFileSync(join(folder, 'Makefile'), MAKEFILE)
  writeFileSync(join(folder, 'units.h'), names.map((number) => `long unit_${number}(long);\n`).join(''))
  for (const number of names) {
    const next = number + 1 < UNITS ? `unit_${number + 1}(sum + ${number * 7})` : `sum + ${number * 7}`
    const table = Array.from({ length: 200 }, (_, at) => at * number).join(',')
    writeFileSync(
      join(folder, `unit-${number}.c`),
      `#include "units.h"\nstatic const long table[] = {${table}};\nlong unit_${number}(long sum) { return ${next} + table[sum & 127] * 0; }\n`,
    )
  }
  writeFileSync(
    join(folder, 'main.c'),
    '#include <stdio.h>\n#include "units.h"\nint main(void) { printf("%ld\\n", unit_0(1)); return 0; }\n',
  )
  return 1 + names.reduce((sum, number) => sum + number * 7, 0)
}

test('make builds a program of many files, and nothing again', NEEDS, async (t) => {
  const stage = await makeStage(t, '2G')
  const folder = join(stage.dir, 'program')
  mkdirSync(folder)
  const sum = writeProgram(folder)
  const make = () => run('make', ['-j4', 'program'], { cwd: folder, ...TIMEOUT })
  await make()
  t.is((await run(join(folder, 'program'), [])).stdout, `${sum}\n`, 'the program runs and says the sum')
  t.ok(/up to date/.test((await make()).stdout), 'nothing is to be done again')
  await umbra(['snapshot', 'create', stage.dir, 'built'])
  writeFileSync(join(folder, 'units.h'), '/* touched */\n', { flag: 'a' })
  const rebuilt = (await make()).stdout.split('\n').filter((line) => line.includes(' -c ')).length
  t.is(rebuilt, UNITS + 1, 'a touched header builds all that include it')
  t.is((await run(stage.within('built', 'program', 'program'), [])).stdout, `${sum}\n`, 'the snapshot’s runs')
  await stage.judge()
})

test(
  'the sources of the addon are compiled as on the host',
  existsSync(NODE_HEADERS) ? NEEDS : { skip: true },
  async (t) => {
    const stage = await makeStage(t, '1G')
    const onHost = join(stage.folder, 'host')
    const onMount = join(stage.dir, 'mount')
    for (const folder of [onHost, onMount]) {
      mkdirSync(folder)
      for (const name of readdirSync(NATIVE)) copyFileSync(join(NATIVE, name), join(folder, name))
      const flags = '-O2 -fPIC -D_GNU_SOURCE -DNAPI_VERSION=8 -DNODE_GYP_MODULE_NAME=umbra'
      const compile = `for file in *.c; do cc ${flags} -I${NODE_HEADERS} -c $file; done; ar rcsD all.a *.o`
      await run('sh', ['-e', '-c', compile], { cwd: folder, ...TIMEOUT })
    }
    t.alike(await differences(onHost, onMount), [], 'objects and archive, byte for byte')
    await stage.judge()
  },
)
