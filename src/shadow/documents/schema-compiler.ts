// The compiler of the published schemas. In the bundle of the programs stands what it makes of them instead
// (scripts/bundle-programs.mjs): it takes longer to load and to compile than most commands to run.
//
// Always true: the options are those here, in both; they trust the schemas themselves, which a test
// checks against the schema of schemas.

import { createRequire } from 'node:module'
import type { ValidateFunction } from 'ajv/dist/2020.js'
import { SCHEMA_OPTIONS } from './schema-options.ts'

/** @returns the check that belongs to a schema's $id, if it is among `schemas` */
export function compileSchemas(
  schemas: () => readonly object[],
): (id: string) => ValidateFunction | undefined {
  const require = createRequire(import.meta.url)
  const { Ajv2020 } = require('ajv/dist/2020.js') as typeof import('ajv/dist/2020.js')
  const ajv = new Ajv2020(SCHEMA_OPTIONS)
  for (const schema of schemas()) ajv.addSchema(schema)
  return (id) => ajv.getSchema(id)
}
