// A writer in the coordinator's own process as a WriterPort.
//
// Always true: requests and replies are copies and have passed the same validation as those of a writer
// elsewhere, so a writer behaves alike wherever it runs.

import { validateWriterReply } from '../documents/validate-writer-message.ts'
import type { Writer } from './writer.ts'
import { WriterEndpoint } from './writer-endpoint.ts'
import type { WriterPort } from './writer-port.ts'

/** @param origin for logs and lists; the class's name unless told */
export function localPort(writer: Writer, origin = writer.constructor.name): WriterPort {
  const endpoint = new WriterEndpoint(writer)
  return {
    kind: 'local',
    origin,
    whenGone: new Promise(() => {}),
    async deliver(request, timeoutMs) {
      const copy = structuredClone({ ...request, timeoutMs })
      return validateWriterReply(request.event, structuredClone(await endpoint.deliver(copy)))
    },
    close: () => void endpoint.abandon(),
  }
}
