#!/usr/bin/env node
/**
 * The official TypeScript clients against one MCP endpoint: list, call, progress.
 *
 * MCP_URL      the endpoint
 * MCP_CLIENTS  which to try, comma-separated; default all of
 *   v1         @modelcontextprotocol/sdk 1.x, which knows only the legacy era
 *   v2-legacy  @modelcontextprotocol/client 2.x, `initialize` and sessions
 *   v2-auto    the same, `server/discover` first, `initialize` if the server knows no better
 *   v2-modern  the same, 2026-07-28 and nothing else
 *
 * Exits 0 and prints a line for each, or exits 1 and says what was wrong.
 */
import assert from "node:assert/strict";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as TransportV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client as ClientV2, StreamableHTTPClientTransport as TransportV2 } from "@modelcontextprotocol/client";

const url = new URL(process.env.MCP_URL);
const STEPS = 4;
const INTERVAL_MS = 400;
/** The tool that reports progress, by the name that each server under test has for it. */
const PROGRESS_TOOLS = {
  slow_progress: { steps: STEPS, interval_ms: INTERVAL_MS },
  "trigger-long-running-operation": { steps: STEPS, duration: (STEPS * INTERVAL_MS) / 1000 },
};

const v2 = (mode) => {
  const client = new ClientV2({ name: "interop", version: "1.0.0" }, { versionNegotiation: { mode } });
  const call = (params, options) => client.callTool(params, options);
  return { client, call, transport: new TransportV2(url), version: () => client.getNegotiatedProtocolVersion() };
};
const CLIENTS = {
  v1: () => {
    const client = new ClientV1({ name: "interop", version: "1.0.0" });
    const transport = new TransportV1(url);
    const call = (params, options) => client.callTool(params, undefined, options);
    return { client, call, transport, version: () => transport.protocolVersion };
  },
  "v2-legacy": () => v2("legacy"),
  "v2-auto": () => v2("auto"),
  "v2-modern": () => v2({ pin: "2026-07-28" }),
};

async function check(name) {
  const { client, call, transport, version } = CLIENTS[name]();
  await client.connect(transport);
  try {
    if (name !== "v2-auto") assert.equal(version() === "2026-07-28", name === "v2-modern", `negotiated ${version()}`);

    const tools = new Map((await client.listTools()).tools.map((tool) => [tool.name, tool]));
    assert(tools.has("echo"), `no tool echo in ${[...tools.keys()]}`);

    const [argument] = Object.keys(tools.get("echo").inputSchema.properties); // `text` here, `message` there
    const echoed = await call({ name: "echo", arguments: { [argument]: "grüße, 世界" } });
    assert(echoed.content[0].text.includes("grüße, 世界"), `echo returned ${JSON.stringify(echoed)}`);

    return `${version()}, ${tools.size} tools, ${await checkProgress(call, tools)}`;
  } finally {
    await transport.terminateSession?.().catch(() => {}); // DELETE; a server need not support it
    await client.close();
  }
}

/** Progress must come one by one, while the call still runs, and not in one piece with its result. */
async function checkProgress(call, tools) {
  const name = Object.keys(PROGRESS_TOOLS).find((known) => tools.has(known));
  const arrivals = [];
  const onprogress = ({ progress }) => arrivals.push({ at: performance.now(), progress });
  const result = await call({ name, arguments: PROGRESS_TOOLS[name] }, { onprogress, timeout: 30_000 });
  const end = performance.now();
  assert(!result.isError, `${name} returned ${JSON.stringify(result)}`);
  assert.deepEqual(arrivals.map((arrival) => arrival.progress), [1, 2, 3, 4], `${name} lost or repeated progress`);
  const gaps = arrivals.slice(1).map((arrival, i) => arrival.at - arrivals[i].at);
  // Half of an interval is left for the noise of a busy machine.
  assert(Math.min(...gaps) > INTERVAL_MS / 2, `progress came in bursts: gaps ${gaps}`);
  const lead = end - arrivals[0].at;
  assert(lead > INTERVAL_MS, `the first progress came ${lead} ms before the result`);
  return `${STEPS} progress notifications, the first ${(lead / 1000).toFixed(1)} s before the result`;
}

for (const name of (process.env.MCP_CLIENTS ?? Object.keys(CLIENTS).join(",")).split(",")) {
  try {
    console.log(`typescript ${name}: ok (${await check(name)})`);
  } catch (error) {
    console.error(`typescript ${name}: FAILED: ${error.message}`);
    process.exitCode = 1;
  }
}
