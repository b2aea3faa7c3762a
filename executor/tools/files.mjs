// How many files, bytes and lines the project has, in all and by the ending of the name; installed ones are not its own.
import { readFileSync, statSync } from 'node:fs'
import { extname } from 'node:path'
import { walk } from './walk.mjs'

const IGNORED = new Set(['node_modules', '.git'])
const TEXT_BYTES = 2 << 20

export function files() {
  const total = { files: 0, bytes: 0, lines: 0 }
  const types = {}
  for (const [path, name] of walk('.', { most: 20_000, skip: (folder) => IGNORED.has(folder) })) {
    const type = extname(name).toLowerCase()
    const counts = (types[type] ??= { files: 0, bytes: 0, lines: 0 })
    const { size } = statSync(path)
    const lines = size <= TEXT_BYTES ? linesOf(readFileSync(path)) : 0
    for (const each of [total, counts]) {
      each.files += 1
      each.bytes += size
      each.lines += lines
    }
  }
  return { ...total, types }
}

// What has a zero byte is no text, and has no lines.
function linesOf(content) {
  if (!content.length || content.includes(0)) return 0
  let lines = content.at(-1) === 10 ? 0 : 1
  for (let at = content.indexOf(10); at >= 0; at = content.indexOf(10, at + 1)) lines += 1
  return lines
}
