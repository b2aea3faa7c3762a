/** The deployment's environment variables (`npx convex env set NAME VALUE`), read anew at each use. */

/** Convex has this global; declared here because an app need not have Node's types. */
declare const process: { env: Record<string, string | undefined> };

/** Signing secrets of Chef Workers, separated by commas or spaces. */
export function webhookSecret(): string | undefined {
  return process.env.CHEF_WORKERS_WEBHOOK_SECRET;
}

/** Where Chef Workers listens, without a closing slash. */
export function workersUrl(): string | undefined {
  return process.env.CHEF_WORKERS_URL?.replace(/\/+$/, "");
}

/** The key to send to Chef Workers, if it wants one. */
export function workersKey(): string | undefined {
  return process.env.CHEF_WORKERS_API_KEY;
}
