#!/usr/bin/env node
/**
 * The client under test in the client scenarios of the conformance suite: the service, with a published MCP client in
 * front of it and a user who consents to everything.
 *
 *   BASE_URL=… conformance_client.mjs SERVER_URL
 *
 * The suite starts it with the URL of the scenario's MCP server, and with
 *   MCP_CONFORMANCE_SCENARIO           the scenario's name
 *   MCP_CONFORMANCE_PROTOCOL_VERSION   the revision that the server speaks
 *   MCP_CONFORMANCE_CONTEXT            JSON: `client_id`, `client_secret`, `toolCalls`, where the scenario gives them
 *
 * It makes a connector for the server, connects it, visits what the connector says the user must visit, and lists and
 * calls tools through `/mcp`. Where that fails and the connector asks for consent anew, the user gives it and the client
 * begins again. Its last line is `end: ` and what that came to:
 *   called            every call was answered
 *   call failed       the connector is connected, and a call failed nevertheless
 *   answer refused    what came from the authorization server was not taken for an answer
 *   asked too often   the user has lost patience
 *   anything else     the code with which the connector is disconnected
 * It exits with 0 whatever the end was: which one is right, conformance_scenarios.mjs knows.
 */
import { setTimeout } from "node:timers/promises";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const BASE_URL = process.env.BASE_URL;
const SCENARIO = process.env.MCP_CONFORMANCE_SCENARIO;
const MODERN = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION === "2026-07-28";
const CONTEXT = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
/** How often the user consents: more often than a client may ask. */
const CONSENTS = 5;
/** How long the listening stream may take to be answered, in milliseconds; a server may offer none. */
const LISTENING = 5000;
/** The arguments of the tools that have any, where the scenario does not give them. */
const ARGUMENTS = { add_numbers: { a: 5, b: 3 } };

async function api(method, path, body) {
  const headers = body && { "content-type": "application/json" };
  const response = await fetch(`${BASE_URL}/api/v1/connectors${path}`, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  // A connect that fails answers with a problem, and the connector has the reason.
  if (!response.ok && !path.endsWith("/connect")) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
  return answer;
}

/** A browser whose user consents: the suite's authorization servers send it on at once, to the service's callback. */
async function visit(url) {
  const response = await fetch(url);
  console.log(`visited, and ended at ${new URL(response.url).pathname} with status ${response.status}`);
  await response.text();
}

/** Lists and calls tools, once. The error of what failed, if anything did. */
async function call(id) {
  const mode = MODERN ? { pin: "2026-07-28" } : "legacy";
  const client = new Client({ name: "conformance", version: "1.0.0" }, { versionNegotiation: { mode } });
  const listening = Promise.withResolvers();
  const transport = new StreamableHTTPClientTransport(new URL(`${BASE_URL}/api/v1/connectors/${id}/mcp`), {
    fetch: (url, init) => {
      const answer = fetch(url, init);
      if (init?.method === "GET") answer.finally(listening.resolve).catch(() => {});
      return answer;
    },
  });
  try {
    await client.connect(transport);
    // A legacy client opens its listening stream on the side. A server that counts streams must not see it in the middle of
    // a call, where it would take it for a stream that is resumed.
    if (!MODERN) await Promise.race([listening.promise, setTimeout(LISTENING, undefined, { ref: false })]);
    const { tools } = await client.listTools();
    const calls = CONTEXT.toolCalls ?? tools.map(({ name }) => ({ name, arguments: ARGUMENTS[name] ?? {} }));
    for (const call of calls) await client.callTool(call);
  } catch (error) {
    return error;
  } finally {
    await transport.terminateSession?.().catch(() => {});
    await client.close().catch(() => {});
  }
}

async function drive(url) {
  const { client_id, client_secret } = CONTEXT;
  const { id } = await api("POST", "", { url, client_id, client_secret, match_preset: false });
  await api("POST", `/${id}/connect`);
  for (let consents = 0; ; consents++) {
    let connector = await api("GET", `/${id}`);
    if (connector.state === "connected") {
      const error = await call(id);
      if (!error) return "called";
      console.log(`a call failed: ${error.message}`);
      connector = await api("GET", `/${id}`);
      if (connector.state === "connected" && !connector.auth_request) return "call failed";
    }
    if (!connector.auth_request) return connector.disconnect_code ?? connector.state;
    if (consents === CONSENTS) return "asked too often";
    await visit(connector.auth_request.authorization_endpoint);
    // An answer that is not the authorization server's own leaves the attempt waiting: the user is not asked twice.
    const { auth_request: again } = await api("GET", `/${id}`);
    if (again?.authorization_endpoint === connector.auth_request.authorization_endpoint) return "answer refused";
  }
}

console.log(`${SCENARIO}: ${process.argv[2]}`);
console.log(`end: ${await drive(process.argv[2])}`);
