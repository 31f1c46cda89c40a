// Reads the TAP that brittle prints, as far as the suite's runner counts it: tests, not assertions.

/**
 * A test counts as skipped when its line ends in `# SKIP`, or when its body said `# SKIP reason` in a
 * comment. A line `# missing: WHAT` (printed by requires()) gives the reason of the skips after it.
 *
 * @param {string} output
 * @returns {{ passed: number, failed: number, skips: string[] }}
 */
export function parseTap(output) {
  const counts = { passed: 0, failed: 0, skips: [] }
  let missing = ''
  let reason = ''
  for (const line of output.split('\n')) {
    const comment = /^\s+# SKIP\b[: ]*(.*)$/.exec(line)
    if (comment) reason = comment[1] || 'no reason given'
    const lack = /^# missing: (.+)$/.exec(line)
    if (lack) missing = missing ? `${missing}, ${lack[1]}` : lack[1]
    const result = /^(ok|not ok) \d+ - (.*)$/.exec(line)
    if (!result) continue
    count(counts, result[1] === 'ok', result[2].replace(/ # time = .*$/, ''), reason, missing)
    reason = ''
  }
  return counts
}

function count(counts, isOk, name, reason, missing) {
  if (!isOk) counts.failed++
  else if (/ # SKIP\b/.test(name)) {
    counts.skips.push(`${name.replace(/ # SKIP.*$/, '')}${missing ? ` (missing: ${missing})` : ''}`)
  } else if (reason) counts.skips.push(`${name} (${reason})`)
  else counts.passed++
}
