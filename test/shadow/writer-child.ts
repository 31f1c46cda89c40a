// A connected writer in a process of its own: registers with the coordinator, says which events it
// gets, and stays in the one it was told for ever.

import { connectWriter } from '../../src/daemon/writer-line.ts'
import { MetadataBuilder } from '../../src/shadow/writers/metadata-builder.ts'
import { Writer } from '../../src/shadow/writers/writer.ts'
import type { WriterContext } from '../../src/shadow/writers/writer-context.ts'

const stuckIn = process.argv[2]

class ChildWriter extends Writer {
  identify() {
    const classId = '99999999-2222-4333-8444-555555555555'
    const builder = new MetadataBuilder({ classId, instanceId: this.instanceId, name: 'child' })
    builder.addFileGroup({ name: 'data', selectable: false }).addFiles({ path: '/srv/child' })
    return builder.build()
  }

  override onPrepareForBackup = (context: WriterContext) => this.#tell(context)
  override onFreeze = (context: WriterContext) => this.#tell(context)
  override onThaw = (context: WriterContext) => this.#tell(context)
  override onAbort = (context: WriterContext) => this.#tell(context)
  override onPostSnapshot = (context: WriterContext) => this.#tell(context)
  override onBackupComplete = (context: WriterContext) => this.#tell(context)
  override onBackupShutdown = (context: WriterContext) => this.#tell(context)

  async #tell({ event }: WriterContext): Promise<void> {
    process.send?.({ type: event })
    if (event === stuckIn) await new Promise(() => {})
  }
}

connectWriter(new ChildWriter(), 'child', { retryMs: 50 })
