import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "edge-runtime",
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    unstubEnvs: true,
    unstubGlobals: true,
    server: { deps: { inline: ["convex-test"] } },
  },
});
