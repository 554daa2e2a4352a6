#!/usr/bin/env node
/**
 * The console in a real browser: the journey of a first user, the states that a service seldom shows, and accessibility.
 *
 * BASE_URL    the service, which must have no connectors yet and may talk to SERVER_URL
 * SERVER_URL  an MCP server that asks for no login, with a tool `echo` that takes one text
 * OUT_DIR, CHROMIUM  see page.mjs
 *
 * Exits 0 and prints a line for each part, or exits 1 and says what was wrong. What it makes at the service it deletes.
 */
import assert from "node:assert/strict";
import {
  API, BASE_URL, DESKTOP, MCP_REFUSALS, PHONE,
  addByUrl, badge, card, checkAccessibility, deleteConnector, open, press, run,
} from "./page.mjs";

const { SERVER_URL } = process.env;

/** A first user: nothing there, a wrong URL, a server, its tools, and everything gone again. */
async function journey(browser) {
  const { page, shot, close, go } = await open(browser, {
    permissions: ["clipboard-read", "clipboard-write"],
    expected: [
      ["POST", /connectors$/, [400, 409]],
      ["POST", /\/connect$/, [502, 504]],
      ...MCP_REFUSALS,
    ],
  });
  await go();
  await page.getByRole("heading", { name: "No connectors yet" }).waitFor();
  await page.locator(".preset").first().waitFor();
  await shot("01-empty");

  await press(page, "Add a server by its URL");
  const field = page.getByLabel("URL of the MCP server");
  assert(await field.evaluate((input) => input === document.activeElement), "the field has no focus");
  await addByUrl(page, "");
  await page.getByText("Enter the URL of the server.").waitFor();
  await addByUrl(page, "ftp://files.example.com");
  await page.locator("#add-url-error").getByText("scheme").waitFor();
  assert.equal(await field.getAttribute("aria-invalid"), "true");
  await shot("02-bad-url");

  await addByUrl(page, SERVER_URL, "Journey");
  await badge(page, "Journey", "Connected");
  assert.equal(await field.inputValue(), "", "the form was not emptied");
  assert.equal(await page.locator("#add-url-error").textContent(), "");
  await shot("03-connected");

  await addByUrl(page, SERVER_URL);
  await page.locator("#add-url-error").getByText("already").waitFor();

  const address = await card(page, "Journey").locator("[data-address]").textContent();
  await press(card(page, "Journey").locator(".endpoint"), /^Copy/);
  await page.getByRole("status").getByText("Copied.").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), address);
  await setUp(page, address);
  await shot("04-set-up");
  await tryTools(page, shot);

  // What is shown comes from the service, not from this page's memory.
  await page.reload();
  await badge(page, "Journey", "Connected");
  await press(card(page, "Journey"), /^Disconnect/);
  await badge(page, "Journey", "Disconnected");
  await card(page, "Journey").getByText("You disconnected it.").waitFor();
  await shot("06-disconnected");
  await press(card(page, "Journey"), /^Connect/);
  await badge(page, "Journey", "Connected");

  const wrong = new URL("/no-mcp-here", SERVER_URL).href;
  await addByUrl(page, wrong, "Wrong path");
  await badge(page, "Wrong path", "Disconnected");
  assert.notEqual(await card(page, "Wrong path").locator("[data-reason]").textContent(), "");
  await press(card(page, "Wrong path"), /^Use a token/);
  await page.getByRole("dialog").getByLabel("Access token").fill("one-that-does-not-help");
  await press(page.getByRole("dialog"), "Connect");
  await badge(page, "Wrong path", "Disconnected");
  await shot("07-failed");

  await press(card(page, "Wrong path"), /^Delete/);
  await shot("08-delete");
  await press(page.getByRole("dialog"), "Cancel");
  assert(await card(page, "Wrong path").isVisible(), "cancelling deleted it");
  await deleteConnector(page, "Wrong path");
  await deleteConnector(page, "Journey");
  await page.getByRole("heading", { name: "No connectors yet" }).waitFor();
  await close();
  return "empty, wrong URL, add, set up, try, disconnect, reconnect, fail, delete";
}

async function setUp(page, address) {
  const place = card(page, "Journey");
  await place.getByText("Set up a client").click();
  const snippet = place.locator(".snippet code");
  assert.deepEqual(JSON.parse(await snippet.textContent()), {
    mcpServers: { journey: { type: "http", url: address } },
  });
  for (const [client, part] of [
    ["Inspector", `--cli \\\n  ${address}`],
    ["curl", `curl ${address}`],
    ["Agent Stack SDK", `base_url="${BASE_URL}"`],
  ]) {
    await place.getByRole("radio", { name: client }).check();
    assert((await snippet.textContent()).includes(part), `${client}: ${await snippet.textContent()}`);
  }
}

async function tryTools(page, shot) {
  const place = card(page, "Journey");
  const [opened, ended] = [new Set(), new Set()];
  page.on("response", (response) => {
    const [request, session] = [response.request(), response.headers()["mcp-session-id"]];
    if (session) opened.add(session);
    if (request.method() === "DELETE") ended.add(request.headers()["mcp-session-id"]);
  });
  await place.getByText("Try its tools").click();
  await place.getByRole("radio", { name: "echo", exact: true }).check();
  const input = place.getByLabel("Arguments (JSON)");
  await input.fill("not JSON");
  await press(place, "Call the tool");
  await place.getByText("The arguments must be a JSON object").waitFor();
  const schema = JSON.parse(await place.locator("[data-schema]").textContent());
  const [argument] = Object.keys(schema.properties); // `text` here, `message` there
  const markup = "<img src=x onerror=alert(1)> grüße, 世界";
  await input.fill(JSON.stringify({ [argument]: markup }));
  await press(place, "Call the tool");
  await place.getByRole("region", { name: "Result" }).locator("pre").first().getByText(markup).waitFor();
  assert.equal(await place.locator("img").count(), 0, "a server's text became markup");
  assert.deepEqual(ended, opened, "a session was left open");
  await shot("05-tried");
}

const connector = (number, more) => ({
  ...{ id: `01900000-0000-7000-8000-${String(number).padStart(12, "0")}`, url: `https://mcp-${number}.example.com/mcp` },
  ...{ state: "connected", lifecycle: "connected", auth_request: null, disconnect_reason: null, disconnect_code: null },
  ...{ metadata: { name: `Server ${number}` }, created_at: "2026-01-01T00:00:00Z", updated_at: "2026-01-01T00:00:00Z" },
  ...{ created_by: "450795bb-5dbd-550e-97ff-a41db5934e50", ...more },
});
const waiting = (endpoint) => ({
  ...{ state: "auth_required", lifecycle: "connecting" },
  auth_request: { type: "code", authorization_endpoint: endpoint },
});
const listOf = (items, next = null) => ({
  json: { items, total_count: next ? items.length + 1 : items.length, has_more: next !== null, next_page_token: next },
});

/** States that need a server of a special kind, told to the page by answers that the service did not give. */
async function seldom(browser) {
  const { page, shot, close, go } = await open(browser, { expected: [["GET", /connectors$/, [503]]] });
  let answer;
  await page.route((url) => url.pathname === API, (route) => answer(route));
  const offers = [connector(1), connector(5)].map(({ url, metadata }) => ({ url: `${url}/`, metadata }));
  await page.route((url) => url.pathname === `${API}/presets`, (route) => route.fulfill(listOf(offers)));

  answer = (route) => route.fulfill({ status: 503, json: { detail: "The database cannot be reached now.", status: 503 } });
  await go();
  await page.getByRole("alert").getByText("The database cannot be reached now.").waitFor();
  await shot("11-away");
  answer = (route) => route.abort();
  await press(page, "Try now");
  await page.getByRole("alert").getByText("It does not answer.").waitFor();

  const endpoint = "https://login.example.com/authorize?state=x";
  const asked = [];
  answer = (route) => {
    const token = new URL(route.request().url()).searchParams.get("page_token");
    asked.push(token);
    if (token) return route.fulfill(listOf([connector(4)]));
    const bad = connector(2, waiting("javascript:alert(1)"));
    const refused = { state: "disconnected", lifecycle: "disconnected", disconnect_code: "authorization_required" };
    const third = connector(3, { ...refused, disconnect_reason: "The server demands authorization." });
    return route.fulfill(listOf([connector(1, waiting(endpoint)), bad, third], "next"));
  };
  let signedIn = false;
  await page.route(new RegExp(`${API}/0190`), (route) => {
    const number = Number(/-(\d{12})/.exec(route.request().url())[1]);
    if (number === 5) return route.fulfill({ json: connector(5) });
    const state = number === 1 && signedIn ? {} : waiting(number === 1 ? endpoint : "javascript:alert(1)");
    return route.fulfill({ json: connector(number, state) });
  });
  await page.getByRole("alert").waitFor({ state: "hidden" }); // by itself
  await badge(page, "Server 1", "Waiting for you");
  const link = card(page, "Server 1").getByRole("link", { name: /^Continue at login\.example\.com/ });
  assert.equal(await link.getAttribute("href"), endpoint);
  assert.equal(await card(page, "Server 2").getByRole("link").count(), 0, "a link to javascript:");
  await card(page, "Server 2").getByText("no web address").waitFor();
  await page.getByRole("link", { name: "Added – Waiting for you" }).waitFor();
  await shot("12-waiting");
  signedIn = true;
  await badge(page, "Server 1", "Connected");

  await press(page, "Load more");
  await card(page, "Server 4").waitFor();
  assert(asked.includes("next"), "the page token was not sent");
  assert.equal(await page.locator("#list > li").count(), 4);
  assert(!(await page.getByRole("button", { name: "Load more" }).isVisible()));

  answer = (route) => {
    assert.deepEqual(route.request().postDataJSON(), { url: offers[1].url });
    return route.fulfill({ status: 201, json: connector(5, { state: "created", lifecycle: "created" }) });
  };
  await press(page, "Add and connect Server 5");
  await badge(page, "Server 5", "Connected");
  assert.equal(await page.getByRole("link", { name: "Added – Connected" }).count(), 2);
  await shot("13-preset");
  await close();
  return "service away and back, waiting for the user, no link to javascript:, a second page, a preset";
}

/** Every view in light, dark and on a small screen. */
async function accessibility(browser) {
  let checked = 0;
  for (const [name, options] of [
    ["light", { viewport: DESKTOP, colorScheme: "light" }],
    ["dark", { viewport: DESKTOP, colorScheme: "dark" }],
    ["phone", { viewport: PHONE, colorScheme: "light", hasTouch: true }],
  ]) {
    // Only here is the policy off: axe is a script that it would rightly refuse.
    const expected = [...MCP_REFUSALS, ["GET", /callback$/, [400]]];
    const { page, shot, close, go } = await open(browser, { ...options, bypassCSP: true, expected });
    const check = async (place) => {
      await checkAccessibility(page, `${place}, ${name}`);
      await shot(`2-${name}-${place}`);
      checked += 1;
    };
    await go();
    await page.getByRole("heading", { name: "No connectors yet" }).waitFor();
    await check("empty");
    await addByUrl(page, SERVER_URL, "Looked at");
    await badge(page, "Looked at", "Connected");
    await page.locator("#toast:empty").waitFor({ state: "attached" });
    await card(page, "Looked at").getByText("Set up a client").click();
    await card(page, "Looked at").getByText("Try its tools").click();
    await card(page, "Looked at").getByRole("radio", { name: "echo", exact: true }).check();
    await press(card(page, "Looked at"), "Call the tool");
    await card(page, "Looked at").locator("[data-result], [data-try-error]").filter({ visible: true }).first().waitFor();
    await check("connected");
    await press(card(page, "Looked at"), /^Change token/);
    await check("token");
    await page.keyboard.press("Escape");
    await press(card(page, "Looked at"), /^Disconnect/);
    await badge(page, "Looked at", "Disconnected");
    await check("disconnected");
    await deleteConnector(page, "Looked at");
    for (const [place, path] of [["docs", "/docs"], ["callback", `${API}/oauth/callback`]]) {
      await page.goto(BASE_URL + path);
      await check(place);
    }
    await close();
  }
  return `${checked} views without a violation`;
}

await run("console", [journey, seldom, accessibility]);
