/** Files of jobs in Convex storage: upload URLs out, storage ids in and checked, orphans away. */

import type { GenericId } from "convex/values";

import type { UploadRequest } from "./payload";
import type { CheckedFile, MutationCtx, WorkerEvent } from "./schema";

type SentFile = NonNullable<WorkerEvent["artifacts"]>[number];
type StorageId = GenericId<"_storage">;

/**
 * The Content-Type of every upload. It tells our files from the app's own in `_storage`, which has no other mark, and
 * keeps a browser from running what a stranger's build made.
 */
export const FILE_TYPE = "application/vnd.chef-workers.file";

/** Results are delivered for three days; a file that none has claimed after a week is an orphan. */
const ORPHAN_AFTER_MS = 7 * 86_400_000;
/** An upload URL is good for an hour, and an upload may take two minutes. */
const UPLOAD_WINDOW_MS = 70 * 60_000;
const BATCH = 100;

/** One upload URL for each file, remembered so that a result can claim it, or the sweep find what nobody claimed. */
export async function issueUploads(
  ctx: MutationCtx,
  { jobId, files }: UploadRequest,
): Promise<{ path: string; url: string }[]> {
  return await Promise.all(
    files.map(async (file) => {
      await ctx.db.insert("workerFiles", { jobId, ...file });
      return { path: file.path, url: await ctx.storage.generateUploadUrl() };
    }),
  );
}

/** The files of a result, each with its storage id if that holds what the result says, else with the reason why not. */
export async function checkedFiles(ctx: MutationCtx, jobId: string, files: SentFile[]): Promise<CheckedFile[]> {
  const checked: CheckedFile[] = [];
  for (const { storageId, ...file } of files) {
    checked.push(storageId === undefined ? file : { ...file, ...(await claim(ctx, jobId, file, storageId)) });
  }
  return checked;
}

/** Delete a batch of files that no result claimed in time. Returns how many were deleted. */
export async function sweepFiles(ctx: MutationCtx, nowMs: number): Promise<number> {
  const issued = await ctx.db
    .query("workerFiles")
    .withIndex("by_storageId", (q) => q.eq("storageId", undefined).lt("_creationTime", nowMs - ORPHAN_AFTER_MS))
    .first();
  if (issued === null) return 0;
  const orphans = await orphansSince(ctx, issued._creationTime);
  await Promise.all(orphans.map((id) => ctx.storage.delete(id)));
  if (orphans.length < BATCH) await ctx.db.delete(issued._id);
  return orphans.length;
}

/** Bind a stored file to the upload it was meant for. */
async function claim(
  ctx: MutationCtx,
  jobId: string,
  file: Omit<SentFile, "storageId">,
  given: string,
): Promise<{ storageId: StorageId } | { problem: string }> {
  const storageId = ctx.db.system.normalizeId("_storage", given);
  const stored = storageId && (await ctx.db.system.get(storageId));
  if (!stored) return { problem: "there is no such file in storage" };
  if (stored.contentType !== FILE_TYPE) return { problem: "the stored file was not uploaded for a job" };
  if (stored.size !== file.size || hex(stored.sha256) !== file.sha256) {
    return { problem: "the stored file has another size or sha256" };
  }
  if (await isClaimed(ctx, stored._id)) return { problem: "the stored file belongs to another upload" };
  const issued = await openUpload(ctx, jobId, file);
  if (!issued) return { problem: "no upload of this file was asked for" };
  await ctx.db.patch(issued._id, { storageId: stored._id });
  return { storageId: stored._id };
}

/** The newest, so that an older one stays, from whose time on the sweep finds what was uploaded more than once. */
async function openUpload(ctx: MutationCtx, jobId: string, file: Omit<SentFile, "storageId">) {
  const issued = await ctx.db
    .query("workerFiles")
    .withIndex("by_jobId_path", (q) => q.eq("jobId", jobId).eq("path", file.path))
    .order("desc")
    .collect();
  return issued.find((row) => !row.storageId && row.size === file.size && row.sha256 === file.sha256);
}

async function isClaimed(ctx: MutationCtx, storageId: StorageId): Promise<boolean> {
  const claimed = await ctx.db
    .query("workerFiles")
    .withIndex("by_storageId", (q) => q.eq("storageId", storageId))
    .first();
  return claimed !== null;
}

/** Files of ours from the time in which an upload URL issued at `sinceMs` could be used, claimed by no result. */
async function orphansSince(ctx: MutationCtx, sinceMs: number): Promise<StorageId[]> {
  const orphans: StorageId[] = [];
  const uploaded = ctx.db.system
    .query("_storage")
    .withIndex("by_creation_time", (q) =>
      q.gte("_creationTime", sinceMs).lte("_creationTime", sinceMs + UPLOAD_WINDOW_MS),
    );
  for await (const file of uploaded) {
    if (file.contentType === FILE_TYPE && !(await isClaimed(ctx, file._id))) orphans.push(file._id);
    if (orphans.length === BATCH) break;
  }
  return orphans;
}

/** A sha256 in hex; Convex's documentation says that it keeps hex, its code keeps base64. */
function hex(sha256: string): string {
  if (/^[0-9a-f]{64}$/.test(sha256)) return sha256;
  return Array.from(atob(sha256), (byte) => byte.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}
