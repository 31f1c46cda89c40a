// One line of a shadow script, cut into words: quotes, comments and %NAME%, as in diskshadow's scripts.
//
// Always true: a value that is put in for %NAME% is never cut again, whatever is in it; a name that nothing
// is known of is an error and not an empty word.

import { UmbraError } from '../../../base/errors.ts'

/** Gives the value of %NAME%; undefined: there is none. */
export type Expand = (name: string) => string | undefined

const COMMENT = /^(?:#|rem(?:\s|$))/i
const NAME = /%([^%\s]*)%/g

/**
 * @param expand null: words are left as they are written
 * @returns no words for an empty line or a comment (`#` or `REM`)
 * @throws UmbraError INVALID_ARGUMENT, NOT_FOUND for a name without a value
 */
export function wordsOf(line: string, expand: Expand | null): string[] {
  const text = line.trim()
  if (text === '' || COMMENT.test(text)) return []
  const words = cut(text)
  return expand === null ? words : words.map((word) => expanded(word, expand))
}

/** Whether the line's meaning depends on what names mean when it is run. */
export function hasNames(line: string): boolean {
  return line.includes('%')
}

/** Spaces separate; double quotes keep them, and `""` within them is a quote. */
function cut(text: string): string[] {
  const words: string[] = []
  let at = 0
  while (at < text.length) {
    if (isSpace(text[at])) {
      at++
      continue
    }
    let word = ''
    while (at < text.length && !isSpace(text[at])) {
      if (text[at] !== '"') {
        word += text[at++]
        continue
      }
      const quoted = quotedAt(text, at)
      word += quoted.text
      at = quoted.end
    }
    words.push(word)
  }
  return words
}

function quotedAt(text: string, start: number): { text: string; end: number } {
  let found = ''
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] !== '"') found += text[at]
    else if (text[at + 1] === '"') {
      found += '"'
      at++
    } else return { text: found, end: at + 1 }
  }
  throw new UmbraError('INVALID_ARGUMENT', 'A quote is not closed')
}

function isSpace(character: string | undefined): boolean {
  return character === ' ' || character === '\t'
}

/** `%%` is a percent sign. */
function expanded(word: string, expand: Expand): string {
  return word.replace(NAME, (_, name: string) => {
    if (name === '') return '%'
    const value = expand(name)
    if (value !== undefined) return value
    throw new UmbraError('NOT_FOUND', `Nothing is called %${name}%: no alias and no environment variable`)
  })
}
