// The door to the package fuse-native: optional, so its absence, or a prebuilt binary that does not
// load on this machine, is one clear error when somebody asks for the driver, and nothing otherwise.
//
// Always true: nothing of the package is loaded before loadFuseNative() is called.

import type Fuse from 'fuse-native'
import { UmbraError } from '../../base/errors.ts'

export type FuseNative = typeof Fuse

/** @param name the package, for tests @throws UmbraError UNAVAILABLE, with what to do */
export async function loadFuseNative(name = 'fuse-native'): Promise<FuseNative> {
  try {
    const loaded = (await import(name)) as { default: FuseNative }
    return loaded.default
  } catch (cause) {
    const reason = (cause as { code?: unknown }).code
    const message =
      reason === 'ERR_MODULE_NOT_FOUND' || reason === 'MODULE_NOT_FOUND'
        ? 'The driver fuse-native needs the package fuse-native, which is not installed; run "npm install fuse-native", or use --driver device'
        : `The package fuse-native does not load on this machine (${firstLine(cause)}); use --driver device`
    throw new UmbraError('UNAVAILABLE', message, { package: name }, cause)
  }
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0] as string
}
