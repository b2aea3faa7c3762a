/** What the tests share: the example app in a fresh fake backend, and a sender that signs with the reference library. */

import { convexTest, type TestConvex } from "convex-test";
import { Webhook } from "standardwebhooks";
import { vi } from "vitest";

import schema from "../example/convex/schema";
import { DEFAULT_PATHS } from "../src";

export type Backend = TestConvex<typeof schema>;
/** What a body is made of: the defaults, and whatever a test puts in their place. */
export type Body = Record<string, unknown>;

export const modules = import.meta.glob("../example/convex/**/*.ts");
export const SECRET = "whsec_" + btoa("0123456789abcdefghijklmnopqrstuv");
export const OTHER_SECRET = "whsec_" + btoa("another secret of thirty-two by.");
export const WORKERS = "https://workers.example";
export const JOB = "job-0123456789abcdef0123456789abcdef";

/** The example app with its settings, in an empty backend. */
export function backend(): Backend {
  vi.stubEnv("CHEF_WORKERS_WEBHOOK_SECRET", SECRET);
  vi.stubEnv("CHEF_WORKERS_URL", WORKERS);
  vi.stubEnv("CHEF_WORKERS_API_KEY", "");
  return convexTest(schema, modules);
}

/** A result as Chef Workers sends it. */
export function result(changes: Body = {}): Body {
  return {
    jobId: JOB,
    type: "build",
    chatId: "chat-1",
    attempt: 1,
    seq: 9,
    status: "completed",
    conclusion: "success",
    phases: [{ name: "building", durationMs: 800 }],
    result: { exitCode: 0, command: "npm run build" },
    resultOmitted: [],
    artifacts: [{ path: "index.html", size: 5, sha256: "a".repeat(64) }],
    artifactCount: 1,
    durationMs: 1_234,
    duration: 1_234,
    output: "done",
    logs: ["done"],
    timestamp: "2026-03-01T10:00:00.000Z",
    ...changes,
  };
}

/** News on the way as Chef Workers sends it. */
export function progress(changes: Body = {}): Body {
  const identity = { jobId: JOB, type: "build", chatId: "chat-1", attempt: 1, seq: 1 };
  return { ...identity, progress: 25, phase: "installing", timestamp: "2026-03-01T09:59:00.000Z", ...changes };
}

/** How a delivery differs from a proper one. */
export interface Delivery {
  id?: string;
  at?: Date;
  secrets?: string[];
  headers?: Record<string, string>;
}

let deliveries = 0;

/** Post a body (an object, or the very text or bytes) as Chef Workers would, signed by each of `secrets`. */
export async function deliver(
  t: Backend,
  path: string,
  body: Body | string | Uint8Array<ArrayBuffer>,
  { id = `msg-${++deliveries}`, at = new Date(), secrets = [SECRET], headers = {} }: Delivery = {},
): Promise<Response> {
  const content = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
  const moment = Math.floor(at.getTime() / 1000);
  const signatures = await Promise.all(secrets.map((secret) => sign(secret, id, moment, content)));
  return await t.fetch(path, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(moment),
      "webhook-signature": signatures.join(" "),
      ...headers,
    },
    body: content,
  });
}

/** By the reference library; by hand for bytes, which it takes as text. */
async function sign(secret: string, id: string, moment: number, content: string | Uint8Array): Promise<string> {
  if (typeof content === "string") return new Webhook(secret).sign(id, new Date(moment * 1000), content);
  const raw = Uint8Array.from(atob(secret.slice("whsec_".length)), (character) => character.charCodeAt(0));
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signed = Uint8Array.of(...new TextEncoder().encode(`${id}.${moment}.`), ...content);
  const signature = new Uint8Array(await crypto.subtle.sign("HMAC", key, signed));
  return "v1," + btoa(String.fromCharCode(...signature));
}

/** Deliver a result and say what became of it. */
export async function deliverResult(t: Backend, changes: Body = {}, delivery: Delivery = {}): Promise<string> {
  return await outcome(await deliver(t, DEFAULT_PATHS.result, result(changes), delivery));
}

/** Deliver progress and say what became of it. */
export async function deliverProgress(t: Backend, changes: Body = {}, delivery: Delivery = {}): Promise<string> {
  return await outcome(await deliver(t, DEFAULT_PATHS.progress, progress(changes), delivery));
}

async function outcome(response: Response): Promise<string> {
  const answer = (await response.json()) as { outcome?: string; error?: string };
  return `${response.status} ${answer.outcome ?? answer.error}`;
}

/** The rows of a table, oldest first. */
export async function rows<Table extends "workerJobs" | "workerEvents" | "workerRequests" | "workerFiles" | "verdicts">(
  t: Backend,
  table: Table,
) {
  return await t.run((ctx) => ctx.db.query(table).collect());
}

/** The only job there is. */
export async function onlyJob(t: Backend) {
  const [job, ...others] = await rows(t, "workerJobs");
  if (job === undefined || others.length > 0) throw new Error(`there are ${others.length + (job ? 1 : 0)} jobs`);
  return job;
}

/** Run everything that is scheduled, and what that schedules. Needs fake timers. */
export async function settleAll(t: Backend): Promise<void> {
  await t.finishAllScheduledFunctions(vi.runAllTimers);
}
