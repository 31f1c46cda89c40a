// Loaded before programs of this checkout that are TypeScript (node --import ./scripts/typescript.mjs X.ts):
// takes the types off, and keeps the result for the next process. The suite starts some hundreds of
// processes; a loader for everything (tsx) takes each of them half a second of processor time.
//
// Always true: what runs is what the file says now (results are kept under a digest of the text); lines in
// stack traces are those of the file.

import { register } from 'node:module'

process.setSourceMapsEnabled(true)
register('./typescript-hooks.mjs', import.meta.url)
