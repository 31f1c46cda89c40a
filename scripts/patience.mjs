// Loaded before each test file: gives its tests more than brittle's own 30 s, so that none fails only
// because the machine is busy. The file's deadline, which the runner keeps, stands behind it.

import { configure } from 'brittle'

/** A little less than the file's deadline, so that it is told which test took so long. */
const timeoutMs = Number(process.env['UMBRA_TEST_TIMEOUT_MS'] ?? 170_000)

configure({ timeout: timeoutMs })
