// The process of a configured writer. As the coordinator's child it speaks over descriptor 3 and ends
// with that connection; started by hand (`node writer-main.js NAME`) it connects to the coordinator's socket and stays.
//
// Always true: before it ends, whatever it has frozen is aborted.

import { createShippedWriter } from '../shadow/shipped/shipped-writers.ts'
import { serveWriterOver } from '../shadow/writers/serve-writer.ts'
import { readConfiguredWriter } from '../shadow/writers/writer-configuration.ts'
import { connectWriter, lineOverDescriptor } from './writer-line.ts'

async function main(): Promise<void> {
  const [name = '', mode] = process.argv.slice(2)
  process.chdir('/')
  process.title = `umbra writer: ${name}`
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  const writer = await createShippedWriter(readConfiguredWriter(name), say)
  if (mode === '--child') {
    const line = lineOverDescriptor(3)
    // The coordinator closes the connection when it wants the process to end.
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => line.close())
    await serveWriterOver(writer, line)
    process.exit(0)
  }
  const service = connectWriter(writer, name, { onTrouble: say })
  const end = (): void => void service.close().then(() => process.exit(0))
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, end)
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exit(1)
})
