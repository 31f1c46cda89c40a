// The published JSON Schemas (schemas/*.schema.json), loaded and compiled when first needed.
//
// Always true: a value that passes has the shape that the TypeScript type of its document says; the
// same file is published, so what a writer's author checks against is what decides here.

import { readFileSync } from 'node:fs'
import type { ErrorObject, ValidateFunction } from 'ajv/dist/2020.js'
import { UmbraError } from '../../base/errors.ts'
import { compileSchemas } from './schema-compiler.ts'

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

let compiled: ReturnType<typeof compileSchemas> | undefined
const validators = new Map<SchemaName, ValidateFunction>()

/** A schema as it is published. */
export function schemaSource(name: SchemaName | 'common'): object {
  return JSON.parse(readFileSync(new URL(`${name}.schema.json`, FOLDER), 'utf8')) as object
}

function schemaId(name: SchemaName): string {
  return `https://umbra.invalid/schemas/${name}.schema.json`
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
  compiled ??= compileSchemas(() => (['common', ...SCHEMA_NAMES] as const).map(schemaSource))
  const validate = compiled(schemaId(name))
  if (validate === undefined) throw new Error(`No schema ${name}`)
  validators.set(name, validate)
  return validate
}

function faultText({ instancePath, message, keyword, params, parentSchema }: ErrorObject): string {
  const where = instancePath === '' ? 'the document' : instancePath.slice(1)
  if (keyword === 'additionalProperties') {
    const known = Object.keys((parentSchema?.['properties'] as object | undefined) ?? {})
    const list = known.length === 0 ? '' : `; it may have ${known.join(', ')}`
    return `${where} has an unknown property ${JSON.stringify(params['additionalProperty'])}${list}`
  }
  if (keyword === 'enum') return `${where} must be one of ${(params['allowedValues'] as string[]).join(', ')}`
  return `${where} ${message ?? keyword}`
}
