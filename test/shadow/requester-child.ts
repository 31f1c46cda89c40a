// A requester in a process of its own, to be killed: goes through a backup against the real coordinator,
// says after each call that it has returned, and stops for ever after the one it was told.

/** What was built, as the command line runs it: it starts faster, and so does what it starts. */
const built = new URL('../../dist/daemon/coordinator-client.js', import.meta.url)
const { connectCoordinator } = (await import(
  built.href
)) as typeof import('../../src/daemon/coordinator-client.ts')

const { volumes, stopAfter, context } = JSON.parse(process.argv[2] ?? '{}')

// It is to die by a signal, not because there is nothing to do.
setInterval(() => {}, 60_000)

const coordinator = await connectCoordinator()
const { pid } = await coordinator.status()
const session = await coordinator.openSession('backup')
await did('openSession', { coordinator: pid })
await session.setContext({ context })
const metadata = await session.gatherWriterMetadata()
await did('gatherWriterMetadata')
for (const { identity } of metadata) {
  await session.addComponent({ instanceId: identity.instanceId, logicalPath: '', name: 'data' })
}
await session.startSnapshotSet({ waitMs: 20_000 })
await did('startSnapshotSet')
for (const volume of volumes) await session.addToSnapshotSet(volume, { snapshotName: 'set' })
await did('addToSnapshotSet')
await session.prepareForBackup()
await did('prepareForBackup')
await session.doSnapshotSet()
await did('doSnapshotSet', { properties: await session.snapshotProperties() })
for (const { identity } of metadata) {
  const component = { instanceId: identity.instanceId, logicalPath: '', name: 'data' }
  await session.setBackupSucceeded(component, true)
}
await did('setBackupSucceeded')
await session.backupComplete()
await did('backupComplete')
await session.close()
await did('close')
coordinator.close()
process.exit(0)

async function did(call: string, more: Record<string, unknown> = {}): Promise<void> {
  process.send?.({ type: call, ...more })
  if (call === stopAfter) await new Promise(() => {})
}
