#!/usr/bin/env node
/**
 * The service with users to tell apart, who are known by oidc-provider: a person logs in to the console and connects a
 * server that demands OAuth; nobody else can finish that; and an MCP client that knows nothing but the connector's URL
 * logs in by itself and calls a tool.
 *
 * BASE_URL    the service
 * SERVER_URL  an MCP server that demands OAuth, with a tool `echo` that takes one text, and `/stats` beside it
 * CONSENT     the program that plays a user, consent.mjs
 * PYTHON      the Python of the environment with the MCP client
 *
 * Exits 0 and prints a line for each part, or exits 1 and says what was wrong.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Browser } from "./consent.mjs";

const BASE_URL = process.env.BASE_URL.replace(/\/$/, "");
const { CONSENT, PYTHON, SERVER_URL } = process.env;
const API = `${BASE_URL}/api/v1/connectors`;
/** What the console sends with every call; without it the cookie alone counts for nothing. */
const CONSOLE = { "x-connectors-console": "1" };
const run = promisify(execFile);

const stats = async () => (await fetch(new URL("/stats", SERVER_URL))).json();

/** A call of the API as the console makes it: with the session of the browser. */
async function call(browser, method, path, body) {
  const headers = { ...CONSOLE, ...(body && { "content-type": "application/json" }) };
  const response = await browser.fetch(`${API}${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, document: text && JSON.parse(text) };
}

async function logIn(name) {
  const browser = new Browser(name);
  await browser.visit(`${BASE_URL}/auth/login?return_to=/`, { at: ({ href }) => href === `${BASE_URL}/` });
  const session = await (await browser.fetch(`${BASE_URL}/auth/session`, { headers: CONSOLE })).json();
  assert.equal(session.account, name, JSON.stringify(session));
  return browser;
}

async function strangersAreTurnedAway() {
  for (const [path, resource] of [
    ["", BASE_URL],
    ["/01890a5d-ac96-774b-bcce-b302099a8057/mcp", `${API}/01890a5d-ac96-774b-bcce-b302099a8057/mcp`],
  ]) {
    const response = await fetch(`${API}${path}`, { headers: { accept: "application/json, text/event-stream" } });
    assert.equal(response.status, 401);
    const [, url] = /resource_metadata="([^"]*)"/.exec(response.headers.get("www-authenticate"));
    const metadata = await (await fetch(url)).json();
    assert.equal(metadata.resource.replace(/\/$/, ""), resource);
    assert.equal(metadata.authorization_servers.length, 1);
  }
  console.log("strangers: turned away, and told where to log in");
}

async function connects(alice, bob) {
  const created = await call(alice, "POST", "", { url: SERVER_URL, match_preset: false });
  assert.equal(created.status, 201, JSON.stringify(created));
  const { id } = created.document;
  const connected = await call(alice, "POST", `/${id}/connect`);
  const start = connected.document.auth_request.authorization_endpoint;
  assert(start.startsWith(`${API}/${id}/oauth/start?`), start);

  // The address of the page, in another user's browser.
  await assert.rejects(bob.visit(start), ({ response }) => response?.status === 403);

  // What comes after that page, in another user's browser: he consents, and nothing comes of it.
  const { url: asked } = await alice.visit(start, { until: ({ origin }) => origin !== BASE_URL });
  const { response } = await bob.visit(asked);
  assert.equal(response.status, 403, await response.text());
  assert.equal((await stats()).exchanges, 0);
  assert.equal((await call(alice, "GET", `/${id}`)).document.state, "auth_required");
  console.log("consent that somebody else gives: refused with 403, and no code is exchanged");

  const finished = await alice.visit(start);
  assert.equal(finished.response.status, 200, await finished.response.text());
  assert.equal((await stats()).exchanges, 1);
  assert.equal((await call(alice, "GET", `/${id}`)).document.state, "connected");
  console.log("consent of the user who began: connected");

  for (const [method, path] of [["GET", ""], ["DELETE", ""], ["POST", "/connect"], ["POST", "/disconnect"], ["POST", "/mcp"]]) {
    assert.equal((await call(bob, method, `/${id}${path}`)).status, 404, `${method} ${path}`);
  }
  assert.equal((await call(bob, "GET", "")).document.total_count, 0);
  console.log("another user: finds nothing");
  return id;
}

async function clientLogsIn(id) {
  const client = fileURLToPath(new URL("platform_client.py", import.meta.url));
  const as = (name) => {
    const env = { ...process.env, MCP_URL: `${API}/${id}/mcp`, CONSENT, USER_NAME: name };
    return run(PYTHON, [client], { env });
  };
  const { stdout } = await as("alice");
  console.log(`the Python client: ${stdout.trim()}`);
  await assert.rejects(as("bob"), ({ stderr }) => {
    console.log(`the same as another user: ${stderr.trim()}`);
    return !stderr.includes("grüße");
  });
}

async function signsOut(browser) {
  const response = await browser.fetch(`${BASE_URL}/auth/logout`, { method: "POST", headers: { origin: BASE_URL } });
  assert(response.ok || response.status === 303, `${response.status}`);
  assert.equal((await call(browser, "GET", "")).status, 401);
  console.log("signed out: the session is over");
}

await strangersAreTurnedAway();
const [alice, bob] = [await logIn("alice"), await logIn("bob")];
await clientLogsIn(await connects(alice, bob));
await signsOut(alice);
