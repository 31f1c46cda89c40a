// Assertions: a broken invariant is a bug in Umbra, never the caller's mistake and never bad data
// from outside (those are UmbraErrors). They stay on in production; they are cheap.

export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Throws unless `condition` holds; `claim` states what should have been true. */
export function assert(condition: boolean, claim: string): asserts condition {
  if (!condition) throw new AssertionError(`Broken invariant: ${claim}`)
}
