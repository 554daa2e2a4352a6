#!/usr/bin/env node
/**
 * The server scenarios of the official conformance suite against one MCP endpoint, and the comparison of two such runs.
 *
 *   MCP_URL=… conformance.mjs run OUT.json
 *     Runs both requirement sets and writes what came of each check. Exits 0 if the suite ran to its end, whatever the
 *     outcome: a server may fail what a proxy before it cannot mend.
 *
 *   conformance.mjs compare DIRECT.json THROUGH.json
 *     Exits 0 if, directly, every scored scenario passes (else the comparison would say little), and if every check that
 *     succeeds directly succeeds through the connector as well. Otherwise exits 1 and names what was lost.
 *
 * OUT.json: {requirement: {scenario: {scored, status, checks_passed, checks_failed, checks: {id: {status, error?}}}}}
 * with status `pass`, `fail` or `skipped`. A check id that comes more than once in a scenario gets `#2`, `#3`, … appended:
 * the order is the suite's own and does not vary.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const REQUIREMENTS = ["2025-11-25", "2026-07-28"];
const SUITE = fileURLToPath(new URL("node_modules/@modelcontextprotocol/conformance/dist/index.js", import.meta.url));

function suite(...args) {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [SUITE, ...args], {
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
    timeout: 10 * 60 * 1000,
  });
  if (error) throw error;
  return { status, stdout, stderr };
}

/** The scenarios that a server must pass to conform; the suite runs some more for information. */
function scored(requirement) {
  const { stdout } = suite("list", "--server", "--requirements", requirement);
  const section = stdout.split("Server scenarios")[1].split("\n\n")[0];
  return [...section.matchAll(/^ {2}- (\S+)$/gm)].map((match) => match[1]);
}

function outcome(checks) {
  const named = {};
  for (const { id, status, errorMessage } of checks) {
    let name = id;
    for (let n = 2; name in named; n++) name = `${id}#${n}`;
    named[name] = errorMessage && status !== "SUCCESS" ? { status, error: errorMessage } : { status };
  }
  const count = (wanted) => checks.filter(({ status }) => status === wanted).length;
  const [passed, failed] = [count("SUCCESS"), count("FAILURE")];
  const status = failed ? "fail" : passed ? "pass" : "skipped";
  return { status, checks_passed: passed, checks_failed: failed, checks: named };
}

function runRequirement(url, requirement) {
  const directory = mkdtempSync(join(tmpdir(), "conformance-"));
  try {
    const { status, stdout, stderr } = suite("server", "--url", url, "--requirements", requirement, "-o", directory);
    // The suite exits with 1 for a failed scenario as for its own errors; only at its end does it print a summary.
    if (!stdout.includes("=== SUMMARY ===")) throw new Error(`the suite ended early, status ${status}: ${stderr}`);
    const results = {};
    const required = new Set(scored(requirement));
    for (const entry of readdirSync(directory)) {
      // The directory of a scenario is `server-NAME-TIMESTAMP`; without a file in it the scenario threw an exception.
      const scenario = entry.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT[\d-]+Z$/, "");
      const file = join(directory, entry, "checks.json");
      const checks = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [{ id: "threw", status: "FAILURE" }];
      results[scenario] = { scored: required.has(scenario), ...outcome(checks) };
    }
    const missing = [...required].filter((scenario) => !(scenario in results));
    if (missing.length) throw new Error(`the suite did not run ${missing}`);
    return results;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function run(url, out) {
  const report = {};
  for (const requirement of REQUIREMENTS) {
    report[requirement] = runRequirement(url, requirement);
    const all = Object.values(report[requirement]);
    const passing = (list) => `${list.filter(({ status }) => status === "pass").length} of ${list.length}`;
    const checks = all.reduce((sum, { checks_passed }) => sum + checks_passed, 0);
    console.log(
      `conformance ${requirement}: ${passing(all.filter((s) => s.scored))} scored scenarios pass, ` +
        `${passing(all.filter((s) => !s.scored))} others, ${checks} checks succeed`,
    );
  }
  writeFileSync(out, JSON.stringify(report, null, 1) + "\n");
  return 0;
}

function compare(directFile, throughFile) {
  const [direct, through] = [directFile, throughFile].map((file) => JSON.parse(readFileSync(file, "utf8")));
  const complaints = [];
  let compared = 0;
  for (const requirement of REQUIREMENTS) {
    for (const [scenario, here] of Object.entries(direct[requirement])) {
      if (here.scored && here.status !== "pass") complaints.push(`${requirement} ${scenario}: does not pass directly`);
      const there = through[requirement]?.[scenario];
      for (const [id, { status }] of Object.entries(here.checks)) {
        if (status !== "SUCCESS") continue;
        compared += 1;
        const found = there?.checks[id] ?? { status: "missing" };
        if (found.status === "SUCCESS") continue;
        complaints.push(`${requirement} ${scenario} ${id}: ${found.status} through the connector: ${found.error ?? ""}`);
      }
      // A failure that has no counterpart in the direct run, such as a timeout of the scenario.
      if (here.status === "pass" && there?.status !== "pass") complaints.push(`${requirement} ${scenario}: ${there?.status}`);
    }
  }
  complaints.forEach((complaint) => console.error(complaint));
  console.log(`conformance: ${compared} checks succeed directly, ${complaints.length} complaints through the connector`);
  return complaints.length ? 1 : 0;
}

const [command, ...files] = process.argv.slice(2);
if (command === "run" && process.env.MCP_URL && files.length === 1) process.exitCode = run(process.env.MCP_URL, files[0]);
else if (command === "compare" && files.length === 2) process.exitCode = compare(...files);
else {
  console.error("usage: MCP_URL=… conformance.mjs run OUT.json | conformance.mjs compare DIRECT.json THROUGH.json");
  process.exitCode = 2;
}
