#!/usr/bin/env node
/**
 * A user who is asked for consent, without a browser: follows redirects, keeps cookies, fills in the forms of login,
 * consent and other pages, and comes back to where he is awaited.
 *
 * Run: consent.mjs URL [--as NAME] [--until PREFIX], which is how a program opens what `BROWSER` names. Exits 0 and prints
 * where it ended, or exits 1. NAME is what goes into login forms. With PREFIX it ends before it visits a URL that begins so,
 * and prints that URL; without it, at the callback of the service.
 */
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const MAX_STEPS = 30;
const CALLBACK = /\/api\/v1\/connectors\/oauth\/callback(\/|$)/;

const unescape = (text) =>
  text.replaceAll("&quot;", '"').replaceAll("&#34;", '"').replaceAll("&#38;", "&").replaceAll("&amp;", "&");
const attributes = (tag) =>
  Object.fromEntries([...tag.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, unescape(value)]));

/** The link by which a page lets its user refuse. */
function refusal(page, url) {
  const link = /<a href="([^"]*)">\[ Cancel \]/.exec(page);
  if (!link) throw new Error(`there is no way to refuse at ${url.origin}${url.pathname}`);
  return [new URL(unescape(link[1]), url), {}];
}

/** A browser with cookies, in the hands of one user. */
export class Browser {
  #cookies = new Map();

  constructor(name = "someone") {
    this.name = name;
  }

  /** One request, with the cookies of its origin, that follows no redirect. */
  async fetch(url, init = {}) {
    const { origin } = new URL(url);
    const jar = this.#cookies.get(origin) ?? new Map();
    this.#cookies.set(origin, jar);
    const headers = { ...init.headers, cookie: [...jar].map((pair) => pair.join("=")).join("; ") };
    const response = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const cookie of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      if (/;\s*max-age=0/i.test(cookie) || !value) jar.delete(name);
      else jar.set(name, value);
    }
    return response;
  }

  /**
   * Visits a page and does what it and those after it ask, or refuses at the page `refuseAt`, counted from 1. It ends at
   * the first response for whose URL `at` is true, or before the first URL for which `until` is. Returns that URL and,
   * unless it ended before it, its response, which may be a redirect further on.
   */
  async visit(start, { refuseAt, at = ({ pathname }) => CALLBACK.test(pathname), until = () => false } = {}) {
    let [url, init, pages] = [new URL(start), {}, 0];
    for (let step = 0; step < MAX_STEPS; step += 1) {
      if (until(url)) return { url };
      const response = await this.fetch(url, init);
      if (at(url)) return { url, response };
      const location = response.headers.get("location");
      if (location) {
        [url, init] = [new URL(location, url), {}];
        continue;
      }
      const page = await response.text();
      if (!response.ok) {
        throw Object.assign(new Error(`${url.origin}${url.pathname} answered ${response.status}: ${page}`), { url, response, page });
      }
      pages += 1;
      const next = pages === refuseAt ? refusal(page, url) : this.#filledIn(page, url);
      if (!next) throw new Error(`${url.origin}${url.pathname} is a page without a form`);
      [url, init] = next;
    }
    throw new Error(`no way back to the service in ${MAX_STEPS} steps`);
  }

  /** The form of a page with all its fields, texts filled in, as a browser sends it; nothing if there is none. */
  #filledIn(page, url) {
    const form = /<form[^>]*>/.exec(page);
    if (!form) return undefined;
    const inputs = [...page.matchAll(/<input[^>]*>/g)].map(([tag]) => attributes(tag)).filter(({ name }) => name);
    const body = new URLSearchParams(inputs.map(({ name, value }) => [name, value ?? this.name]));
    return [new URL(attributes(form[0]).action ?? "", url), { method: "POST", body, headers: { origin: url.origin } }];
  }
}

/** What a user does who has never been there before: see {@link Browser.visit}. */
export const consent = (start, options) => new Browser().visit(start, options);

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const options = { as: { type: "string" }, until: { type: "string" } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const until = (url) => values.until !== undefined && url.href.startsWith(values.until);
  const { url, response } = await new Browser(values.as).visit(positionals[0], { until });
  console.log(response ? `${url.origin}${url.pathname} answered ${response.status}` : url.href);
  process.exitCode = !response || response.status < 400 ? 0 : 1;
}
