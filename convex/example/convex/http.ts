import { httpRouter } from "convex/server";

import { registerRoutes } from "../../src";

const http = httpRouter();
registerRoutes(http);

export default http;
