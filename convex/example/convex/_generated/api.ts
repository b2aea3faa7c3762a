/** By hand what `npx convex dev` makes for an app: its generator needs a deployment. */

import { anyApi, type ApiFromModules, type FilterApi, type FunctionReference } from "convex/server";

import type * as builds from "../builds";
import type * as chefWorkers from "../chefWorkers";

type FullApi = ApiFromModules<{ builds: typeof builds; chefWorkers: typeof chefWorkers }>;

export const api: FilterApi<FullApi, FunctionReference<"query" | "mutation" | "action", "public">> = anyApi as never;
export const internal: FilterApi<
  FullApi,
  FunctionReference<"query" | "mutation" | "action", "internal">
> = anyApi as never;
