/** Gives an event its effect, once: the one mutation behind both webhooks. */

import { checkedFiles } from "./files";
import type { OnResult } from "./references";
import type { Job, JobRef, MutationCtx, WorkerEvent } from "./schema";

/**
 * What became of an event. `duplicate`: this delivery was here before. `stale`: something newer, or the end, was.
 * `early`: it may be about a job whose id is not known yet, because the answer to its POST is still on the way.
 */
export type Outcome = "applied" | "duplicate" | "stale" | "early";

/** A job that has not ended and is silent for this long (ms) is asked about. */
export const SILENCE_MS = 10 * 60_000;

/** Apply `event`, unless it was applied before or something newer was. A job that is not known gets a row. */
export async function receive(
  ctx: MutationCtx,
  webhookId: string,
  event: WorkerEvent,
  onResult?: OnResult,
): Promise<Outcome> {
  if (await isKnownDelivery(ctx, webhookId)) return "duplicate";
  const row = await rowOf(ctx, event.jobId);
  if (row === null && (await isBeingSent(ctx, event))) return "early";
  if (row !== null && !isNews(row, event)) return "stale";

  const job = row?._id ?? (await insertRow(ctx, event));
  await apply(ctx, job, event);
  await remember(ctx, webhookId, event);
  if (event.kind === "result") await announce(ctx, job, onResult);
  return "applied";
}

/** Let the app hear of the end. Scheduled with the row's own change: exactly once, and its errors stay its own. */
export async function announce(ctx: MutationCtx, job: JobRef, onResult?: OnResult): Promise<void> {
  if (onResult) await ctx.scheduler.runAfter(0, onResult, { job });
}

/**
 * An end always counts, and nothing counts after it. Otherwise the order is (attempt, seq).
 *
 * An end must not be compared: a job that was handed back has a smaller attempt than before.
 */
function isNews(row: Job, event: WorkerEvent): boolean {
  if (row.status === "completed" || row.status === "failed") return false;
  if (event.kind === "result") return true;
  return event.attempt > row.attempt || (event.attempt === row.attempt && event.seq > row.seq);
}

async function isKnownDelivery(ctx: MutationCtx, webhookId: string): Promise<boolean> {
  const known = await ctx.db
    .query("workerEvents")
    .withIndex("by_webhookId", (q) => q.eq("webhookId", webhookId))
    .first();
  return known !== null;
}

async function rowOf(ctx: MutationCtx, jobId: string): Promise<Job | null> {
  return await ctx.db
    .query("workerJobs")
    .withIndex("by_jobId", (q) => q.eq("jobId", jobId))
    .first();
}

/** Is there a job of the same chat and type that Chef Workers has not confirmed yet? */
async function isBeingSent(ctx: MutationCtx, { chatId, type }: WorkerEvent): Promise<boolean> {
  const sending = await ctx.db
    .query("workerJobs")
    .withIndex("by_chatId_status_type", (q) => q.eq("chatId", chatId).eq("status", "sending").eq("type", type))
    .first();
  return sending !== null;
}

async function insertRow(
  ctx: MutationCtx,
  { jobId, type, chatId, attempt, seq, status }: WorkerEvent,
): Promise<JobRef> {
  return await ctx.db.insert("workerJobs", { jobId, type, chatId, attempt, seq, status, tries: 0, checkAt: 0 });
}

async function apply(ctx: MutationCtx, job: JobRef, event: WorkerEvent): Promise<void> {
  const { kind, jobId, artifacts, logFile, ...told } = event;
  const files = await checkedFiles(ctx, jobId, artifacts ?? []);
  const [log] = await checkedFiles(ctx, jobId, logFile ? [logFile] : []);
  const ended = kind === "result" ? { artifacts: files, logFile: log } : {};
  const done = event.status === "completed" ? { progress: 100 } : {};
  await ctx.db.patch(job, { ...told, ...ended, ...done, checkAt: Date.now() + SILENCE_MS });
}

async function remember(ctx: MutationCtx, webhookId: string, event: WorkerEvent): Promise<void> {
  const { jobId, kind, attempt, seq, status, progress, phase } = event;
  await ctx.db.insert("workerEvents", { webhookId, jobId, kind, attempt, seq, status, progress, phase });
}
