/** What is kept about jobs: the tables to spread into an app's schema, and the types that follow from them. */

import {
  defineSchema,
  defineTable,
  type DataModelFromSchemaDefinition,
  type GenericMutationCtx,
  type GenericQueryCtx,
} from "convex/server";
import { v, type GenericId, type Infer } from "convex/values";

/** Where a job is in its life. `sending`: Chef Workers has not confirmed yet that it has the job. */
export const status = v.union(
  v.literal("sending"),
  v.literal("pending"),
  v.literal("active"),
  v.literal("completed"),
  v.literal("failed"),
);

/** A file that a job made. `sha256` is in hex. `storageId` is there only if the stored file was checked to be this one. */
const artifact = {
  path: v.string(),
  size: v.number(),
  sha256: v.string(),
  href: v.optional(v.string()),
};

/** What an event tells about a job, as far as it is kept. Free-form JSON stays text: its keys may be any Unicode. */
const told = {
  status,
  progress: v.optional(v.number()),
  phase: v.optional(v.string()),
  conclusion: v.optional(v.string()),
  reason: v.optional(v.string()),
  message: v.optional(v.string()),
  phases: v.optional(v.array(v.object({ name: v.string(), durationMs: v.number() }))),
  resultJson: v.optional(v.string()),
  resultOmitted: v.optional(v.array(v.string())),
  artifactCount: v.optional(v.number()),
  output: v.optional(v.string()),
  durationMs: v.optional(v.number()),
  finishedAt: v.optional(v.number()),
};

const identity = { type: v.string(), chatId: v.optional(v.string()), attempt: v.number(), seq: v.number() };

/** One event, checked: `progress` is news on the way, `result` is the end. */
export const event = v.object({
  kind: v.union(v.literal("progress"), v.literal("result")),
  jobId: v.string(),
  ...identity,
  ...told,
  artifacts: v.optional(v.array(v.object({ ...artifact, storageId: v.optional(v.string()) }))),
  logFile: v.optional(v.object({ ...artifact, storageId: v.optional(v.string()) })),
});

/** A stored file, or why it is not linked: `problem` says what the check of its `storageId` found. */
const checkedFile = v.object({
  ...artifact,
  storageId: v.optional(v.id("_storage")),
  problem: v.optional(v.string()),
});

export const workerTables = {
  /** One row a job. `checkAt` (ms) is when the sweep looks at a job that has not ended; `tries` counts failed posts. */
  workerJobs: defineTable({
    jobId: v.optional(v.string()),
    ...identity,
    ...told,
    artifacts: v.optional(v.array(checkedFile)),
    logFile: v.optional(checkedFile),
    tries: v.number(),
    checkAt: v.number(),
  })
    .index("by_jobId", ["jobId"])
    .index("by_chatId", ["chatId"])
    .index("by_chatId_status_type", ["chatId", "status", "type"])
    .index("by_status_checkAt", ["status", "checkAt"]),

  /** The events that had an effect: a job's time line, and the memory that makes a repeated delivery harmless. */
  workerEvents: defineTable({
    webhookId: v.string(),
    jobId: v.string(),
    kind: v.union(v.literal("progress"), v.literal("result")),
    attempt: v.number(),
    seq: v.number(),
    status,
    progress: v.optional(v.number()),
    phase: v.optional(v.string()),
  })
    .index("by_webhookId", ["webhookId"])
    .index("by_jobId", ["jobId"]),

  /** The body of POST /api/jobs in parts (ASCII, so that a part may end anywhere), until the job is confirmed. */
  workerRequests: defineTable({ job: v.id("workerJobs"), part: v.number(), text: v.string() }).index("by_job_part", [
    "job",
    "part",
  ]),

  /** One row for each upload URL given out. Without `storageId`: not claimed by a result, or not yet. */
  workerFiles: defineTable({
    jobId: v.string(),
    path: v.string(),
    size: v.number(),
    sha256: v.string(),
    storageId: v.optional(v.id("_storage")),
  })
    .index("by_jobId_path", ["jobId", "path"])
    .index("by_storageId", ["storageId"]),
};

const schema = defineSchema(workerTables);

export type DataModel = DataModelFromSchemaDefinition<typeof schema>;
export type Status = Infer<typeof status>;
export type WorkerEvent = Infer<typeof event>;
export type CheckedFile = Infer<typeof checkedFile>;
export type Job = DataModel["workerJobs"]["document"];
export type JobEvent = DataModel["workerEvents"]["document"];
export type JobRef = GenericId<"workerJobs">;
export type QueryCtx = GenericQueryCtx<DataModel>;
export type MutationCtx = GenericMutationCtx<DataModel>;

/** An app's context seen as if it had our tables alone; that it has them is what the type parameter demands. */
export function ours<AppModel extends DataModel>(ctx: GenericMutationCtx<AppModel>): MutationCtx;
export function ours<AppModel extends DataModel>(ctx: GenericQueryCtx<AppModel>): QueryCtx;
export function ours(ctx: unknown): unknown {
  return ctx;
}
