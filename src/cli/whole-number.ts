// Whole numbers among the options.

import { UmbraError } from '../base/errors.ts'

/** For commander: a whole number from 0. @throws UmbraError INVALID_ARGUMENT */
export function wholeNumber(text: string): number {
  const value = Number(text)
  if (/^\d{1,15}$/.test(text) && Number.isSafeInteger(value)) return value
  throw new UmbraError('INVALID_ARGUMENT', `Not a whole number: ${JSON.stringify(text)}`)
}
