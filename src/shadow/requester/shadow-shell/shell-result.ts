// What the shadow shell's commands give back, for whoever shows it.

import type {
  CoordinatorControl,
  SetTimings,
  ShadowProperties,
  WriterStatus,
} from '../../coordinator/requester-session.ts'
import type { Alias } from './aliases.ts'
import type { InvolvedWriter } from './restore-steps.ts'
import type { ShadowExposure, ShadowRevert } from './shadow-store.ts'
import type { WriterListing } from './shell-command.ts'

export type ListedWriters = Awaited<ReturnType<CoordinatorControl['listWriters']>>

export type ShellResult =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'settings'; readonly settings: Readonly<Record<string, string>> }
  | {
      readonly kind: 'volumes'
      readonly volumes: readonly { readonly volume: string; readonly alias: string | null }[]
      readonly aliases: readonly Alias[]
    }
  | {
      readonly kind: 'created'
      readonly snapshotSetId: string
      readonly shadows: readonly ShadowProperties[]
      readonly timings: SetTimings
      readonly aliases: readonly Alias[]
    }
  | { readonly kind: 'executed'; readonly program: string; readonly exitCode: number }
  | { readonly kind: 'statuses'; readonly statuses: readonly WriterStatus[] }
  | { readonly kind: 'involved'; readonly writers: readonly InvolvedWriter[] }
  | { readonly kind: 'writers'; readonly listing: WriterListing; readonly writers: ListedWriters }
  | { readonly kind: 'shadows'; readonly shadows: readonly ShadowProperties[] }
  | {
      readonly kind: 'providers'
      readonly providers: readonly { readonly id: string; readonly name: string }[]
    }
  | { readonly kind: 'deleted'; readonly count: number; readonly deleted: readonly string[] }
  | { readonly kind: 'exposed' | 'unexposed'; readonly exposure: ShadowExposure }
  | { readonly kind: 'reverted'; readonly revert: ShadowRevert }
  | { readonly kind: 'help'; readonly lines: readonly string[] }
