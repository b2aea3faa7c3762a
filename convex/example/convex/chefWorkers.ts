import { chefWorkers, type ChefWorkers } from "../../src";
import { internal } from "./_generated/api";

const workers: ChefWorkers = chefWorkers({ onResult: internal.builds.onResult });

export const { receive, issueUploads, requestText, post, settle, ask, sweep } = workers;
