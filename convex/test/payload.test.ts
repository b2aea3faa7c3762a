import { expect, test } from "vitest";

import { DEFAULT_PATHS } from "../src";
import { backend, deliver, deliverProgress, deliverResult, onlyJob, progress, result, rows, type Body } from "./kit";

const { result: RESULT, progress: PROGRESS, upload: UPLOAD } = DEFAULT_PATHS;
const hash = "0".repeat(64);

test.each<[string, string | Uint8Array<ArrayBuffer>]>([
  ["nothing", ""],
  ["no JSON", "{"],
  ["a list", "[]"],
  ["null", "null"],
  ["text", '"job"'],
  ["no UTF-8", Uint8Array.of(0x22, 0xff, 0x22)],
])("a body of %s is answered 400", async (_what, body) => {
  const t = backend();

  for (const path of [RESULT, PROGRESS, UPLOAD]) expect((await deliver(t, path, body)).status).toBe(400);
  expect(await rows(t, "workerJobs")).toEqual([]);
});

test.each<[string, Body]>([
  ["jobId is missing", { jobId: undefined }],
  ["jobId must be text", { jobId: 5 }],
  ["jobId must be 1 to 200 printable characters", { jobId: "a b" }],
  ["jobId must be 1 to 200 printable characters", { jobId: "x".repeat(201) }],
  ["type is missing", { type: "" }],
  ["attempt is missing", { attempt: undefined }],
  ["attempt must be a whole number from 0", { attempt: -1 }],
  ["seq must be a whole number from 0", { seq: 1.5 }],
  ["seq must be a whole number from 0", { seq: "1" }],
  ["status must be one of completed, failed", { status: "active" }],
  ["status is missing", { status: undefined }],
  ["message must be text", { message: {} }],
  ["timestamp must be a date in ISO 8601", { timestamp: "yesterday" }],
  ["phases must be a list of at most 1000 elements", { phases: {} }],
  ["phases[0].durationMs is missing", { phases: [{ name: "x" }] }],
  ["phases[0] must be an object", { phases: [7] }],
  ["artifacts must be a list of at most 1000 elements", { artifacts: Array(1_001).fill({}) }],
  ["artifacts[0].sha256 must be 64 hex digits", { artifacts: [{ path: "a", size: 1, sha256: "A".repeat(64) }] }],
  ["artifacts[0].path is missing", { artifacts: [{ path: "", size: 1, sha256: hash }] }],
  ["logFile.sha256 is missing", { logFile: { path: "log" } }],
])("a result is answered 400 where %s", async (why, changes) => {
  const t = backend();

  const answer = await deliverResult(t, changes);

  expect(answer).toContain(`400 ${why}`);
  expect(await rows(t, "workerJobs")).toEqual([]);
});

test.each<[string, Body]>([
  ["progress is missing", { progress: undefined }],
  ["progress must be at most 100", { progress: 101 }],
  ["progress must be a whole number from 0", { progress: -1 }],
  ["phase must be text", { phase: 1 }],
  ["status must be one of pending, active", { status: "completed" }],
])("progress is answered 400 where %s", async (why, changes) => {
  expect(await deliverProgress(backend(), changes)).toContain(`400 ${why}`);
});

test.each<[string, Body]>([
  ["files is missing", {}],
  ["files must be 1 to 200", { files: [] }],
  ["files must be 1 to 200", { files: Array(201).fill({ path: "a", size: 1, sha256: hash }) }],
  ["files[0].sha256 is missing", { files: [{ path: "a", size: 1 }] }],
])("a request for uploads is answered 400 where %s", async (why, changes) => {
  const answer = await deliver(backend(), UPLOAD, { jobId: "job-1", ...changes });

  expect(answer.status).toBe(400);
  expect(await answer.text()).toContain(why);
});

test("a body beyond 256 KiB is answered 413, whether it says so or not", async () => {
  const t = backend();
  const large = JSON.stringify(result({ output: "x".repeat(256 * 1024) }));

  expect((await deliver(t, RESULT, large)).status).toBe(413);
  expect((await deliver(t, RESULT, result(), { headers: { "content-length": "9999999" } })).status).toBe(413);
});

test("fields that are null count as absent, and unknown ones do not matter", async () => {
  const t = backend();

  expect(await deliverResult(t, { chatId: null, message: null, novelty: { a: [1] } })).toBe("200 applied");

  expect(await onlyJob(t)).not.toHaveProperty("message");
});

test("keys and texts that Convex cannot keep do no harm: free-form JSON is kept as text, half a pair is replaced", async () => {
  const t = backend();
  const free = { $odd: 1, größe: 2, "": { _x: "\ud800" } };

  expect(await deliverResult(t, { result: free, message: "half \udc00 pair", output: "🍲" })).toBe("200 applied");

  const job = await onlyJob(t);
  expect(JSON.parse(job.resultJson ?? "")).toEqual(free);
  expect([job.message, job.output]).toEqual(["half \ufffd pair", "🍲"]);
});

test("a proper body is kept field by field", async () => {
  const t = backend();
  const artifacts = [{ path: "dist/größe/naïve 🍲.html", size: 5, sha256: hash, href: "/api/jobs/x/artifacts/a" }];

  await deliverResult(t, { artifacts, status: "failed", conclusion: "failure", reason: "build_failed", error: "no" });

  expect(await onlyJob(t)).toMatchObject({
    jobId: result().jobId,
    type: "build",
    chatId: "chat-1",
    status: "failed",
    conclusion: "failure",
    reason: "build_failed",
    message: "no",
    attempt: 1,
    seq: 9,
    phases: [{ name: "building", durationMs: 800 }],
    resultJson: '{"exitCode":0,"command":"npm run build"}',
    artifacts,
    artifactCount: 1,
    durationMs: 1_234,
    output: "done",
    finishedAt: Date.parse("2026-03-01T10:00:00.000Z"),
  });
  expect(progress()).not.toHaveProperty("status");
});
