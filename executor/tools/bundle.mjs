// What a build made: each script and style sheet with its bytes, and the bytes of the modules in it, by its source map.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { createRequire } from 'node:module'
import { gzipSync } from 'node:zlib'
import { walk } from './walk.mjs'

const { decode } = createRequire('/opt/checks/')('@jridgewell/sourcemap-codec')
const CHUNK = /\.(?:[cm]?js|css)$/
const CHUNK_BYTES = 10 << 20
const MODULES = 200

export function bundle({ folders }) {
  const folder = folders.find((each) => existsSync(each) && statSync(each).isDirectory())
  if (!folder) throw new Error(`the build made none of the folders ${folders.join(', ')}`)
  const chunks = []
  const others = { files: 0, bytes: 0 }
  for (const [path, name] of walk(folder, { most: 20_000 })) {
    if (name.endsWith('.map')) continue
    const { size } = statSync(path)
    if (CHUNK.test(name) && size <= CHUNK_BYTES) {
      chunks.push(chunk(path, name))
    } else {
      others.files += 1
      others.bytes += size
    }
  }
  return { folder, chunks, others }
}

function chunk(path, file) {
  const code = readFileSync(path)
  const sizes = { file, bytes: code.length, gzipBytes: gzipSync(code).length }
  if (!existsSync(`${path}.map`) || statSync(`${path}.map`).size > 4 * CHUNK_BYTES) return sizes
  const bytes = composition(code.toString(), JSON.parse(readFileSync(`${path}.map`, 'utf8')))
  const modules = [...bytes].map(([source, size]) => ({ file: place(path, source), bytes: size }))
  modules.sort((a, b) => b.bytes - a.bytes)
  return { ...sizes, modules: modules.slice(0, MODULES), modulesCut: Math.max(0, modules.length - MODULES) }
}

// Every stretch of code from one mapping to the next belongs to the source that the first one names.
function composition(code, map) {
  const lines = code.split('\n')
  const bytes = new Map()
  decode(map.mappings).forEach((segments, line) => {
    segments.forEach(([column, source], at) => {
      if (source === undefined || !(line in lines)) return
      const name = map.sources[source] ?? ''
      const stretch = lines[line].slice(column, segments[at + 1]?.[0])
      bytes.set(name, (bytes.get(name) ?? 0) + Buffer.byteLength(stretch))
    })
  })
  return bytes
}

// A source's path, as the project knows it: maps name it from where the chunk is.
function place(path, source) {
  return /^[a-z-]+:|^\0/.test(source) ? source : normalize(join(dirname(path), source))
}
