#!/usr/bin/env node
/**
 * A connector's whole life at an MCP server that demands OAuth, through the API and without a browser: refused,
 * consented to, used, disconnected, connected anew, deleted; then once more with a client that was registered by hand.
 *
 * BASE_URL    the service, which must not know this server yet
 * SERVER_URL  the MCP server, with a tool `echo` that takes one text, and `/stats` beside it
 *
 * Exits 0 and prints a line for each part, or exits 1 and says what was wrong.
 */
import assert from "node:assert/strict";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as TransportV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client as ClientV2, StreamableHTTPClientTransport as TransportV2 } from "@modelcontextprotocol/client";
import { consent } from "./consent.mjs";

const BASE_URL = process.env.BASE_URL.replace(/\/$/, "");
const { SERVER_URL } = process.env;
const API = `${BASE_URL}/api/v1/connectors`;
/** Where a client of the API is sent back to; nobody listens there. */
const REDIRECT_URL = "http://127.0.0.1:9/back?keep=this&more=%2F+%C3%BC";

async function call(method, path, body) {
  const headers = body && { "content-type": "application/json" };
  const response = await fetch(`${API}${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert(response.ok, `${method} ${path} answered ${response.status}: ${text}`);
  return text && JSON.parse(text);
}

const json = async (url) => (await fetch(url)).json();
const stats = () => json(new URL("/stats", SERVER_URL));

/** Asks to be connected, which must lead to a URL to visit. */
async function connect(id, body) {
  const connector = await call("POST", `/${id}/connect`, body);
  assert.equal(connector.state, "auth_required");
  assert.equal(connector.lifecycle, "connecting");
  assert.equal(connector.auth_request.type, "code");
  const url = new URL(connector.auth_request.authorization_endpoint);
  assert.equal(url.searchParams.get("code_challenge_method"), "S256");
  assert.equal(url.searchParams.get("resource"), SERVER_URL);
  return url;
}

async function expectState(id, state) {
  const connector = await call("GET", `/${id}`);
  assert.equal(connector.state, state, JSON.stringify(connector));
  assert.equal(connector.auth_request, null);
  return connector;
}

/** What the service answers to a callback that ends with a page of its own. */
async function expectPage({ response, url }, status, words) {
  assert.equal(response.status, status);
  assert.match(response.headers.get("content-type"), /^text\/html/);
  assert.equal(response.headers.get("cache-control"), "no-store");
  assert.equal(response.headers.get("referrer-policy"), "no-referrer");
  const page = await response.text();
  assert(page.includes(words), page);
  for (const name of ["code", "state"]) {
    const secret = url.searchParams.get(name);
    assert(!secret || !page.includes(secret), `the page holds the ${name}`);
  }
}

async function use(id) {
  const url = new URL(`${API}/${id}/mcp`);
  const info = { name: "interop", version: "1.0.0" };
  const clients = {
    v1: [new ClientV1(info), new TransportV1(url)],
    v2: [new ClientV2(info, { versionNegotiation: { mode: "auto" } }), new TransportV2(url)],
  };
  for (const [name, [client, transport]] of Object.entries(clients)) {
    await client.connect(transport);
    try {
      const { tools } = await client.listTools();
      assert(tools.some((tool) => tool.name === "echo"), `${name}: no tool echo`);
      const echoed = await client.callTool({ name: "echo", arguments: { text: "grüße, 世界" } });
      assert.equal(echoed.content[0].text, "grüße, 世界", `${name}: ${JSON.stringify(echoed)}`);
    } finally {
      await transport.terminateSession().catch(() => {}); // DELETE; a server need not support it
      await client.close();
    }
  }
}

/** Consent as a user gives it, and the tools after it. */
async function success(id) {
  const before = await stats();
  const url = await connect(id);
  const again = await connect(id);
  assert.equal(again.href, url.href, "a second connect began a second authorization");
  const callback = await consent(url);
  await expectPage(callback, 200, "Connected");
  await expectState(id, "connected");
  await use(id);

  // The code is spent: what comes again, as from a reloaded page, changes nothing.
  await expectPage({ response: await fetch(callback.url), url: callback.url }, 400, "This authorization is over");
  await expectState(id, "connected");
  const after = await stats();
  assert.equal(after.exchanges - before.exchanges, 1);
  assert.equal(after.live.AccessToken - before.live.AccessToken, 1);
  assert.equal(after.live.RefreshToken - before.live.RefreshToken, 1, "no refresh token was issued");
  return "auth_required, consent, connected, tools by two clients, the callback once more";
}

/** A redirect back to a client of the API, its URL untouched. */
async function redirected(id) {
  const callback = await consent(await connect(id, { redirect_url: REDIRECT_URL }));
  assert.equal(callback.response.status, 303);
  assert.equal(callback.response.headers.get("location"), REDIRECT_URL);
  await expectState(id, "connected");
  await use(id);
  return "redirect_url untouched, connected, tools";
}

async function disconnect(id) {
  assert.equal((await call("POST", `/${id}/disconnect`)).disconnect_reason, "Client request");
  await expectState(id, "disconnected");
  const response = await fetch(`${API}/${id}/mcp`, { method: "POST", body: "{}" });
  assert(response.status >= 400, `a disconnected connector answered ${response.status}`);
}

/** A user who refuses at the first page of the authorization server, then at each later one. */
async function refused(id, pages) {
  for (let refuseAt = 1; refuseAt <= pages; refuseAt += 1) {
    const callback = await consent(await connect(id), { refuseAt });
    await expectPage(callback, 400, "The connector is not connected");
    const connector = await expectState(id, "disconnected");
    assert.equal(connector.disconnect_code, "authorization_refused");

    const back = await consent(await connect(id, { redirect_url: REDIRECT_URL }), { refuseAt });
    assert.equal(back.response.status, 303);
    const location = back.response.headers.get("location");
    assert(location.startsWith(`${REDIRECT_URL}&`), location);
    const { searchParams } = new URL(location);
    assert.equal(searchParams.get("error"), "access_denied");
    assert.equal(searchParams.get("error_description"), connector.disconnect_reason);
  }
  return `at ${pages} pages, by page and by redirect_url`;
}

/** A client that somebody has registered by hand, with a secret. */
async function given() {
  const resource = await json(new URL("/.well-known/oauth-protected-resource/mcp", SERVER_URL));
  const metadata = await json(new URL("/.well-known/oauth-authorization-server", resource.authorization_servers[0]));
  const registered = await fetch(metadata.registration_endpoint, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      redirect_uris: [`${API}/oauth/callback`],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "client_secret_basic",
      application_type: "native",
    }),
  });
  const { client_id, client_secret } = await registered.json();
  assert(client_secret, "the authorization server gave no secret");
  const { registrations } = await stats();
  const { id } = await call("POST", "", { url: SERVER_URL, match_preset: false, client_id, client_secret });
  const url = await connect(id);
  assert.equal(url.searchParams.get("client_id"), client_id);
  await expectPage(await consent(url), 200, "Connected");
  await expectState(id, "connected");
  await use(id);
  await call("DELETE", `/${id}`);
  assert.equal((await stats()).registrations, registrations, "the service registered all the same");
  return "client_id and client_secret, connected, tools";
}

const { id } = await call("POST", "", { url: SERVER_URL, match_preset: false });
const { pages, registrations } = await stats(); // no pages where nobody is asked for consent
const report = (part, text) => console.log(`oauth, ${part.name}: ok (${text})`);
if (pages) report(refused, await refused(id, pages));
report(success, await success(id));
await disconnect(id);
report(redirected, await redirected(id));
await disconnect(id);
await call("DELETE", `/${id}`);
assert.equal((await fetch(`${API}/${id}`)).status, 404);
assert.equal((await stats()).registrations - registrations, 1, "the service did not register once");
console.log("oauth, end: ok (disconnected, deleted, one registration for all of it)");
report(given, await given());
