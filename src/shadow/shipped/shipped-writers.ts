// The writers that ship, by the kind that a configuration names.
//
// Always true: a kind of the schema is in the table, or it is refused with UNAVAILABLE; a writer's code is
// loaded when it is configured and not before.

import { UmbraError } from '../../base/errors.ts'
import type { Writer } from '../writers/writer.ts'
import type { ConfiguredWriter, WriterConfiguration, WriterKind } from '../writers/writer-configuration.ts'
import type { MariadbWriterOptions } from './mariadb-writer.ts'
import type { PostgresqlWriterOptions } from './postgresql-writer.ts'
import type { RedisWriterOptions } from './redis-writer.ts'
import type { SqliteWriterOptions } from './sqlite-writer.ts'

export interface ShippedOptions {
  /** The configuration's name, what the writer is called unless it says otherwise. */
  readonly name: string
  readonly configuration: WriterConfiguration
  /** For people: what programs say on standard error. */
  readonly onLine: (line: string) => void
}

/** @throws UmbraError INVALID_DOCUMENT when the configuration is not the kind's */
type Factory = (options: ShippedOptions) => Promise<Writer>

const SHIPPED: Readonly<Partial<Record<WriterKind, Factory>>> = {
  script: async ({ name, configuration, onLine }) =>
    new (await import('../writers/script-writer.ts')).ScriptWriter(name, configuration, onLine),
  postgresql: async ({ name, configuration }) =>
    new (await import('./postgresql-writer.ts')).PostgresqlWriter({
      ...(configuration as unknown as Omit<PostgresqlWriterOptions, 'name'>),
      name,
    }),
  mariadb: async ({ name, configuration }) =>
    new (await import('./mariadb-writer.ts')).MariadbWriter({
      ...(configuration as unknown as Omit<MariadbWriterOptions, 'name'>),
      name,
    }),
  redis: async ({ name, configuration }) =>
    new (await import('./redis-writer.ts')).RedisWriter({
      ...(configuration as unknown as Omit<RedisWriterOptions, 'name'>),
      name,
    }),
  sqlite: async ({ name, configuration }) =>
    new (await import('./sqlite-writer.ts')).SqliteWriter({
      ...(configuration as unknown as Omit<SqliteWriterOptions, 'name'>),
      name,
    }),
}

/** @throws UmbraError UNAVAILABLE, INVALID_DOCUMENT */
export async function createShippedWriter(
  { name, configuration }: Pick<ConfiguredWriter, 'name' | 'configuration'>,
  onLine: (line: string) => void = () => {},
): Promise<Writer> {
  const factory = SHIPPED[configuration.kind]
  if (factory) return factory({ name, configuration, onLine })
  throw new UmbraError('UNAVAILABLE', `This version has no writer for ${configuration.kind}`)
}
