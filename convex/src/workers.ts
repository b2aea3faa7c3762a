/** The HTTP side of Chef Workers, as seen from an action: POST /api/jobs and GET /api/jobs/:id. */

import { v, type Infer } from "convex/values";

import { workersKey, workersUrl } from "./settings";

/** What a POST came to. `unknown`: it may have arrived or not, so it is sent again with the same key. */
export const postAnswer = v.union(
  v.object({ kind: v.literal("accepted"), jobId: v.string() }),
  v.object({ kind: v.literal("refused"), message: v.string() }),
  v.object({ kind: v.literal("unknown"), message: v.string(), retryAfterMs: v.number() }),
);
export type PostAnswer = Infer<typeof postAnswer>;

/** `record`: the job as Chef Workers has it. `gone`: it has no such job. `unknown`: it did not say. */
export type AskAnswer = { kind: "record"; record: unknown } | { kind: "gone" } | { kind: "unknown"; message: string };

const DEADLINE_MS = 30_000;
const LONGEST_RETRY_AFTER_MS = 3_600_000;
/** Refusals that may pass by themselves, beside 5xx. */
const PASSING = [408, 425, 429];

/** Hand a job in. `key` names it over all tries: Chef Workers makes one job of however many arrive. */
export async function postJob(key: string, body: string): Promise<PostAnswer> {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  try {
    const response = await call("/api/jobs", { method: "POST", headers, body });
    const answer = await json(response);
    if (response.ok && typeof answer.jobId === "string") return { kind: "accepted", jobId: answer.jobId };
    const message = `HTTP ${response.status}: ${explanation(answer)}`;
    if (response.status >= 400 && response.status < 500 && !PASSING.includes(response.status)) {
      return { kind: "refused", message };
    }
    return { kind: "unknown", message, retryAfterMs: retryAfterMs(response.headers.get("Retry-After")) };
  } catch (error) {
    if (error instanceof NotConfigured) return { kind: "refused", message: error.message };
    return { kind: "unknown", message: String(error).slice(0, 500), retryAfterMs: 0 };
  }
}

/** Ask how a job is. */
export async function askJob(jobId: string): Promise<AskAnswer> {
  try {
    const response = await call(`/api/jobs/${encodeURIComponent(jobId)}`, { method: "GET" });
    const answer = await json(response);
    if (response.ok) return { kind: "record", record: answer };
    // Any proxy on the way can answer 404; only Chef Workers says this.
    if (response.status === 404 && answer.code === "job_not_found") return { kind: "gone" };
    return { kind: "unknown", message: `HTTP ${response.status}: ${explanation(answer)}` };
  } catch (error) {
    return { kind: "unknown", message: String(error).slice(0, 500) };
  }
}

class NotConfigured extends Error {}

async function call(path: string, init: RequestInit & { headers?: Record<string, string> }): Promise<Response> {
  const [url, key] = [workersUrl(), workersKey()];
  if (!url) throw new NotConfigured("CHEF_WORKERS_URL is not set in this deployment");
  const headers = { ...init.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  // Redirects are refused: they would lose the body, or take the key elsewhere.
  return await inTime(fetch(url + path, { ...init, headers, redirect: "error" }));
}

/** Convex's fetch takes no AbortSignal; whoever loses this race ends with the action. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The object in an answer; an empty one if it holds anything else. */
async function json(response: Response): Promise<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(await inTime(response.text()));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function explanation(answer: Record<string, unknown>): string {
  const text = answer.detail ?? answer.message ?? answer.error ?? "no explanation";
  return String(text).slice(0, 1_000);
}

/** Milliseconds of a Retry-After in seconds, at most an hour; 0 for anything else. */
function retryAfterMs(header: string | null): number {
  return /^[0-9]{1,9}$/.test(header ?? "") ? Math.min(Number(header) * 1_000, LONGEST_RETRY_AFTER_MS) : 0;
}
