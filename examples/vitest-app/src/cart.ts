export interface Item {
  name: string
  cents: number
  count: number
}

/** The sum of all items; from 100.00 on, a tenth less. */
export function total(items: Item[]): number {
  const sum = items.reduce((cents, item) => cents + item.cents * item.count, 0)
  return sum >= 10_000 ? Math.round(sum * 0.9) : sum
}

export function shown(cents: number): string {
  if (cents < 0) return `-${shown(-cents)}`
  return `$${(cents / 100).toFixed(2)}`
}
