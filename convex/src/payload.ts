/** What Chef Workers sends, read by hand into what the tables take. Nothing here touches the database. */

import { Fields, InvalidBody, required } from "./fields";
import type { WorkerEvent } from "./schema";

const FINAL = ["completed", "failed"] as const;
const UNDERWAY = ["pending", "active"] as const;
const MAX_FILES = 200;
const MAX_DETAIL_CHARACTERS = 50_000;

/** What a request for upload URLs asks for. */
export type UploadRequest = {
  jobId: string;
  files: { path: string; size: number; sha256: string }[];
};

/**
 * The JSON in `bytes`.
 *
 * @throws InvalidBody if it is not UTF-8, or not JSON.
 */
export function readJson(bytes: ArrayBuffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new InvalidBody("the body must be JSON in UTF-8");
  }
}

/**
 * The body of a result: how a job ended.
 *
 * @throws InvalidBody with the first mistake.
 */
export function readResult(body: unknown): WorkerEvent {
  const fields = Fields.of(body);
  return withoutGaps({
    kind: "result",
    ...identity(fields),
    status: required(fields.word("status", FINAL), "status"),
    conclusion: fields.text("conclusion"),
    reason: fields.text("reason"),
    message: fields.text("message") ?? fields.text("error"),
    phases: fields.list("phases", phase),
    resultJson: jsonText(fields.json("result")),
    resultOmitted: fields.list("resultOmitted", (name) => String(name)),
    artifacts: fields.list("artifacts", artifact),
    artifactCount: fields.whole("artifactCount"),
    logFile: fields.object("logFile") && artifact(fields.json("logFile"), "logFile"),
    output: fields.text("output"),
    durationMs: fields.whole("durationMs") ?? fields.whole("duration"),
    finishedAt: moment(fields, "timestamp"),
  });
}

/**
 * The body of a progress message.
 *
 * @throws InvalidBody with the first mistake.
 */
export function readProgress(body: unknown): WorkerEvent {
  const fields = Fields.of(body);
  const progress = required(fields.whole("progress"), "progress");
  if (progress > 100) throw new InvalidBody("progress must be at most 100");
  return withoutGaps({
    kind: "progress",
    ...identity(fields),
    status: fields.word("status", UNDERWAY) ?? "active",
    progress,
    phase: fields.text("phase"),
  });
}

/**
 * The answer of GET /api/jobs/:id as the result it tells of, or undefined while the job has not ended.
 *
 * @throws InvalidBody if it is something else.
 */
export function readRecord(record: unknown, seq: number): WorkerEvent | undefined {
  const fields = Fields.of(record);
  const status = required(fields.word("status", [...UNDERWAY, ...FINAL]), "status");
  if (status === "pending" || status === "active") return undefined;
  const result = fields.object("result");
  return readResult({
    ...(record as object),
    seq,
    phases: result?.json("phases"),
    result: ofUse(fields.json("result")),
    artifacts: first(fields.json("artifacts"), MAX_FILES),
    artifactCount: lengthOf(fields.json("artifacts")),
    output: result?.json("outputTail"),
    timestamp: fields.json("finishedAt"),
  });
}

/** A record is not cut to the size of a webhook, and a row has room for 1 MiB: large details stay with Chef Workers. */
function ofUse(result: unknown): unknown {
  if (typeof result !== "object" || result === null) return undefined;
  const { phases: _phases, outputTail: _outputTail, ...detail } = result as Record<string, unknown>;
  return JSON.stringify(detail).length > MAX_DETAIL_CHARACTERS ? undefined : detail;
}

function first(list: unknown, count: number): unknown {
  return Array.isArray(list) ? list.slice(0, count) : list;
}

function lengthOf(list: unknown): number | undefined {
  return Array.isArray(list) ? list.length : undefined;
}

/**
 * The body of a request for upload URLs.
 *
 * @throws InvalidBody with the first mistake.
 */
export function readUploadRequest(body: unknown): UploadRequest {
  const fields = Fields.of(body);
  const files = required(fields.list("files", artifact), "files");
  if (files.length === 0 || files.length > MAX_FILES) throw new InvalidBody(`files must be 1 to ${MAX_FILES}`);
  return { jobId: jobId(fields), files: files.map(({ path, size, sha256 }) => ({ path, size, sha256 })) };
}

function identity(fields: Fields): Pick<WorkerEvent, "jobId" | "type" | "chatId" | "attempt" | "seq"> {
  return {
    jobId: jobId(fields),
    type: required(fields.text("type"), "type"),
    chatId: fields.text("chatId") || undefined,
    attempt: required(fields.whole("attempt"), "attempt"),
    seq: required(fields.whole("seq"), "seq"),
  };
}

function jobId(fields: Fields): string {
  const id = required(fields.text("jobId"), "jobId");
  if (!/^[\x21-\x7e]{1,200}$/.test(id)) throw new InvalidBody("jobId must be 1 to 200 printable characters");
  return id;
}

function phase(element: unknown, where: string): { name: string; durationMs: number } {
  const fields = Fields.of(element, where);
  return {
    name: required(fields.text("name"), `${where}.name`),
    durationMs: required(fields.whole("durationMs"), `${where}.durationMs`),
  };
}

function artifact(element: unknown, where: string): NonNullable<WorkerEvent["artifacts"]>[number] {
  const fields = Fields.of(element, where);
  const sha256 = required(fields.text("sha256"), `${where}.sha256`);
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw new InvalidBody(`${where}.sha256 must be 64 hex digits in lower case`);
  return withoutGaps({
    path: required(fields.text("path"), `${where}.path`),
    size: required(fields.whole("size"), `${where}.size`),
    sha256,
    href: fields.text("href"),
    storageId: fields.text("storageId"),
  });
}

/** JSON as well-formed text, whatever was in it. */
function jsonText(value: unknown): string | undefined {
  return value === undefined ? undefined : JSON.stringify(value);
}

function moment(fields: Fields, name: string): number | undefined {
  const text = fields.text(name);
  if (text === undefined) return undefined;
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) throw new InvalidBody(`${name} must be a date in ISO 8601`);
  return ms;
}

/** The same object without fields that are undefined, so that equal things look equal. */
function withoutGaps<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as T;
}
