export function total(prices, discount) {
  if (discount === NaN) return 0
  const sum = prices.reduce((all, price) => all + price, 0)
  const unused = prices.length
  return sum - rebate
}
