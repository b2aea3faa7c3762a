/** The other direction: hands jobs to Chef Workers, and goes on until it is known whether they arrived. */

import type { GenericActionCtx, GenericMutationCtx } from "convex/server";

import { announce, SILENCE_MS } from "./receive";
import * as references from "./references";
import { ours, type DataModel, type Job, type JobRef, type MutationCtx, type QueryCtx } from "./schema";
import { postJob, type PostAnswer } from "./workers";

/** A job as an app asks for it. Files are a list, because Convex's own values allow no path like `café.ts` as a key. */
export interface JobRequest {
  type: string;
  files: { path: string; text: string }[];
  chatId?: string;
  /** 1 to 20, larger runs first; 5 if absent. */
  priority?: number;
  /** A flat map, or the maps of a package.json (`dependencies`, `devDependencies`, `peerDependencies`). */
  dependencies?: Record<string, string | Record<string, string>>;
  command?: string;
  testCommand?: string;
  /** Reaches the job's commands. Kept in the database until the job is confirmed. */
  env?: Record<string, string>;
  /** Several types on one project and one install, in this order, in place of what `type` does. */
  steps?: string[];
  onFailure?: "stop" | "continue";
  /** The least severe finding that fails a lint. */
  failOn?: "error" | "warning" | "never";
  language?: "node" | "python";
  installScripts?: boolean;
  /** What else POST /api/jobs takes beside its `data`, as it stands in the API's description: tags, limits, retry, … */
  options?: Record<string, unknown>;
}

/** Below Convex's 1 MiB for a document. */
const PART_CHARACTERS = 900_000;
/** Convex lets one mutation write 16 MiB. */
const MAX_CHARACTERS = 12_000_000;

const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 5 * 60_000;
const GIVE_UP_AFTER_MS = 24 * 3_600_000;
/** After this long without word from a scheduled post, the sweep posts again: actions run at most once. */
const POST_GRACE_MS = 2 * 60_000;

/**
 * Ask for a job: its row is there at once, the POST follows when the calling mutation is committed.
 *
 * Call it inside a mutation of the app, which has checked that the user may.
 *
 * @throws Error if the project is too large to keep, before anything is written.
 */
export async function submitJob<M extends DataModel>(ctx: GenericMutationCtx<M>, request: JobRequest): Promise<JobRef> {
  const { db, scheduler } = ours(ctx);
  const text = asciiBody(request);
  if (text.length > MAX_CHARACTERS) {
    throw new Error(`the project has ${text.length} characters as JSON; at most ${MAX_CHARACTERS} can be sent`);
  }
  const { type, chatId } = request;
  const checkAt = Date.now() + POST_GRACE_MS;
  const row = { type, chatId: chatId || undefined, status: "sending" as const, attempt: 0, seq: 0, tries: 0, checkAt };
  const job = await db.insert("workerJobs", row);
  for (let part = 0; part * PART_CHARACTERS < text.length; part++) {
    const from = part * PART_CHARACTERS;
    await db.insert("workerRequests", { job, part, text: text.slice(from, from + PART_CHARACTERS) });
  }
  await scheduler.runAfter(0, references.post, { job });
  return job;
}

/** The body to post for a job; null if there is nothing (more) to post. */
export async function requestText(ctx: QueryCtx, job: JobRef): Promise<string | null> {
  const row = await ctx.db.get(job);
  if (row?.status !== "sending") return null;
  const parts = await ctx.db
    .query("workerRequests")
    .withIndex("by_job_part", (q) => q.eq("job", job))
    .collect();
  return parts.map((part) => part.text).join("");
}

/** One try to hand a job in, and the record of what it came to. */
export async function post(ctx: GenericActionCtx<DataModel>, job: JobRef): Promise<void> {
  const body = await ctx.runQuery(references.requestText, { job });
  if (body === null) return;
  const answer = await postJob(job, body);
  await ctx.runMutation(references.settle, { job, answer });
}

/** Record what a try came to: confirmed, refused for good, or to be tried again later. */
export async function settle(
  ctx: MutationCtx,
  job: JobRef,
  answer: PostAnswer,
  onResult?: references.OnResult,
): Promise<void> {
  const row = await ctx.db.get(job);
  if (row?.status !== "sending") return;
  if (answer.kind === "accepted") {
    await ctx.db.patch(job, {
      jobId: answer.jobId,
      status: "pending",
      message: undefined,
      checkAt: Date.now() + SILENCE_MS,
    });
    await dropRequest(ctx, job);
  } else if (answer.kind === "refused") {
    await fail(ctx, job, "refused", answer.message, onResult);
  } else if (Date.now() - row._creationTime > GIVE_UP_AFTER_MS) {
    await fail(ctx, job, "unreachable", answer.message, onResult);
  } else {
    await tryAgain(ctx, row, answer);
  }
}

/** Remove the body of a job's POST. */
export async function dropRequest(ctx: MutationCtx, job: JobRef): Promise<void> {
  const parts = await ctx.db
    .query("workerRequests")
    .withIndex("by_job_part", (q) => q.eq("job", job))
    .collect();
  await Promise.all(parts.map((part) => ctx.db.delete(part._id)));
}

/** Schedule a post now, and another look in case nothing comes of it. */
export async function postAgain(ctx: MutationCtx, job: JobRef, delayMs = 0): Promise<void> {
  await ctx.db.patch(job, { checkAt: Date.now() + delayMs + POST_GRACE_MS });
  await ctx.scheduler.runAfter(delayMs, references.post, { job });
}

async function tryAgain(
  ctx: MutationCtx,
  row: Job,
  { message, retryAfterMs }: PostAnswer & { kind: "unknown" },
): Promise<void> {
  const backoffMs = Math.min(FIRST_DELAY_MS * 2 ** row.tries, LONGEST_DELAY_MS) * (0.8 + 0.4 * Math.random());
  await ctx.db.patch(row._id, { tries: row.tries + 1, message });
  await postAgain(ctx, row._id, Math.max(backoffMs, retryAfterMs));
}

async function fail(
  ctx: MutationCtx,
  job: JobRef,
  reason: string,
  message: string,
  onResult?: references.OnResult,
): Promise<void> {
  await ctx.db.patch(job, { status: "failed", conclusion: "error", reason, message, finishedAt: Date.now() });
  await dropRequest(ctx, job);
  await announce(ctx, job, onResult);
}

/** The body of POST /api/jobs in ASCII, so that it can be cut anywhere and its length is its size. */
function asciiBody({ type, priority, chatId, files, options, ...rest }: JobRequest): string {
  const projectFiles = Object.fromEntries(files.map(({ path, text }) => [path, text]));
  const text = JSON.stringify({ ...options, type, priority, data: { chatId, projectFiles, ...rest } });
  return text.replace(/[\u0080-\uffff]/g, (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));
}
