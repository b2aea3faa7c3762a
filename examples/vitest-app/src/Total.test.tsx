import { renderToStaticMarkup } from 'react-dom/server'
import { expect, test } from 'vitest'
import { Total } from './Total'

test('an empty cart says so', () => {
  expect(renderToStaticMarkup(<Total items={[]} />)).toBe('<strong>Nothing yet</strong>')
})
