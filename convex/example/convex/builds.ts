/** The app's own side: who may ask for a build, who may watch it, and what happens when it has ended. */

import { v } from "convex/values";

import { jobById, jobsOfChat, submitJob } from "../../src";
import { internalMutation, mutation, query, type QueryCtx } from "./_generated/server";

export const start = mutation({
  args: { chat: v.string(), files: v.array(v.object({ path: v.string(), text: v.string() })) },
  handler: async (ctx, { chat, files }) => {
    await requireOwner(ctx, chat);
    return await submitJob(ctx, { type: "build", chatId: chat, files });
  },
});

export const watch = query({
  args: { job: v.id("workerJobs") },
  handler: async (ctx, { job }) => {
    const found = await jobById(ctx, job);
    if (found !== null) await requireOwner(ctx, found.chatId);
    return found;
  },
});

export const ofChat = query({
  args: { chat: v.string() },
  handler: async (ctx, { chat }) => {
    await requireOwner(ctx, chat);
    return await jobsOfChat(ctx, chat);
  },
});

export const onResult = internalMutation({
  args: { job: v.id("workerJobs") },
  handler: async (ctx, { job }) => {
    const ended = await jobById(ctx, job);
    await ctx.db.insert("verdicts", { job, text: ended?.conclusion ?? "" });
  },
});

async function requireOwner(ctx: QueryCtx, name: string | undefined): Promise<void> {
  const user = await ctx.auth.getUserIdentity();
  const chat = await ctx.db
    .query("chats")
    .withIndex("by_name", (q) => q.eq("name", name ?? ""))
    .unique();
  if (user === null || chat?.ownerId !== user.subject) throw new Error("this chat is not yours");
}
