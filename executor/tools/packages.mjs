// What is installed, as [name, version, licence]: every package.json that names its package and stands directly in it.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { walk } from './walk.mjs'

const PACKAGE = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/@.][^/]*)\/package\.json$/
const MANIFEST_BYTES = 1 << 20

export function packages() {
  if (!existsSync('node_modules')) throw new Error('there is no folder node_modules')
  const found = new Map()
  for (const [path, name] of walk('node_modules', { most: 300_000 })) {
    const named = PACKAGE.exec(`node_modules/${name}`)
    if (!named || statSync(path).size > MANIFEST_BYTES) continue
    const manifest = parsed(path)
    if (typeof manifest?.version !== 'string') continue
    found.set(`${named[1]}@${manifest.version}`, [named[1], manifest.version, licence(manifest)])
  }
  return [...found.values()]
}

function parsed(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return null
  }
}

// Old packages have an object, or a list of them.
function licence(manifest) {
  const all = [manifest.license ?? manifest.licenses ?? []].flat()
  return all.map((each) => (typeof each === 'string' ? each : each?.type)).filter(Boolean).join(' OR ')
}
