// Puts the compiled addon where an installed package looks for it: prebuilds/PLATFORM-ARCH/umbra.node.
// `npm pack` runs it, so that a package serves machines like the one that packed it without a compiler
// (the addon uses Node-API alone, so any Node.js does); on others the sources, which are packed as well,
// are compiled by hand: npx node-gyp rebuild --directory node_modules/umbrafs/native
//
// Usage: node scripts/copy-prebuild.mjs [PACKAGE-FOLDER]

import { copyFileSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = join(process.argv[2] ?? ROOT, 'prebuilds', `${process.platform}-${process.arch}`)
mkdirSync(folder, { recursive: true })
copyFileSync(join(ROOT, 'native/build/Release/umbra.node'), join(folder, 'umbra.node'))
