// How the 53 bits of a node id are shared out between the live tree, the snapshots and virtual nodes.
//
// Always true: node id = slot * 2^32 + inode number. Slot 0 is the live tree (where the root is 1, not
// 2); the last slot holds virtual nodes; every slot between belongs to at most one snapshot at a time,
// and st_ino has the same form, so no two nodes of a mount ever look like hard links of one file.

export const SLOT_SPAN = 2 ** 32
/** Slots that snapshots may have are 1 to SNAPSHOT_SLOT_MAX. */
export const SNAPSHOT_SLOT_MAX = 2 ** 21 - 2 - 256
/** Unsealed snapshots have slots of their own, so that nothing the kernel keeps of one is the sealed one's. */
export const RECOVERY_SLOT_FIRST = SNAPSHOT_SLOT_MAX + 1
export const RECOVERY_SLOT_LAST = 2 ** 21 - 2
export const VIRTUAL_SLOT = 2 ** 21 - 1

/** The directory .snapshots. */
export const SNAPSHOTS_NODE_ID = VIRTUAL_SLOT * SLOT_SPAN + 1
/** Flush markers have node ids from here on. */
export const MARKER_NODE_ID_FIRST = VIRTUAL_SLOT * SLOT_SPAN + 16

/** Whether the node is of an unsealed snapshot, or of one that was sealed or dropped meanwhile. */
export function isRecoveryNode(nodeId: number): boolean {
  return nodeId >= RECOVERY_SLOT_FIRST * SLOT_SPAN && nodeId < VIRTUAL_SLOT * SLOT_SPAN
}

export function slotOf(nodeId: number): number {
  return Math.floor(nodeId / SLOT_SPAN)
}
