/**
 * Pages of the service in a real browser, which report whatever no page of it may do. The drivers in this folder and in
 * `oauth/` are written with it.
 *
 * BASE_URL  the service
 * OUT_DIR   where screenshots go; default: nowhere
 * CHROMIUM  the browser; default /usr/bin/chromium
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

export const BASE_URL = process.env.BASE_URL.replace(/\/$/, "");
export const API = "/api/v1/connectors";
export const DESKTOP = { width: 1280, height: 900 };
export const PHONE = { width: 375, height: 740 };
/** Answers of MCP servers that are in order: one with sessions refuses what comes without, and need not let them be ended. */
export const MCP_REFUSALS = [
  ["POST", /\/mcp$/, [400, 404, 405, 406, 415, 422]],
  ["DELETE", /\/mcp$/, [400, 404, 405]],
];

const { OUT_DIR, CHROMIUM = "/usr/bin/chromium" } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
];
const SECRET = /[?&](code|state)=/;

if (OUT_DIR) mkdirSync(OUT_DIR, { recursive: true });

export const press = (place, name) => place.getByRole("button", { name }).click();

/** Runs the parts of a driver in one browser, and prints a line for each. */
export async function run(driver, parts) {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  try {
    for (const part of parts) console.log(`${driver}, ${part.name}: ok (${await part(browser)})`);
  } finally {
    await browser.close();
  }
}

/**
 * A page, and reports of what it and the pages that it opens may not do. `expected` lists answers that a part provokes:
 * [method, path, statuses]. `visits` lists the origins that users are sent to; what those pages do is their own matter,
 * except that nothing leaves the machine and that no referrer may tell a code or a state.
 */
export async function open(browser, { path = "/", expected = [], visits = [], ...options } = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(15_000);
  const faults = [];
  const looks = [];
  const visited = (url) => visits.includes(URL.parse(url)?.origin);
  context.on("weberror", (error) => !visited(error.page()?.url()) && faults.push(`exception: ${error.error()}`));
  context.on("console", (message) => {
    // Chromium writes this line for each answer of 400 and above; the answers themselves are looked at below.
    const answer = message.text().startsWith("Failed to load resource");
    const own = !visited(message.location().url) && !visited(message.page()?.url());
    if (own && ["error", "warning"].includes(message.type()) && !answer) faults.push(`console: ${message.text()}`);
  });
  context.on("response", (response) => {
    const [method, url, status] = [response.request().method(), new URL(response.url()), response.status()];
    const known = expected.some(([m, p, s]) => m === method && p.test(url.pathname) && s.includes(status));
    if (status >= 400 && !known && !visited(url)) faults.push(`${method} ${url.pathname} answered ${status}`);
  });
  context.on("request", (request) => {
    const url = new URL(request.url());
    const begun = !request.isNavigationRequest() && visited(request.frame().url());
    const allowed = begun || (request.isNavigationRequest() && visited(url));
    if (url.protocol !== "data:" && url.origin !== BASE_URL && !allowed) faults.push(`the page asked for ${url}`);
    const look = request.allHeaders().then(({ referer }) => {
      if (SECRET.test(referer)) faults.push(`the referrer at ${url.origin}${url.pathname} tells a code or a state`);
    });
    looks.push(look.catch(() => {})); // the page was closed before it was sent
  });
  if (visits.length) {
    await context.route((url) => url.origin !== BASE_URL && !visited(url), (route) => route.abort());
  }
  await context.exposeFunction("reportViolation", (text, origin) => {
    if (!visited(origin)) faults.push(`Content-Security-Policy: ${text}`);
  });
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (e) =>
      window.reportViolation(`${e.violatedDirective} ${e.blockedURI}`, location.origin),
    );
  });
  const page = await context.newPage();
  const shot = (name, of = page) => OUT_DIR && of.screenshot({ path: join(OUT_DIR, `${name}.png`), fullPage: true });
  const close = async () => {
    await Promise.all(looks);
    await context.close();
    assert.deepEqual(faults, []);
  };
  return { context, page, shot, close, go: () => page.goto(BASE_URL + path) };
}

/** The rules of axe for WCAG 2.2 AA and good practice, and no scrolling sideways. Needs a page without a policy. */
export async function checkAccessibility(page, place) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(", ")}`);
  assert.deepEqual(found, [], place);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert(wide <= 0, `${place}: ${wide} pixels too wide`);
}

/** The console: the card of the connector called `name`, and what is done there. */
export const card = (page, name) => page.getByRole("article", { name, exact: true });
export const badge = (page, name, text) => card(page, name).locator(".badge").getByText(text, { exact: true }).waitFor();

export async function addByUrl(page, url, name) {
  await page.getByLabel("URL of the MCP server").fill(url);
  if (name) {
    const more = page.getByText("Name, access token, OAuth client");
    if (!(await page.getByLabel("Name").isVisible())) await more.click();
    await page.getByLabel("Name").fill(name);
  }
  await press(page.locator("#add"), "Add and connect");
}

export async function deleteConnector(page, name) {
  await press(card(page, name), /^Delete/);
  const dialog = page.getByRole("dialog", { name: `Delete ${name}?` });
  await press(dialog, "Delete");
  await card(page, name).waitFor({ state: "detached" });
}
