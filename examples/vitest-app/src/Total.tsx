import { shown, total, type Item } from './cart'

export function Total({ items }: { items: Item[] }) {
  return <strong>{items.length ? shown(total(items)) : 'Nothing yet'}</strong>
}
