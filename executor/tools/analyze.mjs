// Runs the parts of an analysis one after the other, in the project, and writes what they found to one report.
// Called with the order as JSON: [{part, skipped?, run?, reports?, folders?}]: `run` is a command, a report [file, format],
// and what is skipped says why.
// The report is {parts: [{part, skipped?, code?, timedOut?, tail?, reports?, data?, error?}]}. A part that fails stops no other.
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { bundle } from './bundle.mjs'
import { files } from './files.mjs'
import { packages } from './packages.mjs'

const FOLDER = '/work/reports'
const PART_MS = 100_000
const LINGER_MS = 500
const TAIL_CHARS = 600
const REPORT_BYTES = 3 << 20
const MEASURES = { bundle, files, packages }

const parts = []
for (const order of JSON.parse(process.argv[2])) {
  if (order.skipped) {
    parts.push(order)
    continue
  }
  if (order.run) console.log(`\n${order.part}: $ ${order.run}`)
  const found = order.run ? await run(order.run) : {}
  const reports = (order.reports ?? []).map(read).filter(Boolean)
  parts.push({ part: order.part, ...found, reports, ...(found.code ? {} : measured(order)) })
}
writeFileSync(`${FOLDER}/analysis.json`, JSON.stringify({ parts }))

function run(command) {
  // A group of its own, so that whatever it started ends with it.
  const child = spawn('/bin/sh', ['-c', command], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let tail = ''
  let timedOut = false
  for (const [from, to] of [[child.stdout, process.stdout], [child.stderr, process.stderr]]) {
    from.on('data', (data) => {
      to.write(data)
      tail = (tail + data).slice(-TAIL_CHARS)
    })
  }
  const end = () => {
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // the group is empty
    }
  }
  const timer = setTimeout(() => {
    timedOut = true
    end()
  }, PART_MS)
  return new Promise((resolve) => {
    // What it left running may hold its output open, so that is not waited for.
    child.on('exit', (code, signal) => {
      clearTimeout(timer)
      setTimeout(() => {
        end()
        child.stdout.destroy()
        child.stderr.destroy()
      }, LINGER_MS).unref()
      child.on('close', () => resolve({ code: signal ? 137 : code, timedOut, tail }))
    })
  })
}

function read([file, format]) {
  const path = `${FOLDER}/${file}`
  if (!existsSync(path) || statSync(path).size > REPORT_BYTES) return null
  return { format, text: readFileSync(path, 'utf8') }
}

function measured(order) {
  const measure = MEASURES[order.part]
  if (!measure) return {}
  try {
    return { data: measure(order) }
  } catch (error) {
    return { error: String(error.message).slice(0, TAIL_CHARS) }
  }
}
