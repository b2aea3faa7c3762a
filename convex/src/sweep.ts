/** What a cron does every few minutes: finds jobs that went silent, and removes what is no longer needed. */

import type { GenericActionCtx } from "convex/server";

import { sweepFiles } from "./files";
import { readRecord } from "./payload";
import { SILENCE_MS } from "./receive";
import * as references from "./references";
import type { DataModel, MutationCtx, WorkerEvent } from "./schema";
import { postAgain } from "./submit";
import { askJob } from "./workers";

const BATCH = 50;
/** Longer than any delivery is tried. */
const KEEP_EVENTS_MS = 14 * 86_400_000;

/** What one sweep did. */
export interface Swept {
  posted: number;
  asked: number;
  events: number;
  files: number;
}

/** One bounded sweep. If it finds a full batch of anything, there is more, and it should run again at once. */
export async function sweep(ctx: MutationCtx): Promise<Swept & { more: boolean }> {
  const now = Date.now();
  const posted = await postOverdue(ctx, now);
  const asked = (await askSilent(ctx, now, "pending")) + (await askSilent(ctx, now, "active"));
  const events = await dropOldEvents(ctx, now);
  const files = await sweepFiles(ctx, now);
  return { posted, asked, events, files, more: Math.max(posted, asked, events) >= BATCH || files > 0 };
}

/** Ask Chef Workers about one job; if it has ended, that takes the same way as a webhook. */
export async function ask(ctx: GenericActionCtx<DataModel>, asked: references.Asked): Promise<void> {
  const answer = await askJob(asked.jobId);
  if (answer.kind === "unknown") {
    console.warn(`asking about ${asked.jobId}: ${answer.message}`);
    return;
  }
  const event = answer.kind === "gone" ? lost(asked) : readRecord(answer.record, asked.seq);
  if (event) await ctx.runMutation(references.receive, { webhookId: `asked-${asked.jobId}`, event });
}

/** Posts are scheduled as actions, which run at most once: one that died is found here. */
async function postOverdue(ctx: MutationCtx, now: number): Promise<number> {
  const overdue = await ctx.db
    .query("workerJobs")
    .withIndex("by_status_checkAt", (q) => q.eq("status", "sending").lte("checkAt", now))
    .take(BATCH);
  for (const { _id } of overdue) await postAgain(ctx, _id);
  return overdue.length;
}

/** A webhook may have been lost: ask for jobs that nothing was heard of. */
async function askSilent(ctx: MutationCtx, now: number, status: "pending" | "active"): Promise<number> {
  const silent = await ctx.db
    .query("workerJobs")
    .withIndex("by_status_checkAt", (q) => q.eq("status", status).lte("checkAt", now))
    .take(BATCH);
  for (const { _id, jobId, type, attempt, seq } of silent) {
    await ctx.db.patch(_id, { checkAt: now + SILENCE_MS });
    if (jobId !== undefined) await ctx.scheduler.runAfter(0, references.ask, { jobId, type, attempt, seq });
  }
  return silent.length;
}

async function dropOldEvents(ctx: MutationCtx, now: number): Promise<number> {
  const old = await ctx.db
    .query("workerEvents")
    .withIndex("by_creation_time", (q) => q.lt("_creationTime", now - KEEP_EVENTS_MS))
    .take(BATCH);
  await Promise.all(old.map(({ _id }) => ctx.db.delete(_id)));
  return old.length;
}

/** How a job ends that Chef Workers does not know (any more). */
function lost(asked: references.Asked): WorkerEvent {
  const message = "Chef Workers has no such job: it was removed before its result arrived.";
  return { ...asked, kind: "result", status: "failed", conclusion: "error", reason: "job_not_found", message };
}
