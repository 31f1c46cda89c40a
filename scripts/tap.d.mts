// Types of tap.mjs, for its test.

export function parseTap(output: string): { passed: number; failed: number; skips: string[] }
