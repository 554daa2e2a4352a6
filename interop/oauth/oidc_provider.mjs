#!/usr/bin/env node
/**
 * An MCP server on the official TypeScript SDK, and in front of it oidc-provider, the certified authorization server,
 * with its own pages for login and consent.
 *
 * Run: oidc_provider.mjs [--port N] [--token-lifetime SECONDS]; port 0, the default, takes a free one. The first line
 * on stdout is `listening on http://127.0.0.1:PORT/mcp`. The authorization server has a free port of its own, which
 * the MCP server's metadata names.
 *
 * Clients register themselves; every token is bound to the MCP server as its resource; refresh tokens are rotated, and
 * one that is used twice ends its grant. Access tokens are opaque, so that what is revoked is refused at once.
 *
 * GET /stats              what has happened, and what lives now
 * DELETE /live/KIND       drops what lives of a kind: AccessToken, RefreshToken, Client, or Grant with all its tokens
 */
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import {
  getOAuthProtectedResourceMetadataUrl,
  mcpAuthMetadataRouter,
} from "@modelcontextprotocol/sdk/server/auth/router.js";
import { createMcpExpressApp } from "@modelcontextprotocol/sdk/server/express.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { Provider, errors } from "oidc-provider";
import MemoryAdapter from "oidc-provider/lib/adapters/memory_adapter.js";
import { z } from "zod";

const HOST = "127.0.0.1";
const SCOPE = "mcp:tools";
const DAY = 86_400;
const KINDS = ["AccessToken", "RefreshToken", "Grant", "Client"];
const { values: options } = parseArgs({
  options: { port: { type: "string", default: "0" }, "token-lifetime": { type: "string", default: "3600" } },
});
const LIFETIME = Number(options["token-lifetime"]);

/** All that the authorization server keeps, by `KIND:id`. */
const store = new Map();
const stats = {
  /** How many pages a user sees at first: login and consent. */
  pages: 2,
  ...{ registrations: 0, exchanges: 0, refused_exchanges: 0, refreshes: 0, refused_refreshes: 0 },
  ...{ revocations: 0, refused_revocations: 0 },
  /** The kinds of the tokens that were revoked, in order. */
  revoked: [],
  /** Requests to the MCP server that were answered, and that were sent away with a 401. */
  ...{ calls: 0, rejected: 0 },
};

function authorizationServer(issuer, resource) {
  const provider = new Provider(issuer, {
    adapter: class extends MemoryAdapter {
      constructor(model) {
        super(model, store);
      }
    },
    cookies: { keys: [randomUUID()] },
    scopes: ["openid", "offline_access"],
    rotateRefreshToken: true,
    ttl: { AccessToken: LIFETIME, Grant: DAY, IdToken: LIFETIME, Interaction: 600, RefreshToken: DAY, Session: DAY },
    features: {
      registration: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(_, asked) {
          if (asked !== resource) throw new errors.InvalidTarget();
          return { scope: SCOPE, audience: resource, accessTokenTTL: LIFETIME, accessTokenFormat: "opaque" };
        },
      },
    },
  });
  provider.use(async (ctx, next) => {
    await next();
    count(ctx);
  });
  return provider;
}

function count({ status, oidc }) {
  const done = status < 400;
  if (oidc?.route === "registration" && done) stats.registrations += 1;
  if (oidc?.route === "token") {
    const what = oidc.body?.grant_type === "refresh_token" ? "refreshes" : "exchanges";
    stats[done ? what : `refused_${what}`] += 1;
  }
  if (oidc?.route === "revocation") {
    stats[done ? "revocations" : "refused_revocations"] += 1;
    stats.revoked.push(...Object.keys(oidc.entities).filter((kind) => done && kind.endsWith("Token")));
  }
}

const living = (kind) =>
  [...store].filter(([key, { exp, consumed }]) => key.startsWith(`${kind}:`) && !consumed && !(exp < Date.now() / 1000));

/** The check of a token at the MCP server. One that was issued without naming a resource is good for nothing. */
const verifierOf = (provider) => ({
  async verifyAccessToken(token) {
    const found = await provider.AccessToken.find(token);
    if (!found?.isValid) throw new InvalidTokenError("The token is not known, or no longer");
    const [resource] = [found.aud].flat();
    return {
      ...{ token, clientId: found.clientId, scopes: [...found.scopes], expiresAt: found.exp },
      resource: resource && new URL(resource),
    };
  },
});

function tools() {
  const server = new McpServer({ name: "connectors-oidc-server", version: "1.0.0" });
  const text = (value) => ({ content: [{ type: "text", text: value }] });
  const echo = { description: "Returns its argument.", inputSchema: { text: z.string() } };
  server.registerTool("echo", echo, ({ text: value }) => text(value));
  const slow = {
    description: "Sends `steps` progress notifications, one each interval, and one interval later its result.",
    inputSchema: { steps: z.number().int(), interval_ms: z.number() },
  };
  server.registerTool("slow_progress", slow, async ({ steps, interval_ms }, { _meta, sendNotification }) => {
    for (let progress = 1; progress <= steps; progress += 1) {
      const params = { progressToken: _meta?.progressToken, progress, total: steps };
      if (_meta?.progressToken !== undefined) await sendNotification({ method: "notifications/progress", params });
      await new Promise((resolve) => setTimeout(resolve, interval_ms));
    }
    return text(`${steps} steps`);
  });
  return server;
}

/** MCP with sessions, as the SDK's examples have it. */
function serveMcp(app, bearer) {
  const sessions = new Map();
  app.all("/mcp", bearer, async (request, response) => {
    const id = request.headers["mcp-session-id"];
    let transport = sessions.get(id);
    if (id && !transport) return response.status(404).end();
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (session) => sessions.set(session, transport),
        onsessionclosed: (session) => sessions.delete(session),
      });
      await tools().connect(transport);
    }
    await transport.handleRequest(request, response, request.body);
  });
}

const listen = async (server, port) => {
  await new Promise((resolve) => server.listen(port, HOST, resolve));
  return `http://${HOST}:${server.address().port}`;
};

// Both addresses must be known before either server can be made, since each names the other.
const [front, back] = [createServer(), createServer()];
const issuer = await listen(front, 0);
const resource = `${await listen(back, Number(options.port))}/mcp`;

const provider = authorizationServer(issuer, resource);
front.on("request", provider.callback());

const app = createMcpExpressApp();
const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
const resourceServerUrl = new URL(resource);
app.get("/stats", (_, response) => {
  response.json({ ...stats, live: Object.fromEntries(KINDS.map((kind) => [kind, living(kind).length])) });
});
app.delete("/live/:kind", ({ params }, response) => {
  if (!KINDS.includes(params.kind)) return response.status(404).end();
  const kinds = params.kind === "Grant" ? ["Grant", "AccessToken", "RefreshToken"] : [params.kind];
  for (const [key] of kinds.flatMap(living)) store.delete(key);
  response.status(204).end();
});
app.use("/mcp", (_, response, next) => {
  response.on("finish", () => (stats[response.statusCode === 401 ? "rejected" : "calls"] += 1));
  next();
});
app.use(mcpAuthMetadataRouter({ oauthMetadata: metadata, resourceServerUrl, scopesSupported: [SCOPE] }));
const resourceMetadataUrl = getOAuthProtectedResourceMetadataUrl(resourceServerUrl);
const verifier = verifierOf(provider);
serveMcp(
  app,
  requireBearerAuth({ verifier, requiredScopes: [SCOPE], expectedResource: resourceServerUrl, resourceMetadataUrl }),
);
back.on("request", app);
console.log(`listening on ${resource}`);
