// Loaded before each test file: gives its tests more than brittle's own 30 s, so that none fails only
// because the machine is busy. The file's deadline, which the runner keeps, stands behind it.

import { configure } from 'brittle'

configure({ timeout: 170_000 })
