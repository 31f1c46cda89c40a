// What was last heard of each writer, in whatever session: for `writer list` and `writer status`.
//
// Always true: sessions write here and never read, so nothing passes from one to another; the oldest
// entries go when there are many, since a writer has a new instance id after every start.

import type { WriterMetadata } from '../documents/writer-metadata.ts'
import type { WriterStatus } from './requester-session.ts'

const ENTRIES_MAX = 1000

export class WriterStatusBoard {
  readonly #statuses = new Map<string, WriterStatus>()

  note(status: WriterStatus): void {
    const key = keyOf(status)
    this.#statuses.delete(key)
    this.#statuses.set(key, status)
    const [oldest] = this.#statuses.keys()
    if (this.#statuses.size > ENTRIES_MAX && oldest !== undefined) this.#statuses.delete(oldest)
  }

  statusOf({ identity }: WriterMetadata): WriterStatus {
    const { classId, instanceId, name, instanceName } = identity
    return (
      this.#statuses.get(keyOf(identity)) ?? {
        classId,
        instanceId,
        name,
        instanceName,
        state: 'stable',
        result: 'ok',
        message: null,
      }
    )
  }
}

function keyOf({ classId, instanceId }: { classId: string; instanceId: string }): string {
  return `${classId} ${instanceId}`
}
