import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["e2e/*.test.ts"], fileParallelism: false, testTimeout: 120_000, bail: 1 },
});
