import { upper } from './upper.js'

export function greet(name) {
  return name == '' ? punctuation : `Hello ${name}`
}
