// What this project uses of brittle 4's interface; its own package ships no types.
declare module 'brittle' {
  export interface Assertion {
    pass(comment?: string): void
    fail(comment?: string): void
    is(actual: unknown, expected: unknown, comment?: string): void
    not(actual: unknown, expected: unknown, comment?: string): void
    alike(actual: unknown, expected: unknown, comment?: string): void
    unlike(actual: unknown, expected: unknown, comment?: string): void
    ok(value: unknown, comment?: string): void
    absent(value: unknown, comment?: string): void
    exception(
      fn: Promise<unknown> | (() => unknown),
      expected?: RegExp | Error,
      comment?: string,
    ): Promise<void>
    execution(fn: Promise<unknown> | (() => unknown), comment?: string): Promise<void>
    comment(...text: unknown[]): void
    plan(count: number): void
    timeout(ms: number): void
    teardown(fn: () => unknown, options?: { order?: number; force?: boolean }): void
    tmp(): Promise<string>
    end(): void
  }
  type Body = (t: Assertion) => unknown
  export interface TestOptions {
    timeout?: number
    skip?: boolean
    solo?: boolean
    todo?: boolean
  }
  interface Test {
    (name: string, body: Body): Promise<boolean>
    (name: string, options: TestOptions, body: Body): Promise<boolean>
    skip(name: string, body?: Body): void
    skip(name: string, options: TestOptions, body: Body): void
    solo: Test
  }
  const test: Test
  export default test
  export const skip: Test['skip']
  export const solo: Test
  export function hook(name: string, body: Body): void
}
