import { describe, expect, test, vi } from "vitest";

import { DEFAULT_PATHS } from "../src";
import { backend, deliver, OTHER_SECRET, progress, result, rows, SECRET } from "./kit";

const { result: RESULT, progress: PROGRESS, upload: UPLOAD } = DEFAULT_PATHS;
const MINUTE = 60_000;

describe("a signature", () => {
  test("of the reference library is accepted, for bodies beyond ASCII too", async () => {
    const t = backend();

    const answer = await deliver(t, RESULT, result({ message: "zu groß 🍲" }));

    expect([answer.status, await answer.json()]).toEqual([200, { outcome: "applied" }]);
  });

  test("by either of two secrets in the setting is accepted, so that a secret can be replaced in peace", async () => {
    const t = backend();
    vi.stubEnv("CHEF_WORKERS_WEBHOOK_SECRET", `${OTHER_SECRET}, ${SECRET}`);

    expect((await deliver(t, RESULT, result(), { secrets: [SECRET] })).status).toBe(200);
    expect((await deliver(t, PROGRESS, progress({ jobId: "job-2" }), { secrets: [OTHER_SECRET] })).status).toBe(200);
  });

  test("is found among several, as a sender with two secrets makes them", async () => {
    const t = backend();

    expect((await deliver(t, RESULT, result(), { secrets: [OTHER_SECRET, SECRET] })).status).toBe(200);
  });

  test("by another secret is refused, on every path, and changes nothing", async () => {
    const t = backend();

    for (const path of [RESULT, PROGRESS, UPLOAD]) {
      const answer = await deliver(t, path, result(), { secrets: [OTHER_SECRET] });
      expect([answer.status, await answer.json()]).toEqual([401, { error: "no signature fits" }]);
    }
    expect(await rows(t, "workerJobs")).toEqual([]);
  });

  test("does not fit a body, id or time that was changed on the way", async () => {
    const t = backend();
    const body = JSON.stringify(result());
    const signed = { id: "msg-a", at: new Date() };
    const now = Math.floor(signed.at.getTime() / 1000);
    const proper = await headersOf(t, body, signed);

    for (const tampered of [
      { body: body.replace("success", "failure"), headers: proper },
      { body: body + " ", headers: proper },
      { body, headers: { ...proper, "webhook-id": "msg-b" } },
      { body, headers: { ...proper, "webhook-timestamp": String(now + 1) } },
    ]) {
      const answer = await t.fetch(RESULT, { method: "POST", ...tampered });
      expect(answer.status).toBe(401);
    }
  });

  test.each([
    ["", "no signature fits"],
    ["v1,", "no signature fits"],
    ["v1,!!!", "no signature fits"],
    ["v1a,AAAA", "no signature fits"],
    ["v1,AAAA ".repeat(500), "no signature fits"],
  ])("written as %.20s is refused", async (signature, error) => {
    const answer = await deliver(backend(), RESULT, result(), { headers: { "webhook-signature": signature } });

    expect([answer.status, await answer.json()]).toEqual([401, { error }]);
  });

  test.each(["", "now", "-5", "1e9", " 17", "9".repeat(40)])("with the time %j is refused", async (timestamp) => {
    const answer = await deliver(backend(), RESULT, result(), { headers: { "webhook-timestamp": timestamp } });

    expect(answer.status).toBe(401);
  });

  test("counts for five minutes, before and after", async () => {
    const now = Date.now();
    const status = async (at: number) => (await deliver(backend(), RESULT, result(), { at: new Date(at) })).status;

    expect(await status(now - 4.9 * MINUTE)).toBe(200);
    expect(await status(now + 4.9 * MINUTE)).toBe(200);
    expect(await status(now - 5.1 * MINUTE)).toBe(401);
    expect(await status(now + 5.1 * MINUTE)).toBe(401);
  });
});

test.each(["", "   ", "whsec_", "not base64!", `${SECRET},%%%`])(
  "with the secret set to %j every request is put off, not refused for good",
  async (setting) => {
    const t = backend();
    vi.stubEnv("CHEF_WORKERS_WEBHOOK_SECRET", setting);

    const answer = await deliver(t, RESULT, result());

    expect(answer.status).toBe(503);
    expect(await answer.text()).toContain("CHEF_WORKERS_WEBHOOK_SECRET");
  },
);

test("other paths and methods are not routed", async () => {
  const t = backend();

  expect((await deliver(t, "/api/v1/hooks/other", result())).status).toBe(404);
  expect((await t.fetch(RESULT, { method: "GET" })).status).toBe(404);
});

/** The headers of a proper delivery, seen on their way. */
async function headersOf(t: ReturnType<typeof backend>, body: string, delivery: { id: string; at: Date }) {
  const seen: Record<string, string>[] = [];
  const eavesdropper = {
    ...t,
    fetch: async (_path: string, init?: RequestInit) => {
      seen.push(init?.headers as Record<string, string>);
      return new Response("{}");
    },
  } as typeof t;
  await deliver(eavesdropper, RESULT, body, delivery);
  return seen[0];
}
