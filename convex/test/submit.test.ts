import { describe, expect, test, vi } from "vitest";

import { api, internal } from "../example/convex/_generated/api";
import { submitJob } from "../src";
import { backend, deliverResult, JOB, onlyJob, rows, settleAll, WORKERS, type Backend } from "./kit";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** A request that reached Chef Workers. */
interface Posted {
  url: string;
  headers: Record<string, string>;
  body: { type: string; data: Record<string, unknown> };
}

/** Chef Workers as the app sees it: each answer in turn, the last one for ever. Returns what was posted. */
function workersAnswer(...answers: (() => Response | Promise<Response>)[]): Posted[] {
  const posted: Posted[] = [];
  vi.stubGlobal("fetch", async (url: string, init: { headers: Record<string, string>; body: string }) => {
    posted.push({ url, headers: init.headers, body: JSON.parse(init.body) });
    const answer = answers[Math.min(posted.length, answers.length) - 1];
    return await answer!();
  });
  return posted;
}

const accepted = () => Response.json({ jobId: JOB, status: "pending" }, { status: 201 });
const unavailable = () => Response.json({ error: "queue_full", message: "the queue is full" }, { status: 503 });
const cut = () => Promise.reject(new TypeError("connection reset"));

async function appWithChat(): Promise<Backend> {
  const t = backend();
  await t.run((ctx) => ctx.db.insert("chats", { name: "chat-1", ownerId: "anna" }));
  return t;
}

const files = [{ path: "src/größe 🍲.ts", text: "export const größe = '🍲';\n" }];

async function start(t: Backend, project = files) {
  return await t.withIdentity({ subject: "anna" }).mutation(api.builds.start, { chat: "chat-1", files: project });
}

/** Run what is scheduled now, not what that schedules. */
async function runDue(t: Backend): Promise<void> {
  vi.runOnlyPendingTimers();
  await t.finishInProgressScheduledFunctions();
}

describe("a job", () => {
  test("is there at once, and posted with the row's id as idempotency key when the mutation is committed", async () => {
    const t = await appWithChat();
    const posted = workersAnswer(accepted);

    const job = await start(t);
    expect(await onlyJob(t)).toMatchObject({ status: "sending", type: "build", chatId: "chat-1" });
    await settleAll(t);

    expect(posted).toHaveLength(1);
    expect(posted[0]).toMatchObject({ url: `${WORKERS}/api/jobs`, headers: { "Idempotency-Key": job } });
    expect(posted[0]?.headers).not.toHaveProperty("Authorization");
    expect(posted[0]?.body).toEqual({
      type: "build",
      data: { chatId: "chat-1", projectFiles: { "src/größe 🍲.ts": "export const größe = '🍲';\n" } },
    });
    expect(await onlyJob(t)).toMatchObject({ _id: job, status: "pending", jobId: JOB });
    expect(await rows(t, "workerRequests")).toEqual([]);
  });

  test("may ask for all that the API has", async () => {
    const t = await appWithChat();
    const posted = workersAnswer(accepted);
    const wishes = { steps: ["lint", "build"], onFailure: "continue", failOn: "warning", env: { CI: "1" } } as const;

    await t.run((ctx) =>
      submitJob(ctx, { type: "build", files, ...wishes, steps: [...wishes.steps], options: { tags: ["nightly"] } }),
    );
    await settleAll(t);

    expect(posted[0]?.body).toMatchObject({ type: "build", tags: ["nightly"], data: wishes });
    expect(posted[0]?.body).not.toHaveProperty("options");
  });

  test("goes with the API key if there is one", async () => {
    const t = await appWithChat();
    vi.stubEnv("CHEF_WORKERS_API_KEY", "cw_key");
    vi.stubEnv("CHEF_WORKERS_URL", `${WORKERS}/`);
    const posted = workersAnswer(accepted);

    await start(t);
    await settleAll(t);

    expect(posted[0]).toMatchObject({ url: `${WORKERS}/api/jobs`, headers: { Authorization: "Bearer cw_key" } });
  });

  test("may be larger than a Convex document, and contain anything anywhere", async () => {
    const t = await appWithChat();
    const posted = workersAnswer(accepted);
    const text = "🍲ü".repeat(100_000);

    await start(t, [{ path: "__proto__", text }, ...files]);
    expect((await rows(t, "workerRequests")).length).toBeGreaterThan(1);
    for (const { text } of await rows(t, "workerRequests")) expect(text).toMatch(/^[\x00-\x7f]{1,900000}$/);
    await settleAll(t);

    expect(Object.entries(posted[0]?.body.data.projectFiles as object)[0]).toEqual(["__proto__", text]);
  });

  test("that is too large to keep is refused before anything is written", async () => {
    const t = await appWithChat();

    await expect(start(t, [{ path: "a", text: "x".repeat(12_000_000) }])).rejects.toThrow("at most 12000000");

    expect(await rows(t, "workerJobs")).toEqual([]);
  });
});

describe("while it is not known whether a job arrived", () => {
  test("it is posted again with the same key and body, later and later", async () => {
    const t = await appWithChat();
    const posted = workersAnswer(cut, unavailable, cut, accepted);
    const began = Date.now();

    const job = await start(t);
    await settleAll(t);

    expect(posted.map(({ headers }) => headers["Idempotency-Key"])).toEqual([job, job, job, job]);
    expect(new Set(posted.map(({ body }) => JSON.stringify(body))).size).toBe(1);
    expect(await onlyJob(t)).toMatchObject({ status: "pending", tries: 3, jobId: JOB });
    expect(Date.now() - began).toBeGreaterThan(0.8 * (1 + 2 + 4) * 1000 - 1);
  });

  test("the row says what happened", async () => {
    const t = await appWithChat();
    workersAnswer(unavailable);

    await start(t);
    await runDue(t);

    expect(await onlyJob(t)).toMatchObject({ status: "sending", tries: 1, message: "HTTP 503: the queue is full" });
  });

  test("a Retry-After is waited for", async () => {
    const t = await appWithChat();
    const busy = () => Response.json({}, { status: 429, headers: { "Retry-After": "120" } });
    workersAnswer(busy, accepted);
    const began = Date.now();

    await start(t);
    await settleAll(t);

    expect(Date.now() - began).toBeGreaterThanOrEqual(2 * MINUTE);
  });

  test("an answer that does not come counts as none after 30 seconds", async () => {
    const t = await appWithChat();
    workersAnswer(() => new Promise(() => {}), accepted);

    await start(t);
    vi.runOnlyPendingTimers();
    await vi.advanceTimersByTimeAsync(30_000);
    await t.finishInProgressScheduledFunctions();

    expect(await onlyJob(t)).toMatchObject({ status: "sending", message: "Error: no answer within 30 s" });
  });

  test("a day is the limit: then the job has failed, and the app hears", async () => {
    const t = await appWithChat();
    const posted = workersAnswer(cut);
    await start(t);
    await runDue(t);
    expect(await onlyJob(t)).toMatchObject({ status: "sending" });

    vi.setSystemTime(Date.now() + 24 * HOUR);
    await settleAll(t);

    expect(await onlyJob(t)).toMatchObject({ status: "failed", conclusion: "error", reason: "unreachable" });
    expect(posted).toHaveLength(2);
    expect(await rows(t, "verdicts")).toHaveLength(1);
    expect(await rows(t, "workerRequests")).toEqual([]);
  });
});

test.each([400, 401, 404, 409, 413, 422])(
  "a job that is answered %d has failed, and the app hears why",
  async (status) => {
    const t = await appWithChat();
    const posted = workersAnswer(() => Response.json({ detail: "no project files" }, { status }));

    await start(t);
    await settleAll(t);

    const message = `HTTP ${status}: no project files`;
    expect(await onlyJob(t)).toMatchObject({ status: "failed", conclusion: "error", reason: "refused", message });
    expect(posted).toHaveLength(1);
    expect(await rows(t, "verdicts")).toMatchObject([{ text: "error" }]);
    expect(await rows(t, "workerRequests")).toEqual([]);
  },
);

test("without an address the job says which setting is missing", async () => {
  const t = await appWithChat();
  vi.stubEnv("CHEF_WORKERS_URL", "");

  await start(t);
  await settleAll(t);

  expect((await onlyJob(t)).message).toBe("CHEF_WORKERS_URL is not set in this deployment");
});

test("an answer that comes twice, as after a sweep, counts once", async () => {
  const t = await appWithChat();
  workersAnswer(accepted);
  const job = await start(t);
  await settleAll(t);
  await deliverResult(t);

  await t.mutation(internal.chefWorkers.settle, { job, answer: { kind: "accepted", jobId: JOB } });
  await t.mutation(internal.chefWorkers.settle, { job, answer: { kind: "refused", message: "late" } });

  expect(await onlyJob(t)).toMatchObject({ status: "completed", conclusion: "success" });
});

test("the result finds the row that the app has known from the start", async () => {
  const t = await appWithChat();
  workersAnswer(accepted);
  const job = await start(t);

  expect(await deliverResult(t, {}, { id: "msg-1" })).toBe("425 early");
  await settleAll(t);
  expect(await deliverResult(t, {}, { id: "msg-1" })).toBe("200 applied");

  expect(await onlyJob(t)).toMatchObject({ _id: job, status: "completed" });
});
