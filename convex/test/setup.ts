/** Time stands still in every test: what is scheduled runs when the test says so, never behind its back. */

import { afterEach, beforeEach, vi } from "vitest";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});
