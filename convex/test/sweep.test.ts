import { describe, expect, test, vi } from "vitest";

import { internal } from "../example/convex/_generated/api";
import { backend, deliverProgress, deliverResult, JOB, onlyJob, result, rows, settleAll, type Backend } from "./kit";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

/** What Chef Workers answers to everything, and how often it was asked. */
function workersAnswer(answer: () => Response | Promise<Response>) {
  const fetch = vi.fn(async (_url: string, _init: RequestInit) => await answer());
  vi.stubGlobal("fetch", fetch);
  return fetch;
}

async function sweepAfter(t: Backend, ms: number) {
  vi.setSystemTime(Date.now() + ms);
  const swept = await t.mutation(internal.chefWorkers.sweep, {});
  await settleAll(t);
  return swept;
}

/** The answer of GET /api/jobs/:id. */
function record(changes: Record<string, unknown> = {}) {
  const { seq: _seq, timestamp, phases, output, result: detail, ...body } = result();
  const nested = { ...(detail as object), phases, outputTail: output };
  return { ...body, chatId: null, reason: null, finishedAt: timestamp, result: nested, ...changes };
}

describe("a job that nothing was heard of", () => {
  test("is asked about; if it has ended, that counts like its webhook, which is stale when it comes after all", async () => {
    const t = backend();
    await deliverProgress(t);
    const fetch = workersAnswer(() => Response.json(record()));

    expect(await sweepAfter(t, 11 * MINUTE)).toMatchObject({ asked: 1 });

    expect(fetch.mock.calls[0]?.[0]).toBe(`https://workers.example/api/jobs/${JOB}`);
    expect(await onlyJob(t)).toMatchObject({
      status: "completed",
      conclusion: "success",
      output: "done",
      phases: [{ name: "building", durationMs: 800 }],
      finishedAt: Date.parse("2026-03-01T10:00:00.000Z"),
    });
    expect(await deliverResult(t)).toBe("200 stale");
    await settleAll(t);
    expect(await rows(t, "verdicts")).toHaveLength(1);
  });

  test("may have a record far larger than a webhook: what has no room stays with Chef Workers", async () => {
    const t = backend();
    await deliverProgress(t);
    const artifacts = Array(2_000).fill({ path: "a", size: 1, sha256: "0".repeat(64) });
    const detail = { phases: [], outputTail: "tail", tests: Array(50_000).fill("ok") };
    workersAnswer(() => Response.json(record({ artifacts, result: detail })));

    await sweepAfter(t, 11 * MINUTE);

    const job = await onlyJob(t);
    expect(job).toMatchObject({ status: "completed", artifactCount: 2_000, output: "tail" });
    expect([job.artifacts?.length, job.resultJson]).toEqual([200, undefined]);
  });

  test("is asked about while it waits, too", async () => {
    const t = backend();
    await deliverProgress(t, { status: "pending" });
    workersAnswer(() => Response.json(record({ status: "failed", conclusion: "expired", reason: "expired" })));

    await sweepAfter(t, 11 * MINUTE);

    expect(await onlyJob(t)).toMatchObject({ status: "failed", conclusion: "expired" });
  });

  test("that still runs is asked about again after ten minutes, not before", async () => {
    const t = backend();
    await deliverProgress(t);
    const fetch = workersAnswer(() => Response.json(record({ status: "active", conclusion: null, result: null })));

    await sweepAfter(t, 11 * MINUTE);
    await sweepAfter(t, 5 * MINUTE);
    expect(fetch).toHaveBeenCalledTimes(1);
    await sweepAfter(t, 6 * MINUTE);

    expect(fetch).toHaveBeenCalledTimes(2);
    expect(await onlyJob(t)).toMatchObject({ status: "active" });
  });

  test("has failed if Chef Workers says that it has no such job", async () => {
    const t = backend();
    await deliverProgress(t);
    workersAnswer(() => Response.json({ code: "job_not_found" }, { status: 404 }));

    await sweepAfter(t, 11 * MINUTE);

    expect(await onlyJob(t)).toMatchObject({ status: "failed", conclusion: "error", reason: "job_not_found" });
    expect(await rows(t, "verdicts")).toHaveLength(1);
  });

  test.each([
    ["another 404", () => new Response("no route", { status: 404 })],
    ["500", () => new Response("", { status: 500 })],
    ["nothing", () => Promise.reject(new TypeError("refused"))],
  ])("stays as it is if the answer is %s", async (_what, answer) => {
    const t = backend();
    vi.spyOn(console, "warn").mockImplementation(() => {});
    await deliverProgress(t);
    workersAnswer(answer);

    await sweepAfter(t, 11 * MINUTE);

    expect(await onlyJob(t)).toMatchObject({ status: "active" });
  });

  test("is left alone once it has ended, or while there is news", async () => {
    const t = backend();
    const fetch = workersAnswer(() => Response.json(record()));
    await deliverResult(t, { jobId: "job-2" });
    await deliverProgress(t, { seq: 1 });
    vi.setSystemTime(Date.now() + 8 * MINUTE);
    await deliverProgress(t, { seq: 2 });

    expect(await sweepAfter(t, 8 * MINUTE)).toMatchObject({ asked: 0 });

    expect(fetch).not.toHaveBeenCalled();
  });
});

test("a job whose post was lost with its action is posted again with its key", async () => {
  const t = backend();
  const job = await t.run(async (ctx) => {
    const row = { type: "build", status: "sending" as const, attempt: 0, seq: 0, tries: 0, checkAt: Date.now() };
    const job = await ctx.db.insert("workerJobs", row);
    await ctx.db.insert("workerRequests", { job, part: 0, text: '{"type":' });
    await ctx.db.insert("workerRequests", { job, part: 1, text: '"build"}' });
    return job;
  });
  const fetch = workersAnswer(() => Response.json({ jobId: JOB }, { status: 201 }));

  expect(await sweepAfter(t, MINUTE)).toMatchObject({ posted: 1 });

  expect(fetch.mock.calls[0]?.[1]).toMatchObject({ body: '{"type":"build"}', headers: { "Idempotency-Key": job } });
  expect(await onlyJob(t)).toMatchObject({ status: "pending", jobId: JOB });
});

test("a sweep takes fifty of a kind and goes on by itself until all are done", async () => {
  const t = backend();
  for (let number = 0; number < 120; number++) await deliverProgress(t, { jobId: `job-${number}` });
  const fetch = workersAnswer(() => Response.json({ code: "job_not_found" }, { status: 404 }));

  expect(await sweepAfter(t, 11 * MINUTE)).toMatchObject({ asked: 50 });

  expect(fetch).toHaveBeenCalledTimes(120);
});

test("events are kept for two weeks, longer than any delivery is tried", async () => {
  const t = backend();
  await deliverResult(t);

  expect(await sweepAfter(t, 13 * DAY)).toMatchObject({ events: 0 });
  expect(await sweepAfter(t, 2 * DAY)).toMatchObject({ events: 1 });

  expect(await rows(t, "workerEvents")).toEqual([]);
  expect(await onlyJob(t)).toMatchObject({ status: "completed" });
});
