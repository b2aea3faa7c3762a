// Calls a function: loads its file, calls the export with the event, and writes what came of it as a report.
// What it reads is call.json beside it; see executor/functions.py. Bound before any code of the function runs, so that
// a function which changes globals harms its own values at most.
import { readFileSync, writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const MAX_CHARS = 8_000
const { stringify } = JSON
const byteLength = Buffer.byteLength
const now = performance.now.bind(performance)
const exit = process.exit.bind(process)
const { file, export: name, event, check, report, maxBytes } = JSON.parse(
  readFileSync(new URL('call.json', import.meta.url), 'utf8'),
)
const context = { jobId: process.env.CHEF_JOB_ID ?? '', deadlineMs: Number(process.env.CHEF_DEADLINE_MS ?? 0) }
let began = now()

function end(outcome) {
  writeFileSync(report, stringify({ durationMs: now() - began, ...outcome }))
  exit(0)
}

function fail(kind, type, message, stack = '') {
  end({ error: { kind, type, message: message.slice(0, MAX_CHARS), stack: stack.slice(0, MAX_CHARS) } })
}

function thrown(error) {
  try {
    if (!(error instanceof Error)) fail('thrown', typeof error, String(error))
    const lines = String(error.stack).split('\n')
    const own = lines.filter((line) => !line.includes('/work/tools/') && !line.includes('node:internal/'))
    fail('thrown', String(error.name), String(error.message), own.join('\n'))
  } catch {
    fail('thrown', typeof error, 'what was thrown cannot be shown')
  }
}

/** A number that JSON would silently turn into null is refused, and told by its place. */
function replacer(key, value) {
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new TypeError(`${key ? `${stringify(key)} is` : 'it is'} ${value}, which JSON does not have`)
  }
  return value
}

function asJson(value) {
  if (value === undefined) return 'null'
  const text = stringify(value, replacer)
  if (text === undefined) throw new TypeError(`it is a ${typeof value}`)
  return text
}

function returned(value) {
  const durationMs = now() - began
  let text
  try {
    text = asJson(value)
  } catch (error) {
    fail('value', 'ResultInvalid', `the value cannot be written as JSON: ${error?.message}`)
  }
  const bytes = byteLength(text)
  if (bytes > maxBytes) {
    fail('size', 'ResultTooLarge', `the value has ${bytes} bytes as JSON, and at most ${maxBytes} are taken`)
  }
  writeFileSync(report, `{"durationMs":${durationMs},"value":${text}}`)
  exit(0)
}

function handlerOf(module) {
  const candidates = [module[name], module.default?.[name]]
  return candidates.find((each) => typeof each === 'function')
}

process.on('uncaughtException', thrown)
process.on('beforeExit', () => {
  fail('thrown', 'Unsettled', "the handler's promise cannot settle any more: nothing is left that it could wait for")
})

const module = await import(pathToFileURL(`${process.cwd()}/${file}`))
const handler = handlerOf(module)
if (!handler) {
  const known = Object.keys(module).join(', ') || 'nothing'
  fail('handler', 'HandlerNotFound', `${file} exports no function ${name}; it exports ${known}`)
}
if (check) end({ value: null })
began = now()
try {
  returned(await handler(event, context))
} catch (error) {
  thrown(error)
}
