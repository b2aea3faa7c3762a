import { expect, test } from "vitest";

import * as everything from "../example/convex/chefWorkers";
import { api } from "../example/convex/_generated/api";
import { eventsOfJob } from "../src";
import { backend, deliverProgress, deliverResult, JOB, onlyJob } from "./kit";

test("a query of the app shows a job to those whom the app lets see it", async () => {
  const t = backend();
  await t.run((ctx) => ctx.db.insert("chats", { name: "chat-1", ownerId: "anna" }));
  await deliverProgress(t, { progress: 40 });
  const { _id: job } = await onlyJob(t);

  expect(await t.withIdentity({ subject: "anna" }).query(api.builds.watch, { job })).toMatchObject({ progress: 40 });
  await expect(t.withIdentity({ subject: "ben" }).query(api.builds.watch, { job })).rejects.toThrow("not yours");
  await expect(t.query(api.builds.watch, { job })).rejects.toThrow("not yours");
});

test("the jobs of a chat come newest first, without their long texts", async () => {
  const t = backend();
  await t.run((ctx) => ctx.db.insert("chats", { name: "chat-1", ownerId: "anna" }));
  for (const jobId of ["job-1", "job-2", "job-3"]) await deliverResult(t, { jobId });
  await deliverResult(t, { jobId: "job-4", chatId: "chat-2" });

  const jobs = await t.withIdentity({ subject: "anna" }).query(api.builds.ofChat, { chat: "chat-1" });

  expect(jobs.map(({ jobId }) => jobId)).toEqual(["job-3", "job-2", "job-1"]);
  expect(jobs[0]).not.toHaveProperty("output");
  expect(jobs[0]).not.toHaveProperty("resultJson");
});

test("the events of a job are its time line", async () => {
  const t = backend();
  await deliverProgress(t, { seq: 1, progress: 10 });
  await deliverProgress(t, { seq: 2, progress: 60 });
  await deliverResult(t);

  const events = await t.run((ctx) => eventsOfJob(ctx, JOB));

  expect(events.map(({ kind, status, progress }) => [kind, status, progress])).toEqual([
    ["progress", "active", 10],
    ["progress", "active", 60],
    ["result", "completed", undefined],
  ]);
});

test("nothing that an app registers is public", () => {
  const registered = Object.values(everything) as { isInternal?: boolean; isPublic?: boolean }[];

  expect(registered).toHaveLength(7);
  for (const each of registered) expect([each.isInternal, each.isPublic]).toEqual([true, undefined]);
});
