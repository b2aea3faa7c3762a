// The files below a folder, without links, as [path, its name below the folder]; never more than `most` of them.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'

export function* walk(root, { most, skip = () => false }) {
  const waiting = ['']
  let count = 0
  while (waiting.length) {
    const folder = waiting.pop()
    for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
      const name = join(folder, entry.name)
      if (entry.isDirectory() && !skip(entry.name)) waiting.push(name)
      if (!entry.isFile()) continue
      if (++count > most) throw new Error(`there are more than ${most} files`)
      yield [join(root, name), name]
    }
  }
}
