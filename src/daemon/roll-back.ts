// Rollback of an unmounted volume. A mounted one is refused: the kernel owns size and times of open
// files there, and would not see that they changed.

import { UmbraError } from '../base/errors.ts'
import { hasAttribute } from '../shadow/documents/vocabulary.ts'
import { statusRequest } from './control-protocol.ts'
import { locateVolume } from './locate.ts'

/**
 * @throws UmbraError NOT_FOUND, BUSY while it is mounted, INVALID_ARGUMENT for a shadow copy that goes with
 *   its session, OUT_OF_SPACE with nothing changed
 */
export async function rollBack(argument: string, name: string): Promise<{ undoName: string }> {
  const { volumePath, client } = await locateVolume(argument)
  if (client) {
    const { mountPoint } = await client.call(statusRequest).finally(() => client.close())
    const reason =
      mountPoint === null ? 'is in use by a backup' : 'is mounted; unmount it before rolling it back'
    throw new UmbraError('BUSY', `${argument} ${reason}`)
  }
  const { LocalVolume } = await import('./local-volume.ts')
  const opened = await LocalVolume.open(volumePath, { readOnly: false })
  try {
    const { shadow } = opened.volume.snapshot(name)
    if (shadow && !hasAttribute(shadow.attributes, 'persistent')) {
      throw new UmbraError(
        'INVALID_ARGUMENT',
        `${name} is not persistent: a volume is reverted to what stays`,
      )
    }
    const undo = await opened.volume.rollback(name)
    return { undoName: undo.name }
  } finally {
    await opened.close()
  }
}
