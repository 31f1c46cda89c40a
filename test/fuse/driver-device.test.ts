// The device driver keeps the whole driver contract.

// deadline 300

import { fuseDriverContract } from '../contract/fuse-driver.ts'

fuseDriverContract({ driver: 'device', knownFailures: [] })
