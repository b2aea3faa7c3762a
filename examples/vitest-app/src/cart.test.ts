import { describe, expect, it } from 'vitest'
import { shown, total } from './cart'

describe('total', () => {
  it('is nothing for no items', () => {
    expect(total([])).toBe(0)
  })

  it('counts every piece', () => {
    expect(total([{ name: 'Tea', cents: 450, count: 2 }])).toBe(900)
  })

  it('is a tenth less from 100.00 on', () => {
    expect(total([{ name: 'Kettle', cents: 10_000, count: 1 }])).toBe(9_000)
  })
})

describe('shown', () => {
  it('has two digits after the point', () => {
    expect(shown(5)).toBe('$0.05')
  })
})
