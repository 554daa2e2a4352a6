#!/usr/bin/env node
/**
 * Consent in a real browser, on oidc-provider's own pages for login and consent: what a user sees of the service
 * afterwards, where they are sent, and what nobody else may learn.
 *
 * BASE_URL    the service
 * SERVER_URL  the MCP server of oidc_provider.mjs
 * OUT_DIR, CHROMIUM  see ../console/page.mjs
 *
 * Exits 0 and prints a line for each part, or exits 1 and says what was wrong. What it makes at the service it deletes.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import {
  API, BASE_URL, DESKTOP, MCP_REFUSALS, PHONE,
  addByUrl, badge, card, checkAccessibility, deleteConnector, open, press, run,
} from "../console/page.mjs";

const { SERVER_URL } = process.env;
const CALLBACK = ["GET", /\/oauth\/callback\//, [400]];
const REFUSED = "The authorization was refused. Connect again to be asked once more.";

const metadataUrl = new URL("/.well-known/oauth-protected-resource/mcp", SERVER_URL);
const [ISSUER] = (await (await fetch(metadataUrl)).json()).authorization_servers;

async function call(method, path, body) {
  const headers = body && { "content-type": "application/json" };
  const response = await fetch(`${BASE_URL}${API}${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await response.text();
  assert(response.ok, `${method} ${path} answered ${response.status}: ${text}`);
  return text && JSON.parse(text);
}

/** A connector for as long as `work` takes, which may connect it again and again, each time with a URL to visit. */
async function withConnector(work) {
  const { id } = await call("POST", "", { url: SERVER_URL, match_preset: false });
  const connect = async (body) => (await call("POST", `/${id}/connect`, body)).auth_request.authorization_endpoint;
  const state = async () => (await call("GET", `/${id}`)).state;
  const disconnect = () => call("POST", `/${id}/disconnect`);
  try {
    return await work({ connect, disconnect, state });
  } finally {
    await call("DELETE", `/${id}`);
  }
}

/** The authorization server's pages. Who has logged in before is asked for consent alone. */
async function logIn(page) {
  await page.waitForURL(`${ISSUER}/interaction/*`);
  if (!(await page.getByPlaceholder("Enter any login").isVisible())) return;
  await page.getByPlaceholder("Enter any login").fill("someone");
  await page.getByPlaceholder("and password").fill("something");
  await press(page, "Sign-in");
}
const agree = async (page) => {
  await logIn(page);
  await press(page, "Continue");
};
const refuse = (page) => page.getByRole("link", { name: "Cancel" }).click();

/** What the service shows in the end: static, without script, and without what came in its URL. */
async function expectPage(page, title) {
  await page.getByRole("heading", { name: title, level: 1 }).waitFor();
  await page.waitForLoadState();
  const url = new URL(page.url());
  assert.equal(url.origin, BASE_URL);
  assert.equal(await page.title(), `${title} · Connectors`);
  const html = await page.content();
  assert(!/<script|<style|\sstyle=|\son\w+=/i.test(html), "the page has a script or a style of its own");
  for (const name of ["code", "state", "error_description"]) {
    const value = url.searchParams.get(name);
    assert(!value || !html.includes(value), `the page holds the ${name}`);
  }
  assert.equal(await page.locator(title === "Connected" ? ".mark.good" : ".mark.bad").count(), 1);
  const styled = await page.evaluate(() => document.styleSheets[0]?.cssRules.length > 0);
  assert(styled, "the style sheet was not applied");
}

/** The way from the last page to the console tells nothing of where it came from. */
async function leave(page) {
  const [request] = await Promise.all([
    page.waitForRequest(`${BASE_URL}/`),
    page.getByRole("link", { name: "open the console" }).click(),
  ]);
  assert.equal((await request.allHeaders()).referer, undefined);
  await page.waitForLoadState();
  assert.equal(await page.evaluate(() => document.referrer), "");
}

async function success(browser) {
  const { page, shot, close } = await open(browser, { visits: [ISSUER] });
  await withConnector(async ({ connect, state }) => {
    await page.goto(await connect());
    await agree(page);
    await expectPage(page, "Connected");
    assert.equal(await state(), "connected");
    await shot("success-light");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot("success-dark");
    await page.setViewportSize(PHONE);
    await shot("success-narrow");
    await leave(page);
  });
  await close();
  return "login, consent, our page, no referrer";
}

async function refusal(browser) {
  const { page, shot, close } = await open(browser, { visits: [ISSUER], expected: [CALLBACK] });
  await withConnector(async ({ connect, state }) => {
    await page.goto(await connect());
    await refuse(page); // at the login page
    await expectPage(page, "The connector is not connected");
    assert.equal(await state(), "disconnected");

    await page.goto(await connect());
    await logIn(page);
    await page.getByRole("heading", { name: "Authorize" }).waitFor();
    await refuse(page);
    await expectPage(page, "The connector is not connected");
    await shot("refusal-light");
    await page.emulateMedia({ colorScheme: "dark" });
    await shot("refusal-dark");
    await page.setViewportSize(PHONE);
    await shot("refusal-narrow");

    await page.reload();
    await expectPage(page, "This authorization is over");
    await leave(page);
  });
  await close();
  return "at login, at consent, and the page once more";
}

/** A page of somebody else's, to which `redirect_url` leads. */
async function redirects(browser) {
  const server = createServer((_, response) => {
    response.setHeader("content-type", "text/html");
    response.end('<!doctype html><title>Back</title><link rel="icon" href="data:,">');
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const origin = `http://127.0.0.1:${server.address().port}`;
  const redirect_url = `${origin}/back?keep=this&more=%2F+%C3%BC`;
  const { page, close } = await open(browser, { visits: [ISSUER, origin] });
  const arrive = async (work) => {
    const [request] = await Promise.all([page.waitForRequest((it) => it.url().startsWith(origin)), work()]);
    const { referer = "" } = await request.allHeaders();
    assert(!referer.startsWith(BASE_URL), `the referrer is ${referer}`);
    await page.waitForURL(`${origin}/**`);
    return page.url();
  };
  try {
    await withConnector(async ({ connect, disconnect, state }) => {
      await page.goto(await connect({ redirect_url }));
      await logIn(page);
      const refused = await arrive(() => refuse(page));
      assert(refused.startsWith(`${redirect_url}&`), refused);
      const { searchParams } = new URL(refused);
      assert.equal(searchParams.get("error"), "access_denied");
      assert.equal(searchParams.get("error_description"), REFUSED);
      assert.deepEqual([...searchParams.keys()], ["keep", "more", "error", "error_description"]);
      assert.equal(await state(), "disconnected");

      await page.goto(await connect({ redirect_url }));
      assert.equal(await arrive(() => agree(page)), redirect_url);
      assert.equal(await state(), "connected");
      await disconnect();
    });
    await close();
  } finally {
    server.close();
    server.closeAllConnections();
  }
  return "refused with error and error_description, agreed with the URL untouched";
}

/** The console, whose user goes on to the authorization server in a second tab and comes back. */
async function journey(browser) {
  const expected = [CALLBACK, ...MCP_REFUSALS];
  const { context, page, shot, close, go } = await open(browser, { visits: [ISSUER], expected });
  const visit = async () => {
    const [tab] = await Promise.all([
      context.waitForEvent("page"),
      card(page, "Protected").getByRole("link", { name: /^Continue at 127\.0\.0\.1/ }).click(),
    ]);
    return tab;
  };
  await go();
  await addByUrl(page, SERVER_URL, "Protected");
  await badge(page, "Protected", "Waiting for you");
  await shot("console-waiting");

  const first = await visit();
  await refuse(first);
  await expectPage(first, "The connector is not connected");
  await badge(page, "Protected", "Disconnected");
  await shot("console-refused");
  await first.close();

  await press(card(page, "Protected"), /^Connect/);
  await badge(page, "Protected", "Waiting for you");
  const second = await visit();
  await agree(second);
  await expectPage(second, "Connected");
  await badge(page, "Protected", "Connected");
  await shot("console-connected");

  await card(page, "Protected").getByText("Try its tools").click();
  await card(page, "Protected").getByRole("radio", { name: "echo", exact: true }).check();
  await card(page, "Protected").getByLabel("Arguments (JSON)").fill('{"text": "as somebody"}');
  await press(card(page, "Protected"), "Call the tool");
  await card(page, "Protected").getByRole("region", { name: "Result" }).getByText("as somebody").first().waitFor();
  await deleteConnector(page, "Protected");
  await close();
  return "added by URL, refused, connected, a tool called, deleted";
}

/** Both pages in light, dark and on a small screen. The policy is off: axe is a script that it would rightly refuse. */
async function accessibility(browser) {
  const { page, close } = await open(browser, { visits: [ISSUER], bypassCSP: true, expected: [CALLBACK] });
  let checked = 0;
  const check = async (place) => {
    for (const [name, viewport, colorScheme] of [
      ["light", DESKTOP, "light"],
      ["dark", DESKTOP, "dark"],
      ["narrow", PHONE, "light"],
      ["zoomed", { width: 320, height: 500 }, "dark"],
    ]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      await checkAccessibility(page, `${place}, ${name}`);
      checked += 1;
    }
  };
  await withConnector(async ({ connect }) => {
    await page.goto(await connect());
    await refuse(page);
    await expectPage(page, "The connector is not connected");
    await check("refusal");
    await page.goto(await connect());
    await agree(page);
    await expectPage(page, "Connected");
    await check("success");
  });
  await close();
  return `${checked} views without a violation`;
}

await run("oauth", [success, refusal, redirects, journey, accessibility]);
