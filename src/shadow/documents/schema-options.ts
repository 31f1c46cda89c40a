// How the published schemas are read, wherever they are compiled.
//
// Always true: a schema is held to what JSON Schema says, without guesses (strict); what a document
// inherits is no property of it.

export const SCHEMA_OPTIONS = {
  strict: true,
  strictRequired: false,
  // All faults of a hostile document would cost time without end; the first one of each rule will do.
  allErrors: false,
  ownProperties: true,
  // A fault says what may be there instead.
  verbose: true,
  // The schemas are ours: compiling the schema of schemas would cost each process more than all of them.
  meta: false,
  validateSchema: false,
  // Each check runs a few times in a process: shorter code does not pay for itself.
  code: { optimize: false },
} as const
