import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

import { workerTables } from "../../src";

export default defineSchema({
  chats: defineTable({ name: v.string(), ownerId: v.string() }).index("by_name", ["name"]),
  verdicts: defineTable({ job: v.id("workerJobs"), text: v.string() }),
  ...workerTables,
});
