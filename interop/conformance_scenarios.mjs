#!/usr/bin/env node
/**
 * The client scenarios of the official conformance suite, with the service as the client under test.
 *
 *   BASE_URL=… conformance_scenarios.mjs SET
 *
 * SET is a requirement set, `2025-11-25` or `2026-07-28`, or `backcompat` for what came before them. Prints what came of
 * each scenario. Exits 0 if every one that applies to the service passes; a scenario that is in no list fails the run.
 *
 * The service at BASE_URL must be a fresh one for each run, for ports come again and authorization servers with them. It
 * needs the setting OAUTH__CLIENT_METADATA_URL=https://conformance-test.local/client-metadata.json, which is the client
 * id that the suite expects. EGRESS__IDLE_TIMEOUT=1 saves a minute: some scenarios end when their last connection does.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const SUITE = join(HERE, "node_modules/@modelcontextprotocol/conformance/dist/index.js");

/** What the suite is told to run. */
const SETS = {
  "2025-11-25": ["--requirements", "2025-11-25"],
  "2026-07-28": ["--requirements", "2026-07-28"],
  backcompat: ["--suite", "backcompat"],
};

/** The scenarios that apply, and the end to which the client must come in each; `null` where only the checks decide. */
const APPLICABLE = {
  "auth/2025-03-26-oauth-endpoint-fallback": "called",
  "auth/2025-03-26-oauth-metadata-backcompat": "called",
  "auth/authorization-server-migration": "called",
  "auth/basic-cimd": "called",
  "auth/iss-normalized": "answer refused",
  "auth/iss-not-advertised": "called",
  "auth/iss-supported": "called",
  "auth/iss-supported-missing": "answer refused",
  "auth/iss-unexpected": "answer refused",
  "auth/iss-wrong-issuer": "answer refused",
  "auth/metadata-default": "called",
  "auth/metadata-issuer-mismatch": "authorization_metadata_invalid",
  "auth/metadata-var1": "called",
  "auth/metadata-var2": "called",
  "auth/metadata-var3": "called",
  "auth/offline-access-not-supported": "called",
  "auth/offline-access-scope": "called",
  "auth/pre-registration": "called",
  "auth/resource-mismatch": "authorization_metadata_invalid",
  "auth/scope-from-scopes-supported": "called",
  "auth/scope-from-www-authenticate": "called",
  "auth/scope-omitted-when-undefined": "called",
  // Its server never lets anybody in. How often the user is asked is what counts.
  "auth/scope-retry-limit": null,
  "auth/scope-step-up": "called",
  "auth/token-endpoint-auth-basic": "called",
  "auth/token-endpoint-auth-none": "called",
  "auth/token-endpoint-auth-post": "called",
  "http-custom-headers": "called",
  "http-invalid-tool-headers": "called",
  initialize: "called",
  // Its server has no tool that could be called, though it lists one.
  "json-schema-ref-no-deref": "call failed",
  "sse-retry": "called",
  tools_call: "called",
};

/** Of those, the ones whose outcome does not count yet, and what the service lacks. */
const LACKING = {};

const NO_USER = "a grant without a user: the service acts for users who consent at the authorization server";
const DPOP = "an extension: the service sends bearer tokens";
const IN_FRONT = "what the MCP client in front of the service does; the service relays it as it is";
const BOTH_ERAS = "the service asks a server for both eras, and this one takes `initialize` for a request of 2026-07-28";

/** The scenarios that do not apply, and why. */
const INAPPLICABLE = {
  "auth/client-credentials-basic": NO_USER,
  "auth/client-credentials-jwt": NO_USER,
  "auth/dpop": DPOP,
  "auth/dpop-nonce": DPOP,
  "auth/enterprise-managed-authorization": NO_USER,
  "auth/wif-jwt-bearer": NO_USER,
  "elicitation-sep1034-client-defaults": IN_FRONT,
  "http-standard-headers": BOTH_ERAS,
  "json-schema-2020-12-preservation": IN_FRONT,
  "request-metadata": BOTH_ERAS,
  "sep-2322-client-request-state": IN_FRONT,
};

/** What speaks against a scenario, as its results in `directory` show; empty if it passes. */
function complaints(scenario, directory) {
  const file = join(directory, "checks.json");
  if (!existsSync(file)) return ["the suite did not run it to its end"];
  const checks = JSON.parse(readFileSync(file, "utf8"));
  const bad = checks.filter(({ status }) => status === "FAILURE" || status === "WARNING");
  const found = bad.map(({ id, description, errorMessage }) => `${id}: ${errorMessage ?? description}`);
  if (!checks.some(({ status }) => status === "SUCCESS")) found.push("no check succeeded");
  const end = readFileSync(join(directory, "stdout.txt"), "utf8").match(/^end: (.*)$/m)?.[1] ?? "it did not come to its end";
  const wanted = APPLICABLE[scenario];
  if (wanted && end !== wanted) found.push(`the client ended with "${end}", not with "${wanted}"`);
  return found;
}

/** The folders of the results by scenario. A folder is `SCENARIO-TIMESTAMP`, and the name of a scenario may have a slash. */
function results(directory) {
  const folders = readdirSync(directory, { recursive: true }).map((path) => path.replaceAll("\\", "/"));
  const found = folders.flatMap((folder) => {
    const [, scenario] = folder.match(/^(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/) ?? [];
    return scenario ? [[scenario, join(directory, folder)]] : [];
  });
  return new Map(found.sort());
}

function run(set) {
  const directory = mkdtempSync(join(tmpdir(), "conformance-"));
  const log = [];
  try {
    const command = ["client", "--command", "node conformance_client.mjs", ...SETS[set], "-o", directory];
    const { stdout, stderr, error } = spawnSync(process.execPath, [SUITE, ...command], {
      cwd: HERE,
      encoding: "utf8",
      maxBuffer: 256 * 1024 * 1024,
      timeout: 5 * 60 * 1000,
    });
    if (error) throw error;
    // The suite exits with 1 for a failed scenario as for its own errors; only at its end does it print a summary.
    if (!stdout.includes("=== SUITE SUMMARY ===")) throw new Error(`the suite ended early: ${stderr}`);

    const counts = { passed: 0, lacking: 0, inapplicable: 0, failed: 0 };
    for (const [scenario, folder] of results(directory)) {
      const found = complaints(scenario, folder);
      let outcome, reasons;
      if (scenario in INAPPLICABLE) [outcome, reasons] = ["inapplicable", [INAPPLICABLE[scenario]]];
      else if (!(scenario in APPLICABLE)) [outcome, reasons] = ["failed", ["it is in none of the lists"]];
      else if (!found.length) [outcome, reasons] = ["passed", []];
      else if (scenario in LACKING) [outcome, reasons] = ["lacking", [LACKING[scenario]]];
      else [outcome, reasons] = ["failed", [...found, readFileSync(join(folder, "stdout.txt"), "utf8").trim()]];
      counts[outcome] += 1;
      log.push([`${outcome.padEnd(14)}${scenario}`, ...reasons.map((reason) => `    ${reason}`)].join("\n"));
    }
    console.log(log.join("\n"));
    const counted = Object.entries(counts).map(([outcome, count]) => `${count} ${outcome}`);
    console.log(`conformance of the client, ${set}: ${counted.join(", ")}`);
    return counts.failed || !counts.passed ? 1 : 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const [set, ...rest] = process.argv.slice(2);
if (process.env.BASE_URL && set in SETS && !rest.length) process.exitCode = run(set);
else {
  console.error(`usage: BASE_URL=… conformance_scenarios.mjs ${Object.keys(SETS).join(" | ")}`);
  process.exitCode = 2;
}
