import { describe, expect, test, vi } from "vitest";

import { internal } from "../example/convex/_generated/api";
import { DEFAULT_PATHS, FILE_TYPE, forgetJob } from "../src";
import { backend, deliver, deliverResult, JOB, onlyJob, rows, settleAll, type Backend } from "./kit";

const DAY = 24 * 3_600_000;

/** A file as a result lists it. */
interface File {
  path: string;
  size: number;
  sha256: string;
}

async function fileOf(path: string, text: string): Promise<File> {
  const bytes = new TextEncoder().encode(text);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { path, size: bytes.length, sha256 };
}

async function askForUploads(t: Backend, files: File[]): Promise<{ path: string; url: string }[]> {
  const answer = await deliver(t, DEFAULT_PATHS.upload, { jobId: JOB, files });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as { uploads: { path: string; url: string }[] }).uploads;
}

/** What a POST to an upload URL does, which the fake backend does not serve. */
async function upload(t: Backend, text: string, contentType = FILE_TYPE): Promise<string> {
  return await t.run(async (ctx) => {
    const id = await ctx.storage.store(new Blob([text]));
    await ctx.db.patch(id as never, { contentType } as never);
    return id;
  });
}

async function stored(t: Backend): Promise<string[]> {
  return (await t.run((ctx) => ctx.db.system.query("_storage").collect())).map(({ _id }) => _id);
}

async function sweepAfter(t: Backend, ms: number) {
  vi.setSystemTime(Date.now() + ms);
  const swept = await t.mutation(internal.chefWorkers.sweep, {});
  await settleAll(t);
  return swept;
}

describe("an upload", () => {
  test("has a URL for each file, and the result binds it to its job", async () => {
    const t = backend();
    const page = await fileOf("größe/index.html", "<p>");
    const log = await fileOf("log", "all the lines");

    const urls = await askForUploads(t, [page, log]);
    const [pageId, logId] = [await upload(t, "<p>"), await upload(t, "all the lines")];
    await deliverResult(t, { artifacts: [{ ...page, storageId: pageId }], logFile: { ...log, storageId: logId } });

    expect(urls.map(({ path }) => path)).toEqual(["größe/index.html", "log"]);
    expect(urls[0]?.url).toMatch(/^https:.*\/api\/storage\/upload\?token=/);
    expect(await onlyJob(t)).toMatchObject({
      artifacts: [{ ...page, storageId: pageId }],
      logFile: { ...log, storageId: logId },
    });
  });

  test.each<[string, (t: Backend, file: File) => Promise<Partial<File> & { storageId: string }>]>([
    ["there is no such file in storage", async () => ({ storageId: "nonsense" })],
    [
      "there is no such file in storage",
      async (t) => {
        const storageId = await upload(t, "<p>");
        await t.run((ctx) => ctx.storage.delete(storageId as never));
        return { storageId };
      },
    ],
    ["the stored file has another size or sha256", async (t) => ({ storageId: await upload(t, "<b>") })],
    ["the stored file has another size or sha256", async (t) => ({ size: 4, storageId: await upload(t, "<p>") })],
    ["the stored file was not uploaded for a job", async (t) => ({ storageId: await upload(t, "<p>", "text/html") })],
    ["no upload of this file was asked for", async (t) => ({ path: "b", storageId: await upload(t, "<p>") })],
  ])("is not linked, but the result counts, where %s", async (problem, make) => {
    const t = backend();
    const file = await fileOf("a", "<p>");
    await askForUploads(t, [file]);

    const artifact = { ...file, ...(await make(t, file)) };
    expect(await deliverResult(t, { artifacts: [artifact] })).toBe("200 applied");

    const [linked] = (await onlyJob(t)).artifacts ?? [];
    expect(linked).toEqual({ path: artifact.path, size: artifact.size, sha256: file.sha256, problem });
  });

  test("belongs to one job: another one cannot claim it", async () => {
    const t = backend();
    const file = await fileOf("a", "<p>");
    await askForUploads(t, [file, file]);
    const storageId = await upload(t, "<p>");
    await deliverResult(t, { artifacts: [{ ...file, storageId }] });

    await deliverResult(t, { jobId: "job-2", artifacts: [{ ...file, storageId }] });

    const [, second] = await rows(t, "workerJobs");
    expect(second?.artifacts).toEqual([{ ...file, problem: "the stored file belongs to another upload" }]);
  });
});

describe("the sweep", () => {
  test("deletes after a week what no result has claimed, and nothing else", async () => {
    const t = backend();
    const [kept, lost] = [await fileOf("kept", "kept"), await fileOf("lost", "lost")];
    await askForUploads(t, [kept, lost]);
    const foreign = await upload(t, "the app's own", "text/plain");
    const [keptId] = [await upload(t, "kept"), await upload(t, "lost"), await upload(t, "lost again")];
    await deliverResult(t, { artifacts: [{ ...kept, storageId: keptId }] });

    expect(await sweepAfter(t, 6 * DAY)).toMatchObject({ files: 0 });
    expect(await stored(t)).toHaveLength(4);
    await sweepAfter(t, 2 * DAY);

    expect(await stored(t)).toEqual([foreign, keptId]);
    expect(await rows(t, "workerFiles")).toHaveLength(1);
  });

  test("deletes what was uploaded a second time because the first answer was lost", async () => {
    const t = backend();
    const file = await fileOf("a", "<p>");
    await askForUploads(t, [file]);
    vi.setSystemTime(Date.now() + 1_000);
    await upload(t, "<p>");
    vi.setSystemTime(Date.now() + 5_000);
    await askForUploads(t, [file]);
    vi.setSystemTime(Date.now() + 1_000);
    const storageId = await upload(t, "<p>");
    await deliverResult(t, { artifacts: [{ ...file, storageId }] });

    await sweepAfter(t, 8 * DAY);

    expect(await stored(t)).toEqual([storageId]);
    expect((await onlyJob(t)).artifacts).toEqual([{ ...file, storageId }]);
  });

  test("goes on by itself until a large heap of orphans is gone", async () => {
    const t = backend();
    await askForUploads(t, [await fileOf("a", "0")]);
    for (let number = 0; number < 130; number++) await upload(t, String(number));

    await sweepAfter(t, 8 * DAY);

    expect(await stored(t)).toEqual([]);
    expect(await rows(t, "workerFiles")).toEqual([]);
  });
});

test("a job that is forgotten leaves nothing behind, its files included", async () => {
  const t = backend();
  const file = await fileOf("a", "<p>");
  await askForUploads(t, [file]);
  await deliverResult(t, { artifacts: [{ ...file, storageId: await upload(t, "<p>") }] });
  await deliverResult(t, { jobId: "job-2" });
  const [job] = await rows(t, "workerJobs");

  await t.run((ctx) => forgetJob(ctx, job!._id));

  expect(await rows(t, "workerJobs")).toMatchObject([{ jobId: "job-2" }]);
  expect(await rows(t, "workerEvents")).toMatchObject([{ jobId: "job-2" }]);
  expect([await stored(t), await rows(t, "workerFiles")]).toEqual([[], []]);
});
