#!/usr/bin/env node
/**
 * A user who is asked for consent, without a browser: follows redirects, keeps cookies, fills in the forms of login
 * and consent pages, and comes back to the service.
 *
 * Run: consent.mjs URL, which is how a program opens what `BROWSER` names. Exits 0 and prints where it ended, or exits 1.
 */
import { pathToFileURL } from "node:url";

const MAX_STEPS = 20;
const CALLBACK = /\/api\/v1\/connectors\/oauth\/callback(\/|$)/;

const unescape = (text) => text.replaceAll("&amp;", "&").replaceAll("&quot;", '"');
const attributes = (tag) =>
  Object.fromEntries([...tag.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, unescape(value)]));

/** The form of a page with all its fields, texts filled in; nothing if there is none. */
function filledIn(page, url) {
  const form = /<form[^>]*>/.exec(page);
  if (!form) return undefined;
  const inputs = [...page.matchAll(/<input[^>]*>/g)].map(([tag]) => attributes(tag)).filter(({ name }) => name);
  const body = new URLSearchParams(inputs.map(({ name, value }) => [name, value ?? "someone"]));
  return [new URL(attributes(form[0]).action ?? "", url), { method: "POST", body }];
}

/** The link by which a page lets its user refuse. */
function refusal(page, url) {
  const link = /<a href="([^"]*)">\[ Cancel \]/.exec(page);
  if (!link) throw new Error(`there is no way to refuse at ${url.origin}${url.pathname}`);
  return [new URL(unescape(link[1]), url), {}];
}

/**
 * Visits an authorization endpoint and does what its pages ask, or refuses at the page `refuseAt`, counted from 1.
 * Returns the callback's URL, and its response, which may be a redirect further on.
 */
export async function consent(start, { refuseAt } = {}) {
  const cookies = new Map();
  let [url, init, pages] = [new URL(start), {}, 0];
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const jar = cookies.get(url.origin) ?? new Map();
    cookies.set(url.origin, jar);
    const headers = { cookie: [...jar].map((pair) => pair.join("=")).join("; ") };
    const response = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      jar.set(name, value);
    }
    if (CALLBACK.test(url.pathname)) return { url, response };
    const location = response.headers.get("location");
    if (location) {
      [url, init] = [new URL(location, url), {}];
      continue;
    }
    const page = await response.text();
    if (!response.ok) throw new Error(`${url.origin}${url.pathname} answered ${response.status}: ${page}`);
    pages += 1;
    const next = pages === refuseAt ? refusal(page, url) : filledIn(page, url);
    if (!next) throw new Error(`${url.origin}${url.pathname} is a page without a form`);
    [url, init] = next;
  }
  throw new Error(`no way back to the service in ${MAX_STEPS} steps`);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { url, response } = await consent(process.argv[2]);
  console.log(`${url.origin}${url.pathname} answered ${response.status}`);
  process.exitCode = response.status < 400 ? 0 : 1;
}
