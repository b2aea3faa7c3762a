/**
 * The example app in a fake Convex backend, over real HTTP, so that the real sender can be tried against it.
 *
 * Hooks are passed on to the app as they are. `/control/…` looks inside and sets the scene; its bodies are JSON.
 */

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { convexTest } from "convex-test";
import { Webhook } from "standardwebhooks";

import { api, internal } from "../example/convex/_generated/api";
import schema from "../example/convex/schema";

const modules = {
  "../example/convex/_generated/api.ts": () => import("../example/convex/_generated/api"),
  "../example/convex/builds.ts": () => import("../example/convex/builds"),
  "../example/convex/chefWorkers.ts": () => import("../example/convex/chefWorkers"),
  "../example/convex/http.ts": () => import("../example/convex/http"),
  "../example/convex/schema.ts": () => import("../example/convex/schema"),
};

let app = convexTest(schema, modules);
/** How long the answer to a hook is held back after it had its effect. */
let delayMs = 0;
/** How a hook is answered after it had its effect: see `misanswer`. */
let manner = "";
/** What befalls the next uploads, one word each: see `upload`. */
let faults: string[] = [];
/** What the app last sent to Chef Workers, and what that answers. */
let sent: unknown;
let workersAnswer: unknown;

globalThis.fetch = async (url, init) => {
  sent = { url, ...init };
  return Response.json(workersAnswer);
};

/** Whether the reference library accepts a message. */
function isGenuine(secret: string, headers: Record<string, string>, text: string): boolean {
  try {
    new Webhook(secret).verify(text, headers);
    return true;
  } catch {
    return false;
  }
}

/** What each `/control/…` path does with its body, and what it answers. */
const controls: Record<string, (body: Record<string, unknown>) => unknown> = {
  reset: () => {
    app = convexTest(schema, modules);
    delayMs = 0;
    manner = "";
    faults = [];
  },
  delay: ({ ms }) => {
    delayMs = Number(ms);
  },
  manner: ({ word }) => {
    manner = word as string;
  },
  faults: ({ words }) => {
    faults = words as string[];
  },
  genuine: ({ secret, headers, text }) =>
    isGenuine(secret as string, headers as Record<string, string>, text as string),
  /** What lies in storage. */
  stored: () => app.run((ctx) => ctx.db.system.query("_storage").collect()),
  /** Let the sweep run `days` from now. */
  sweep: async ({ days }) => {
    const now = Date.now;
    Date.now = () => now() + Number(days) * 86_400_000;
    await app.mutation(internal.chefWorkers.sweep, {});
    Date.now = now;
  },
  rows: ({ table }) => app.run((ctx) => ctx.db.query(table as "workerJobs").collect()),
  /** Let the app ask for a build of `files`; answers the request that reaches Chef Workers. */
  start: async ({ chat, files, answer }) => {
    workersAnswer = answer;
    await app.run((ctx) => ctx.db.insert("chats", { name: chat as string, ownerId: "anna" }));
    const request = { chat: chat as string, files: files as { path: string; text: string }[] };
    await app.withIdentity({ subject: "anna" }).mutation(api.builds.start, request);
    await scheduled();
    return sent;
  },
  /** Let the sweep ask about every job that runs, and Chef Workers answer with `record`. */
  ask: async ({ record }) => {
    workersAnswer = record;
    await app.run(async (ctx) => {
      for (const { _id } of await ctx.db.query("workerJobs").collect()) await ctx.db.patch(_id, { checkAt: 0 });
    });
    await app.mutation(internal.chefWorkers.sweep, {});
    await scheduled();
  },
};

/** What is scheduled begins with a timer, and may schedule more. */
async function scheduled(): Promise<void> {
  for (let round = 0; round < 3; round++) {
    await sleep(10);
    await app.finishInProgressScheduledFunctions();
  }
}

/**
 * What the backend does behind an upload URL, which the fake leaves out. `refuse`: it does not; `spoil`: the bytes
 * change on their way; `forget`: it stores them, but the answer is lost.
 */
async function upload({ headers }: IncomingMessage, bytes: Buffer): Promise<Response> {
  const fault = faults.shift();
  if (fault === "refuse") return new Response("busy", { status: 503 });
  const received = fault === "spoil" ? Buffer.concat([bytes, Buffer.from("!")]) : bytes;
  const digest = createHash("sha256").update(received).digest("base64");
  if (headers.digest !== `sha-256=${digest}`) return Response.json({ code: "Sha256Mismatch" }, { status: 400 });
  const storageId = await app.run(async (ctx) => {
    const id = await ctx.storage.store(new Blob([new Uint8Array(received)]));
    await ctx.db.patch(id as never, { contentType: headers["content-type"] } as never);
    return id;
  });
  return fault === "forget" ? new Response("", { status: 500 }) : Response.json({ storageId });
}

/** Answers a hook as a broken receiver does. False if it is to be answered properly. */
async function misanswer({ socket }: IncomingMessage, response: ServerResponse): Promise<boolean> {
  if (manner === "fail") response.writeHead(500).end("Server Error");
  else if (manner === "redirect") response.writeHead(307, { location: "/control/reset" }).end();
  else if (manner === "trickle") {
    socket.write("HTTP/1.1 200 OK\r\nX-Long: ");
    while (!socket.destroyed) {
      socket.write("x");
      await sleep(1_000);
    }
  } else if (manner === "flood") {
    response.writeHead(200, { "content-length": String(2 ** 30) });
    // Without waiting for the receiver to take it, this would be a gigabyte of memory.
    while (!socket.destroyed && response.writableLength < 2 ** 20) {
      response.write(Buffer.alloc(2 ** 16, "x"));
      await sleep(0);
    }
  } else return false;
  return true;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = Buffer.concat(await request.toArray());
  const path = request.url ?? "/";
  const control = controls[path.replace(/^\/control\//, "")];
  const given = control
    ? Response.json((await control(JSON.parse(body.toString()))) ?? null)
    : path.startsWith("/api/storage/upload?token=")
      ? await upload(request, body)
      : await hook(path, request, body);
  if (!control && (await misanswer(request, response))) return;
  response.writeHead(given.status, Object.fromEntries(given.headers)).end(await given.text());
}

async function hook(path: string, { method, headers }: IncomingMessage, bytes: Buffer): Promise<Response> {
  const body = new Uint8Array(bytes);
  const given = await app.fetch(path, { method, headers: headers as Record<string, string>, body });
  await sleep(delayMs);
  return given;
}

const server = createServer((request, response) => {
  // The fake backend throws where the real one answers 500.
  answer(request, response).catch((error) => response.writeHead(500).end(String(error)));
});
server.keepAliveTimeout = 60_000; // a busy machine may let more than Node's 5 seconds pass between two requests
server.listen(Number(process.env.PORT), () => console.log("ready"));
