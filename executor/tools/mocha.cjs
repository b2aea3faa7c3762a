// Mocha takes one reporter: this one is two, its own for people and its JSON for us.
const { reporters } = require(require.resolve('mocha', { paths: [process.cwd()] }))

module.exports = class {
  constructor(runner, options) {
    new reporters.Spec(runner, options)
    new reporters.JSON(runner, options)
  }
}
