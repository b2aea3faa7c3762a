import { cronJobs } from "convex/server";

import { internal } from "./_generated/api";

const crons = cronJobs();
crons.interval("chef workers sweep", { minutes: 5 }, internal.chefWorkers.sweep, {});

export default crons;
