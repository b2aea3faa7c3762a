import { convexTest } from "convex-test";
import { defineSchema } from "convex/server";
import { describe, expect, test } from "vitest";

import { DEFAULT_PATHS } from "../src";
import {
  backend,
  deliver,
  deliverProgress,
  deliverResult,
  modules,
  onlyJob,
  OTHER_SECRET,
  rows,
  settleAll,
} from "./kit";

describe("progress", () => {
  test("makes a row for a job that is not known, and moves it on", async () => {
    const t = backend();

    expect(await deliverProgress(t, { seq: 1 })).toBe("200 applied");
    expect(await deliverProgress(t, { seq: 2, progress: 60, phase: "building" })).toBe("200 applied");

    expect(await onlyJob(t)).toMatchObject({ status: "active", progress: 60, phase: "building", seq: 2 });
    expect(await rows(t, "workerEvents")).toHaveLength(2);
  });

  test("older than what is known is stale and changes nothing", async () => {
    const t = backend();
    await deliverProgress(t, { seq: 5, progress: 80 });

    expect(await deliverProgress(t, { seq: 4, progress: 10 })).toBe("200 stale");
    expect(await deliverProgress(t, { seq: 5, progress: 10 })).toBe("200 stale");

    expect(await onlyJob(t)).toMatchObject({ progress: 80, seq: 5 });
    expect(await rows(t, "workerEvents")).toHaveLength(1);
  });

  test("of a later attempt counts although it is behind, of an earlier one it does not", async () => {
    const t = backend();
    await deliverProgress(t, { attempt: 1, seq: 5, progress: 80 });

    expect(await deliverProgress(t, { attempt: 2, seq: 6, progress: 5 })).toBe("200 applied");
    expect(await deliverProgress(t, { attempt: 1, seq: 7, progress: 90 })).toBe("200 stale");

    expect(await onlyJob(t)).toMatchObject({ attempt: 2, progress: 5 });
  });

  test("after the end is stale, whatever its numbers", async () => {
    const t = backend();
    await deliverResult(t, { attempt: 1, seq: 3 });

    expect(await deliverProgress(t, { attempt: 9, seq: 99 })).toBe("200 stale");

    expect(await onlyJob(t)).toMatchObject({ status: "completed", attempt: 1, progress: 100 });
  });
});

describe("a result", () => {
  test("delivered again has no second effect", async () => {
    const t = backend();

    expect(await deliverResult(t, {}, { id: "msg-same" })).toBe("200 applied");
    expect(await deliverResult(t, {}, { id: "msg-same" })).toBe("200 duplicate");
    expect(await deliverResult(t, { conclusion: "failure", seq: 10 }, { id: "msg-other" })).toBe("200 stale");
    await settleAll(t);

    expect(await onlyJob(t)).toMatchObject({ conclusion: "success" });
    expect(await rows(t, "verdicts")).toHaveLength(1);
  });

  test("delivered several times at once has one effect", async () => {
    const t = backend();

    const answers = await Promise.all([1, 2, 3, 4].map(() => deliverResult(t, {}, { id: "msg-same" })));
    await settleAll(t);

    expect(answers.sort()).toEqual(["200 applied", "200 duplicate", "200 duplicate", "200 duplicate"]);
    expect(await rows(t, "verdicts")).toHaveLength(1);
  });

  test("counts although progress with its number, or a higher attempt, came before", async () => {
    const t = backend();
    await deliverProgress(t, { attempt: 2, seq: 9 });

    expect(await deliverResult(t, { attempt: 1, seq: 9, conclusion: "cancelled", status: "failed" })).toBe(
      "200 applied",
    );

    expect(await onlyJob(t)).toMatchObject({ status: "failed", conclusion: "cancelled" });
  });

  test("lets the app hear once, with the row of the job", async () => {
    const t = backend();
    await deliverProgress(t);
    await deliverResult(t);
    await settleAll(t);

    expect(await rows(t, "verdicts")).toMatchObject([{ job: (await onlyJob(t))._id, text: "success" }]);
  });

  test("and progress in any order leave the same row", async () => {
    const events = [
      (t: ReturnType<typeof backend>) => deliverProgress(t, { seq: 1, progress: 10, phase: "installing" }),
      (t: ReturnType<typeof backend>) => deliverProgress(t, { seq: 2, progress: 50, phase: "building" }),
      (t: ReturnType<typeof backend>) => deliverResult(t, { seq: 3 }),
    ];

    for (const order of [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ]) {
      const t = backend();
      for (const index of order) await events[index]?.(t);
      expect(await onlyJob(t)).toMatchObject({ status: "completed", seq: 3, progress: 100, output: "done" });
    }
  });
});

describe("an event of a job whose id is not known yet", () => {
  async function whileSending() {
    const t = backend();
    const sending = { type: "build", chatId: "chat-1", status: "sending" as const };
    await t.run((ctx) => ctx.db.insert("workerJobs", { ...sending, attempt: 0, seq: 0, tries: 0, checkAt: 0 }));
    return t;
  }

  test("makes the sender come again if it is the result, and is dropped if it is progress", async () => {
    const t = await whileSending();

    expect(await deliverResult(t)).toBe("425 early");
    expect(await deliverProgress(t)).toBe("200 early");

    expect(await onlyJob(t)).toMatchObject({ status: "sending" });
  });

  test("counts at once if it is of another chat or type", async () => {
    const t = await whileSending();

    expect(await deliverResult(t, { chatId: "chat-2" })).toBe("200 applied");
    expect(await deliverResult(t, { jobId: "job-2", type: "test" })).toBe("200 applied");
  });
});

test("when the database fails the error goes through, so that Convex answers 500 and the sender comes again", async () => {
  const withoutTables = { ...backend(), fetch: convexTest(defineSchema({}), modules).fetch };

  await expect(deliverResult(withoutTables)).rejects.toThrow("index");
});

describe("a test of the endpoint", () => {
  const body = { event: "webhook.test", endpoint: "default", timestamp: "2026-03-01T10:00:00.000Z" };

  test.each(Object.values(DEFAULT_PATHS))("sent to %s is answered 200 and stores nothing", async (path) => {
    const t = backend();

    const answer = await deliver(t, path, body);

    expect([answer.status, await answer.json()]).toEqual([200, { outcome: "tested" }]);
    for (const table of ["workerJobs", "workerEvents", "workerFiles"] as const)
      expect(await rows(t, table)).toEqual([]);
  });

  test("that another secret signed is refused", async () => {
    const answer = await deliver(backend(), DEFAULT_PATHS.result, body, { secrets: [OTHER_SECRET] });

    expect(answer.status).toBe(401);
  });
});
