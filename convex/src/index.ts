/** Chef Workers in a Convex app: results and live progress in, jobs out. See docs/convex.md. */

export { chefWorkers, type ChefWorkers, type Options } from "./functions";
export { FILE_TYPE } from "./files";
export { eventsOfJob, forgetJob, jobById, jobsOfChat, type JobSummary } from "./reading";
export type { OnResult } from "./references";
export { DEFAULT_PATHS, registerRoutes, type Paths } from "./routes";
export { workerTables, type CheckedFile, type Job, type Status } from "./schema";
export { submitJob, type JobRequest } from "./submit";
