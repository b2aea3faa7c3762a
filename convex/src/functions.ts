/** The functions that an app registers by exporting them from `convex/chefWorkers.ts`. All are internal. */

import {
  internalActionGeneric,
  internalMutationGeneric,
  internalQueryGeneric,
  type ActionBuilder,
  type MutationBuilder,
  type QueryBuilder,
  type RegisteredAction,
  type RegisteredMutation,
  type RegisteredQuery,
} from "convex/server";
import { v } from "convex/values";

import { issueUploads } from "./files";
import type { UploadRequest } from "./payload";
import { receive, type Outcome } from "./receive";
import * as references from "./references";
import { event, type DataModel, type JobRef, type WorkerEvent } from "./schema";
import { post, requestText, settle } from "./submit";
import { ask, sweep, type Swept } from "./sweep";
import { postAnswer, type PostAnswer } from "./workers";

const internalQuery: QueryBuilder<DataModel, "internal"> = internalQueryGeneric;
const internalMutation: MutationBuilder<DataModel, "internal"> = internalMutationGeneric;
const internalAction: ActionBuilder<DataModel, "internal"> = internalActionGeneric;

/** What an app may choose. */
export interface Options {
  /** Runs once for every job that ends, with the id of its row. */
  onResult?: references.OnResult;
}

/** Typed by hand, so that an app's `internal` may refer to its own exports without going round in circles. */
export interface ChefWorkers {
  receive: RegisteredMutation<"internal", { webhookId: string; event: WorkerEvent }, Promise<Outcome>>;
  issueUploads: RegisteredMutation<"internal", UploadRequest, Promise<{ path: string; url: string }[]>>;
  requestText: RegisteredQuery<"internal", { job: JobRef }, Promise<string | null>>;
  post: RegisteredAction<"internal", { job: JobRef }, Promise<null>>;
  settle: RegisteredMutation<"internal", { job: JobRef; answer: PostAnswer }, Promise<null>>;
  ask: RegisteredAction<"internal", references.Asked, Promise<null>>;
  sweep: RegisteredMutation<"internal", Record<string, never>, Promise<Swept>>;
}

const job = v.id("workerJobs");
const asked = { jobId: v.string(), type: v.string(), attempt: v.number(), seq: v.number() };
const files = v.array(v.object({ path: v.string(), size: v.number(), sha256: v.string() }));

/** Build the functions. The app exports every one of them under its own name. */
export function chefWorkers({ onResult }: Options = {}): ChefWorkers {
  return {
    receive: internalMutation({
      args: { webhookId: v.string(), event },
      handler: (ctx, { webhookId, event }) => receive(ctx, webhookId, event, onResult),
    }),
    issueUploads: internalMutation({
      args: { jobId: v.string(), files },
      handler: (ctx, request) => issueUploads(ctx, request),
    }),
    requestText: internalQuery({ args: { job }, handler: (ctx, { job }) => requestText(ctx, job) }),
    post: internalAction({
      args: { job },
      handler: (ctx, { job }) => post(ctx, job).then(nothing),
    }),
    settle: internalMutation({
      args: { job, answer: postAnswer },
      handler: (ctx, { job, answer }) => settle(ctx, job, answer, onResult).then(nothing),
    }),
    ask: internalAction({ args: asked, handler: (ctx, asked) => ask(ctx, asked).then(nothing) }),
    sweep: internalMutation({
      args: {},
      handler: async (ctx) => {
        const { more, ...swept } = await sweep(ctx);
        if (more) await ctx.scheduler.runAfter(0, references.sweep, {});
        return swept;
      },
    }),
  };
}

const nothing = () => null;
