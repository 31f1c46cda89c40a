// The published JSON Schemas (schemas/*.schema.json), loaded and compiled when first needed; so is the
// compiler, which takes longer to load than most commands to run.
//
// Always true: a value that passes has the shape that the TypeScript type of its document says; the
// same file is published, so what a writer's author checks against is what decides here.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Ajv2020, ErrorObject, ValidateFunction } from 'ajv/dist/2020.js'
import { UmbraError } from '../../base/errors.ts'

export const SCHEMA_NAMES = [
  'writer-metadata',
  'backup-components',
  'writer-request',
  'writer-reply',
  'backup-manifest',
  'file-entry',
  'writer-configuration',
] as const
export type SchemaName = (typeof SCHEMA_NAMES)[number]

/** More than these says nothing new. */
const FAULTS_SHOWN = 3
const FOLDER = new URL('../../../schemas/', import.meta.url)

let compiler: Ajv2020 | undefined
const validators = new Map<SchemaName, ValidateFunction>()

/** A schema as it is published. */
export function schemaSource(name: SchemaName | 'common'): object {
  return JSON.parse(readFileSync(new URL(`${name}.schema.json`, FOLDER), 'utf8')) as object
}

/**
 * @param what names the document in errors
 * @throws UmbraError INVALID_DOCUMENT that says where and what
 */
export function checkShape(name: SchemaName, value: unknown, what: string): void {
  const validate = validatorFor(name)
  if (validate(value)) return
  const faults = (validate.errors ?? []).filter((fault) => fault.keyword !== 'if')
  const shown = faults.slice(0, FAULTS_SHOWN).map(faultText).join('; ')
  const more = faults.length > FAULTS_SHOWN ? `; and ${faults.length - FAULTS_SHOWN} more` : ''
  throw new UmbraError('INVALID_DOCUMENT', `${what}: ${shown}${more}`)
}

function validatorFor(name: SchemaName): ValidateFunction {
  const known = validators.get(name)
  if (known) return known
  compiler ??= newCompiler()
  const validate = compiler.getSchema(`https://umbra.invalid/schemas/${name}.schema.json`)
  if (validate === undefined) throw new Error(`No schema ${name}`)
  validators.set(name, validate)
  return validate
}

function newCompiler(): Ajv2020 {
  const require = createRequire(import.meta.url)
  const { Ajv2020 } = require('ajv/dist/2020.js') as typeof import('ajv/dist/2020.js')
  // All faults of a hostile document would cost time without end; the first one of each rule will do.
  const ajv = new Ajv2020({ strict: true, strictRequired: false, allErrors: false, ownProperties: true })
  for (const name of ['common', ...SCHEMA_NAMES] as const) ajv.addSchema(schemaSource(name))
  return ajv
}

function faultText({ instancePath, message, keyword, params }: ErrorObject): string {
  const where = instancePath === '' ? 'the document' : instancePath.slice(1)
  if (keyword === 'additionalProperties') {
    return `${where} has an unknown property ${JSON.stringify(params['additionalProperty'])}`
  }
  if (keyword === 'enum') return `${where} must be one of ${(params['allowedValues'] as string[]).join(', ')}`
  return `${where} ${message ?? keyword}`
}
