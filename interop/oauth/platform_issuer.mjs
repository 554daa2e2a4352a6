#!/usr/bin/env node
/**
 * oidc-provider as the identity provider of the installation: it issues the access tokens with which callers are known to the
 * service, and logs people in to the console.
 *
 * Run: platform_issuer.mjs --service URL [--port N]; port 0, the default, takes a free one. The first line on stdout is
 * `listening on ISSUER`. URL is the service's public one, without a slash at its end: access tokens are issued for it and
 * what is under it, as JWTs of RFC 9068. The console's client is `console` with the secret `console-secret`; other clients
 * register themselves. Whatever name is entered logs in.
 */
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Provider, errors } from "oidc-provider";

const HOST = "127.0.0.1";
const { values: options } = parseArgs({
  options: { port: { type: "string", default: "0" }, service: { type: "string" } },
});
const { service } = options;
const SCOPES = ["connectors:read", "connectors:write", "connectors:proxy"];

const server = createServer();
await new Promise((resolve) => server.listen(Number(options.port), HOST, resolve));
const issuer = `http://${HOST}:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "console",
      client_secret: "console-secret",
      redirect_uris: [`${service}/auth/callback`],
      grant_types: ["authorization_code"],
      response_types: ["code"],
    },
  ],
  cookies: { keys: [randomUUID()] },
  // Clients may register for those of the service as well.
  scopes: ["openid", "offline_access", ...SCOPES],
  claims: { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email"] },
  conformIdTokenClaims: false,
  findAccount: (_, accountId) => ({
    accountId,
    claims: () => ({ sub: accountId, preferred_username: accountId, email: `${accountId}@example.com` }),
  }),
  features: {
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_, asked) {
        if (asked !== service && !asked.startsWith(`${service}/`)) throw new errors.InvalidTarget();
        return {
          scope: SCOPES.join(" "),
          audience: asked,
          accessTokenTTL: 600,
          accessTokenFormat: "jwt",
        };
      },
    },
  },
});
server.on("request", provider.callback());
console.log(`listening on ${issuer}`);
