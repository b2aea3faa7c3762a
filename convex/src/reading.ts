/** What an app's queries show. None of these checks who asks: the app's query does that first. */

import type { GenericMutationCtx, GenericQueryCtx } from "convex/server";

import { ours, type DataModel, type Job, type JobEvent, type JobRef, type MutationCtx } from "./schema";
import { dropRequest } from "./submit";

/** A job without the texts that can be long. */
export type JobSummary = Omit<Job, "output" | "resultJson">;

/** One job, live for whoever watches the query. */
export async function jobById<M extends DataModel>(ctx: GenericQueryCtx<M>, job: JobRef): Promise<Job | null> {
  return await ours(ctx).db.get(job);
}

/** The newest jobs of a chat, newest first, without output and result. */
export async function jobsOfChat<M extends DataModel>(
  ctx: GenericQueryCtx<M>,
  chatId: string,
  limit = 20,
): Promise<JobSummary[]> {
  const jobs = await ours(ctx)
    .db.query("workerJobs")
    .withIndex("by_chatId", (q) => q.eq("chatId", chatId))
    .order("desc")
    .take(limit);
  return jobs.map(({ output: _output, resultJson: _resultJson, ...summary }) => summary);
}

/** What was told about a job, oldest first; kept for two weeks. */
export async function eventsOfJob<M extends DataModel>(ctx: GenericQueryCtx<M>, jobId: string): Promise<JobEvent[]> {
  return await ours(ctx)
    .db.query("workerEvents")
    .withIndex("by_jobId", (q) => q.eq("jobId", jobId))
    .collect();
}

/** Remove a job with all that is kept about it, its stored files included. For when its chat is deleted. */
export async function forgetJob<M extends DataModel>(ctx: GenericMutationCtx<M>, job: JobRef): Promise<void> {
  const own = ours(ctx);
  const row = await own.db.get(job);
  if (row === null) return;
  await dropRequest(own, job);
  if (row.jobId !== undefined) await forgetTraces(own, row.jobId);
  await own.db.delete(job);
}

async function forgetTraces(ctx: MutationCtx, jobId: string): Promise<void> {
  for (const { _id } of await eventsOfJob(ctx, jobId)) await ctx.db.delete(_id);
  const files = await ctx.db
    .query("workerFiles")
    .withIndex("by_jobId_path", (q) => q.eq("jobId", jobId))
    .collect();
  // A row without a storage id stays for the sweep: its file may be there, and nobody else knows of it.
  for (const { _id, storageId } of files) {
    if (storageId === undefined) continue;
    await ctx.storage.delete(storageId);
    await ctx.db.delete(_id);
  }
}
