/** The HTTP side of the receiver: checks signature and body, and answers 200, 400, 401, 413, 425 or 503 itself. */

import { httpActionGeneric, type GenericActionCtx, type GenericDataModel, type HttpRouter } from "convex/server";

import { InvalidBody } from "./fields";
import { readJson, readProgress, readResult, readUploadRequest } from "./payload";
import * as references from "./references";
import type { WorkerEvent } from "./schema";
import { webhookSecret } from "./settings";
import { readSecrets, SignatureMismatch, verify } from "./signature";

/** Where Chef Workers posts; the same paths are set there. */
export interface Paths {
  result: string;
  progress: string;
  upload: string;
}

export const DEFAULT_PATHS: Paths = {
  result: "/api/v1/hooks/worker-result",
  progress: "/api/v1/hooks/worker-progress",
  upload: "/api/v1/hooks/worker-upload",
};

/** Several times what Chef Workers sends; a row stays far below Convex's 1 MiB. */
export const MAX_BODY_BYTES = 256 * 1024;

type Ctx = GenericActionCtx<GenericDataModel>;
/** A body whose signature was checked, and the id it was signed with. */
interface Delivery {
  webhookId: string;
  body: unknown;
}

/** Add the three routes to the app's router. The secret is read from CHEF_WORKERS_WEBHOOK_SECRET at each request. */
export function registerRoutes(http: HttpRouter, paths: Partial<Paths> = {}): void {
  const { result, progress, upload } = { ...DEFAULT_PATHS, ...paths };
  const add = (path: string, handle: (ctx: Ctx, delivery: Delivery) => Promise<Response>) =>
    http.route({ path, method: "POST", handler: signed(handle) });
  add(result, (ctx, { webhookId, body }) => received(ctx, webhookId, readResult(body)));
  add(progress, (ctx, { webhookId, body }) => received(ctx, webhookId, readProgress(body)));
  add(upload, async (ctx, { body }) => {
    return Response.json({ uploads: await ctx.runMutation(references.issueUploads, readUploadRequest(body)) });
  });
}

/** 425 makes the sender come again in seconds; for progress that is not worth it. */
async function received(ctx: Ctx, webhookId: string, event: WorkerEvent): Promise<Response> {
  const outcome = await ctx.runMutation(references.receive, { webhookId, event });
  const comeAgain = outcome === "early" && event.kind === "result";
  return Response.json({ outcome }, { status: comeAgain ? 425 : 200 });
}

/** The endpoint cannot serve this request; `status` is the answer. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** An HTTP action around `handle`. Errors it does not know are Convex's to answer, with 500, and the sender retries. */
function signed(handle: (ctx: Ctx, delivery: Delivery) => Promise<Response>) {
  return httpActionGeneric(async (ctx, request) => {
    try {
      const delivery = await checked(request);
      return isTest(delivery.body) ? Response.json({ outcome: "tested" }) : await handle(ctx, delivery);
    } catch (error) {
      const status = statusOf(error);
      if (status === undefined) throw error;
      return Response.json({ error: (error as Error).message }, { status });
    }
  });
}

/** POST /api/webhooks/test sends these to every path: all that they want to know is whether they arrive. */
function isTest(body: unknown): boolean {
  return typeof body === "object" && body !== null && "event" in body && body.event === "webhook.test";
}

function statusOf(error: unknown): number | undefined {
  if (error instanceof Refusal) return error.status;
  if (error instanceof SignatureMismatch) return 401;
  if (error instanceof InvalidBody) return 400;
  return undefined;
}

async function checked(request: Request): Promise<Delivery> {
  const keys = secrets();
  const bytes = await readBody(request);
  const webhookId = await verify(keys, request.headers, bytes, Date.now());
  return { webhookId, body: readJson(bytes) };
}

/** 503, not 401: the sender must come again once the setting is there. */
function secrets(): ArrayBuffer[] {
  try {
    return readSecrets(webhookSecret());
  } catch {
    throw new Refusal(503, "CHEF_WORKERS_WEBHOOK_SECRET is not set in this deployment, or is not whsec_ and base64");
  }
}

async function readBody(request: Request): Promise<ArrayBuffer> {
  const tooLarge = new Refusal(413, `the body is larger than ${MAX_BODY_BYTES} bytes`);
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) throw tooLarge;
  const bytes = await request.arrayBuffer();
  if (bytes.byteLength > MAX_BODY_BYTES) throw tooLarge;
  return bytes;
}
