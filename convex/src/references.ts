/** The registered functions by name. They live in the app's `convex/chefWorkers.ts`; the names here rely on it. */

import { makeFunctionReference, type FunctionReference } from "convex/server";
import type { GenericId } from "convex/values";

import type { UploadRequest } from "./payload";
import type { Outcome } from "./receive";
import type { JobRef, WorkerEvent } from "./schema";
import type { Swept } from "./sweep";
import type { PostAnswer } from "./workers";

/** The app's own mutation to run once for each end of a job, in a transaction of its own. */
export type OnResult = FunctionReference<"mutation", "public" | "internal", { job: GenericId<"workerJobs"> }>;

export const receive = makeFunctionReference<"mutation", { webhookId: string; event: WorkerEvent }, Outcome>(
  "chefWorkers:receive",
);
export const issueUploads = makeFunctionReference<"mutation", UploadRequest, { path: string; url: string }[]>(
  "chefWorkers:issueUploads",
);
export const requestText = makeFunctionReference<"query", { job: JobRef }, string | null>("chefWorkers:requestText");
export const post = makeFunctionReference<"action", { job: JobRef }, null>("chefWorkers:post");
export const settle = makeFunctionReference<"mutation", { job: JobRef; answer: PostAnswer }, null>(
  "chefWorkers:settle",
);
export const ask = makeFunctionReference<"action", Asked, null>("chefWorkers:ask");
export const sweep = makeFunctionReference<"mutation", Record<string, never>, Swept>("chefWorkers:sweep");

/** A job that was silent for long: what the question about it needs. */
export type Asked = { jobId: string; type: string; attempt: number; seq: number };
