// The console: a page on which a person does what the API offers. One module, no dependencies.
//
// What servers and users wrote reaches the page as text only (`textContent`), and as a link only if it is http(s). The
// page holds no secrets: tokens go from their field to the API and are forgotten. Who has signed in is known by a cookie
// that no script can read.

const API = "/api/v1/connectors";
const SESSION = "/auth/session";
/** Says that a call comes from this page: another origin cannot send it, so the cookie alone carries no call. */
const FROM_CONSOLE = { "X-Connectors-Console": "1" };
/** Connectors that are loaded at a time. */
const PAGE = 50;
/** How often a connector that waits for its user is looked at, and how often everything is, in milliseconds. */
const POLL = 2_000;
const REFRESH = 30_000;

const $ = (selector, root = document) => root.querySelector(selector);
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// ---- The API -------------------------------------------------------------------------------------------------------

/** What went wrong, in a sentence for the user: the `detail` of a problem document (RFC 9457), or this page's own. */
class Problem extends Error {
  constructor(detail, status = 0) {
    super(detail);
    this.status = status;
  }
}

const UNREACHABLE = "It does not answer. This page tries again by itself.";

const api = (method, path, body) => call(method, API + path, body);

/** One call of the service. Its outcome also tells whether the service is there at all, and whether it knows the user. */
async function call(method, path, body) {
  const request = { method, headers: { ...FROM_CONSOLE, ...(body && { "Content-Type": "application/json" }) } };
  if (body) request.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, request);
  } catch {
    setAway(UNREACHABLE);
    throw new Problem("The service does not answer. Check that it is running, then try again.");
  }
  const problem = response.ok ? null : await readProblem(response);
  setAway(problem?.status === 503 ? problem.message : null);
  if (problem?.status === 401 && session) setSession({ authentication: session.authentication });
  if (problem) throw problem;
  return response.status === 204 ? null : response.json();
}

async function readProblem(response) {
  const document = await response.json().catch(() => null);
  return new Problem(document?.detail ?? `The answer was HTTP status ${response.status}.`, response.status);
}

function setAway(text) {
  const banner = $("#away");
  // Written only when it changes: the banner is read out each time.
  if (text && text !== $("span", banner).textContent) $("span", banner).textContent = text;
  banner.hidden = !text;
  $("#loading").textContent = text ? "Your connectors will appear here." : "Loading…";
}

// ---- Who has signed in ---------------------------------------------------------------------------------------------

/** What the service says of it: how users sign in here, and who has. */
let session = null;

const isSignedOut = () => Boolean(session) && session.authentication !== "none" && !session.account;

/** Shows either the connectors of whoever has signed in, or how to. */
function setSession(fresh) {
  const before = session;
  session = fresh;
  const out = isSignedOut();
  if (before && before.account !== session.account) forgetAll();
  $("#sign-in").hidden = !out;
  $(".listing").hidden = $(".adding").hidden = $(".skip").hidden = out;
  $("[data-openid]").hidden = session.authentication !== "openid";
  $("#sign-in [data-token]").hidden = session.authentication !== "token";
  $("#account").hidden = !session.account;
  $("#account strong").textContent = session.account ?? "";
  // What had the focus may have gone.
  if (before && document.activeElement === document.body) $(out ? "#sign-in-title" : "#list-title").focus({ preventScroll: true });
}

async function submitSignIn(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const button = $("button", form);
  if (button.ariaDisabled === "true") return;
  const token = $("input", form).value.trim();
  showFieldError(form, "token", token ? "" : "Enter the token.");
  if (!token) return;
  button.ariaDisabled = "true";
  try {
    const fresh = await call("POST", SESSION, { token });
    form.reset();
    setSession(fresh);
    $("#list-title").focus({ preventScroll: true });
    await start();
  } catch (problem) {
    if (isSignedOut()) showFieldError(form, "token", problem.message.replace(/^\w+: /, ""));
  } finally {
    button.ariaDisabled = "false";
  }
}

async function signOut() {
  await call("POST", "/auth/logout");
  setSession({ authentication: session.authentication });
  $("#sign-in-title").focus({ preventScroll: true });
}

// ---- The list ------------------------------------------------------------------------------------------------------

/** By id: the connector as last seen, its element, and whether a call for it is under way. */
const cards = new Map();
let presets = [];
let nextPage = null;
let total = 0;
let loaded = false;
/** Counts what this page has changed. What was read before a change is out of date, and dropped. */
let changes = 0;

/** Loads as much of the list as is shown, from its beginning. */
async function refresh() {
  const seen = changes;
  const limit = Math.min(Math.max(PAGE, cards.size), 1000);
  const page = await api("GET", `?limit=${limit}`);
  if (seen === changes) showPage(page, 0);
}

async function loadMore() {
  const page = await api("GET", `?limit=${PAGE}&page_token=${encodeURIComponent(nextPage)}`);
  showPage(page, $("#list").children.length);
}

/** Shows `page`, whose first connector is at `position`, and drops what has gone meanwhile. */
function showPage(page, position) {
  const list = $("#list");
  const last = page.items.at(-1)?.id ?? "";
  for (const connector of page.items) {
    const { element } = show(connector);
    // Moved only if it is elsewhere: a moved element loses the focus.
    if (list.children[position] !== element) list.insertBefore(element, list.children[position] ?? null);
    position += 1;
  }
  // What comes after a page that is not the last may be a connector that this page has just added.
  const gone = [...list.children].slice(position).filter((element) => !page.has_more || element.dataset.id < last);
  gone.forEach((element) => forget(element.dataset.id));
  [nextPage, total, loaded] = [page.next_page_token, page.total_count, true];
  showCounts();
}

function showCounts() {
  $("#loading").hidden = loaded;
  $("#empty").hidden = !loaded || total > 0;
  $("#more").hidden = !nextPage;
  $("#count").textContent = total === 0 ? "" : cards.size < total ? `${cards.size} of ${total}` : `${total}`;
  showPresets();
}

/** Shows `connector` in its card, which is made if there is none. */
function show(connector) {
  let card = cards.get(connector.id);
  if (!card) {
    card = { connector, element: makeCard(connector), busy: null, error: null };
    cards.set(connector.id, card);
    $("#list").append(card.element);
  }
  card.connector = connector;
  updateCard(card);
  return card;
}

function forget(id) {
  cards.get(id)?.element.remove();
  cards.delete(id);
}

/** Takes everything of a user off the page. */
function forgetAll() {
  changes += 1;
  [...cards.keys()].forEach(forget);
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  [nextPage, total, loaded] = [null, 0, false];
  showCounts();
}

// ---- A card --------------------------------------------------------------------------------------------------------

const hostOf = (url) => (URL.canParse(url) ? new URL(url).host : url);
const nameOf = ({ url, metadata }) => metadata?.name || hostOf(url);
const addressOf = ({ id }) => new URL(`${API}/${id}/mcp`, location.href).href;
/** Where a link leads that leads away from this service. */
const elsewhere = (url) => (new URL(url).origin === location.origin ? "" : ` at ${hostOf(url)}`);
const isWeb = (url) => URL.canParse(url) && ["http:", "https:"].includes(new URL(url).protocol);
/** The form in which two spellings of a server's URL are the same: a slash at its end does not matter. */
const keyOf = (url) => url.replace(/\/+$/, "");

const BADGES = {
  connecting: "Connecting…",
  created: "Not connected yet",
  auth_required: "Waiting for you",
  connected: "Connected",
  disconnected: "Disconnected",
};

/** The codes after which only another credential helps. */
const NEEDS_TOKEN = ["authorization_required", "credential_rejected", "credential_unreadable"];

function makeCard(connector) {
  const element = $("#card-template").content.cloneNode(true).firstElementChild;
  const part = (name) => $(`[data-${name}]`, element);
  const { id } = connector;
  element.dataset.id = id;
  part("name").id = `connector-${id}`;
  $("article", element).setAttribute("aria-labelledby", `connector-${id}`);
  part("connect").onclick = () => connect(id);
  part("token").onclick = () => connectWithToken(id);
  part("disconnect").onclick = () => act(id, "Disconnecting…", () => api("POST", `/${id}/disconnect`), "is disconnected.");
  part("delete").onclick = () => remove(id);
  part("address").textContent = addressOf(connector);
  part("copy").onclick = () => copy(addressOf(connector));
  makeSetup(part("setup"), connector);
  makeTry(part("try"), connector);
  return element;
}

function updateCard({ connector, element, busy, error }) {
  const part = (name) => $(`[data-${name}]`, element);
  const { state, lifecycle, auth_request: request } = connector;
  const visit = request && isWeb(request.authorization_endpoint) ? request.authorization_endpoint : null;
  const probing = busy === BADGES.connecting || (lifecycle === "connecting" && state !== "auth_required");
  const look = probing ? "connecting" : state;
  const needsToken = NEEDS_TOKEN.includes(connector.disconnect_code);
  const name = nameOf(connector);

  element.dataset.state = look;
  part("name").textContent = name;
  part("url").textContent = connector.url;
  part("description").textContent = connector.metadata?.description ?? "";
  part("badge").textContent = busy ?? BADGES[look] ?? state;
  part("reason").textContent = probing ? "" : explain(connector, visit);
  part("notice").hidden = !part("reason").textContent;
  part("error").textContent = error ?? "";

  part("visit").hidden = !visit;
  part("visit").textContent = visit ? `${state === "connected" ? "Give more access" : "Continue"}${elsewhere(visit)}` : "";
  if (visit) part("visit").href = visit;
  else part("visit").removeAttribute("href");
  part("connect").hidden = !["created", "disconnected"].includes(state);
  part("connect").classList.toggle("primary", !needsToken);
  part("token").classList.toggle("primary", needsToken);
  part("token").textContent = state === "connected" ? "Change token…" : "Use a token…";
  part("disconnect").hidden = !["connected", "auth_required"].includes(state);
  // The name is for those who hear a button without seeing the card that it stands in.
  for (const control of element.querySelectorAll(".actions button, .actions a, .endpoint button")) {
    control.setAttribute("aria-label", `${control.textContent} – ${name}`);
    if (control.localName === "button") control.ariaDisabled = String(Boolean(busy));
  }
  part("setup").hidden = state === "created";
  part("endpoint").hidden = part("try").hidden = state !== "connected";
  if (state !== "connected") part("try").open = false;
}

const SIGN_IN =
  "The server wants you to sign in. Follow the link, which opens a new tab; this page notices when you are done.";

/** Why the connector is not connected, and what to do. */
function explain({ state, disconnect_code: code, disconnect_reason: reason, auth_request: request }, visit) {
  if (request && !visit) return "The server sent an address that is no web address. Tell whoever runs the server.";
  if (state === "auth_required") return SIGN_IN;
  if (state === "connected" && visit) return "The server asks for more access than it was given. It can be used meanwhile.";
  if (state !== "disconnected") return "";
  if (code === "client_request") return "You disconnected it. Connect it when you need it again.";
  if (code === "not_mcp") return `${reason} If the URL is wrong, delete this connector and add the right one.`;
  return reason ?? "";
}

// ---- What the user does --------------------------------------------------------------------------------------------

/** Does `work`, which gives the connector as it then is, and says so; what fails is shown in the card. */
async function act(id, busy, work, done) {
  const card = cards.get(id);
  if (!card || card.busy) return;
  Object.assign(card, { busy, error: null });
  updateCard(card);
  let fresh = null;
  try {
    fresh = await work();
    say(`${nameOf(fresh)} ${fresh.state === "auth_required" ? "waits for you to sign in." : done}`);
  } catch (problem) {
    // What fails because the service is away is on the banner, and over when the service is back.
    card.error = $("#away").hidden ? problem.message : null;
    if (problem.status) fresh = await api("GET", `/${id}`).catch((gone) => gone);
  }
  changes += 1;
  card.busy = null;
  // Its user has signed out meanwhile.
  if (!cards.has(id)) return;
  if (fresh instanceof Problem && fresh.status === 404) {
    say(`${nameOf(card.connector)} was deleted elsewhere.`);
    return drop(id);
  }
  if (fresh?.id) card.connector = fresh;
  // A connect that failed has put its reason into the connector; once is enough.
  if (card.error && card.error === card.connector.disconnect_reason) {
    say(`${nameOf(card.connector)} is not connected.`);
    card.error = null;
  }
  updateCard(card);
  showPresets();
  // The button that was used may have gone, and the focus with it.
  if (document.activeElement === document.body) $("[data-name]", card.element).focus({ preventScroll: true });
}

function connect(id, token) {
  const body = token ? { access_token: token } : undefined;
  return act(id, BADGES.connecting, () => api("POST", `/${id}/connect`, body), "is connected.");
}

async function connectWithToken(id) {
  const card = cards.get(id);
  if (card.busy) return;
  const dialog = $("#token-dialog");
  const agreed = await ask(dialog, nameOf(card.connector));
  const token = $("input", dialog).value.trim();
  $("input", dialog).value = "";
  if (agreed && token) await connect(id, token);
}

async function remove(id) {
  const card = cards.get(id);
  if (card.busy || !(await ask($("#delete-dialog"), nameOf(card.connector)))) return;
  try {
    await api("DELETE", `/${id}`);
  } catch (problem) {
    if (problem.status !== 404) {
      card.error = $("#away").hidden ? problem.message : null;
      return updateCard(card);
    }
  }
  say(`${nameOf(card.connector)} is deleted.`);
  drop(id);
}

/** Takes a connector that is gone off the page. */
function drop(id) {
  changes += 1;
  total = Math.max(0, total - 1);
  forget(id);
  showCounts();
  $("#list-title").focus({ preventScroll: true });
}

/** Opens `dialog` about the connector `name`, and gives whether the user agreed. */
function ask(dialog, name) {
  $("[data-name]", dialog).textContent = name;
  let agreed = false;
  $("[data-cancel]", dialog).onclick = () => dialog.close();
  $("form", dialog).onsubmit = (event) => {
    event.preventDefault();
    agreed = true;
    dialog.close();
  };
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(agreed);
  });
}

/** Registers a server and begins to connect it. Fails, with nothing made, if the API refuses it. */
async function add(document, token) {
  const connector = await api("POST", "", document);
  changes += 1;
  total += 1;
  const { element } = show(connector);
  showCounts();
  element.scrollIntoView({ block: "nearest" });
  $("[data-name]", element).focus({ preventScroll: true });
  // Not waited for: it may take a while, and the card tells what comes of it.
  connect(connector.id, token);
}

async function submitAdd(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const button = $("button.primary", form);
  if (button.ariaDisabled === "true") return;
  const { name, access_token: token, ...given } = Object.fromEntries(
    [...new FormData(form)].map(([field, value]) => [field, value.trim()]).filter(([, value]) => value),
  );
  showFieldError(form, "url", "");
  if (!given.url) return showFieldError(form, "url", "Enter the URL of the server.");
  button.ariaDisabled = "true";
  try {
    await add(name ? { ...given, metadata: { name } } : given, token);
    form.reset();
    $("details", form).open = false;
  } catch (problem) {
    // An error of a field begins with its name; what names none is about the URL, the one field that must be there.
    const field = /^\w*/.exec(problem.message)[0];
    showFieldError(form, field, problem.message.replace(/^\w+: /, ""));
  } finally {
    button.ariaDisabled = "false";
  }
}

/** Shows `text` at `field` of the form, or at the URL if there is no such field, and takes it away from all others. */
function showFieldError(form, field, text) {
  const shown = $(`[data-error="${field}"]`, form) ?? $('[data-error="url"]', form);
  for (const place of form.querySelectorAll("[data-error]")) {
    const input = $("input", place.parentElement);
    place.textContent = place === shown ? text : "";
    input.setAttribute("aria-invalid", String(place === shown && text !== ""));
    if (place !== shown || !text) continue;
    const folded = place.closest("details");
    if (folded) folded.open = true;
    input.focus();
  }
}

// ---- Presets -------------------------------------------------------------------------------------------------------

function showPresets() {
  const section = $("#presets");
  section.hidden = presets.length === 0;
  const list = $("ul", section);
  // Made once, then only updated, so that the focus stays.
  if (!list.children.length) list.append(...presets.map(makePreset));
  const have = new Map([...cards.values()].map((card) => [keyOf(card.connector.url), card]));
  presets.forEach((preset, index) => {
    const element = list.children[index];
    const card = have.get(keyOf(preset.url));
    const link = $("[data-have]", element);
    $("[data-add]", element).hidden = Boolean(card);
    link.hidden = !card;
    if (!card) return;
    const state = card.busy ?? BADGES[card.connector.state];
    element.dataset.state = card.element.dataset.state;
    link.textContent = `Added – ${state}`;
    link.href = `#connector-${card.connector.id}`;
  });
}

function makePreset(preset) {
  const element = $("#preset-template").content.cloneNode(true).firstElementChild;
  const button = $("[data-add]", element);
  $("[data-name]", element).textContent = nameOf(preset);
  $("[data-description]", element).textContent = preset.metadata?.description ?? "";
  $("[data-url]", element).textContent = preset.url;
  button.setAttribute("aria-label", `Add and connect ${nameOf(preset)}`);
  button.onclick = async () => {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    // Metadata and client come from the preset itself, on the service's side.
    await add({ url: preset.url }).catch((problem) => say(problem.message));
    button.ariaDisabled = "false";
  };
  return element;
}

// ---- Setting up a client -------------------------------------------------------------------------------------------

/** What to type or paste where, by client, for a connector at `url`. */
const SNIPPETS = {
  "JSON config": ({ url, name, credential }) =>
    JSON.stringify(
      { mcpServers: { [name]: { type: "http", url, ...(credential && { headers: { Authorization: credential } }) } } },
      null,
      2,
    ),
  Inspector: ({ url, credential }) =>
    `npx @modelcontextprotocol/inspector --cli \\\n  ${url} \\\n  --transport http --method tools/list` +
    (credential ? ` \\\n  --header 'Authorization: ${credential}'` : ""),
  curl: ({ url, authorization }) => `# Servers of MCP 2025-11-25 and before: say hello; the answer may carry an Mcp-Session-Id
curl -i ${url} \\${authorization}
  -H 'Content-Type: application/json' \\
  -H 'Accept: application/json, text/event-stream' \\
  -d '${JSON.stringify(initialize())}'

# Servers of MCP ${MODERN}: list the tools at once
curl ${url} \\${authorization}
  -H 'Content-Type: application/json' \\
  -H 'Accept: application/json, text/event-stream' \\
  -H 'MCP-Protocol-Version: ${MODERN}' \\
  -H 'Mcp-Method: tools/list' \\
  -d '${JSON.stringify(modern("tools/list", {}))}'`,
  "Agent Stack SDK": ({ id, origin }) => `import asyncio

from agentstack_sdk.platform.client import PlatformClient
from agentstack_sdk.platform.connector import Connector

CONNECTOR = "${id}"


async def main():
    async with PlatformClient(base_url="${origin}") as client:
        connector = await Connector.get(CONNECTOR, client=client)
        connector = await connector.connect(client=client)
        print(connector.state)


asyncio.run(main())`,
};

function makeSetup(details, connector) {
  // A name that every client takes as a key.
  const name = nameOf(connector).toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "connector";
  // Other clients find out by themselves where they get a token.
  const credential = session.authentication === "token" ? "Bearer YOUR_TOKEN" : null;
  const authorization = credential ? `\n  -H 'Authorization: ${credential}' \\` : "";
  const values = { url: addressOf(connector), id: connector.id, origin: location.origin, name, credential, authorization };
  const code = $("code", details);
  const show = (write) => () => (code.textContent = write(values));
  const entries = Object.entries(SNIPPETS).map(([client, write]) => [client, show(write)]);
  choices($("fieldset div", details), `client-${connector.id}`, entries);
  $(".snippet button", details).onclick = () => copy(code.textContent);
}

/** Fills `place` with a choice of one out of `entries` (text and what to do if it is chosen); the first is chosen. */
function choices(place, group, entries) {
  const labels = entries.map(([text, chosen], index) => {
    const label = make("label");
    const input = Object.assign(make("input"), { type: "radio", name: group, checked: index === 0, onchange: chosen });
    label.append(input, make("span", "", text));
    return label;
  });
  place.replaceChildren(...labels);
  entries[0]?.[1]();
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    // Browsers give a clipboard to https and localhost only.
    say("The browser does not let this page copy. Select the text and copy it yourself.");
  }
}

// ---- Trying a connector: a small MCP client of both eras -----------------------------------------------------------

/** The first revision without sessions, in which every request says all there is to know of its client. */
const MODERN = "2026-07-28";
/** The revision that is asked for where there are sessions; servers may answer with an older one. */
const LEGACY = "2025-11-25";
const CLIENT = { name: "connectors-console", version: "1.0.0" };
/** The service's own error for a connector that cannot be used now. */
const UNUSABLE = -31001;
const CALL_TIMEOUT = 120_000;
const BAD_ANSWER = "The server’s answer is not one that MCP allows. Tell whoever runs the server.";

function modern(method, params) {
  const meta = { protocolVersion: MODERN, clientInfo: CLIENT, clientCapabilities: {} };
  const entries = Object.entries(meta).map(([key, value]) => [`io.modelcontextprotocol/${key}`, value]);
  return { jsonrpc: "2.0", id: 1, method, params: { ...params, _meta: Object.fromEntries(entries) } };
}

function initialize() {
  const params = { protocolVersion: LEGACY, capabilities: {}, clientInfo: CLIENT };
  return { jsonrpc: "2.0", id: 0, method: "initialize", params };
}

/** Sends one JSON-RPC message to the connector at `url`; gives the response with the message that answers, if any. */
async function send(url, message, headers) {
  const request = {
    method: "POST",
    headers: {
      ...FROM_CONSOLE,
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      ...headers,
    },
    body: JSON.stringify(message),
    signal: AbortSignal.timeout(CALL_TIMEOUT),
  };
  try {
    const response = await fetch(url, request);
    const type = response.headers.get("Content-Type")?.split(";")[0].trim().toLowerCase();
    if (type === "text/event-stream") return { response, answer: await answerIn(response.body, message.id) };
    if (type === "application/json") return { response, answer: await response.json() };
    if (!response.ok) throw await readProblem(response);
    return { response, answer: null };
  } catch (error) {
    if (error.name === "TimeoutError") throw new Problem("The server did not answer in time.");
    if (error instanceof TypeError) throw new Problem("The connection broke off. Try again.");
    throw error;
  }
}

/** The message with `id` in a stream of server-sent events. What comes before it (progress, logs) is passed over. */
async function answerIn(body, id) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    // A line may end with CR, LF or both. A CR at the end of a chunk waits for what follows it.
    const events = (text + chunk.value).replace(/\r\n|\r(?!$)/g, "\n").split("\n\n");
    text = events.pop();
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data:"));
      const data = lines.map((line) => line.slice(5).replace(/^ /, "")).join("\n");
      const message = data ? JSON.parse(data) : null;
      if (message?.id !== id || message.method) continue;
      // The server may hold the stream open.
      reader.cancel().catch(() => {});
      return message;
    }
  }
  throw new Problem("The server’s answer ended before its result came.", 502);
}

function resultOf({ response, answer }) {
  if (answer?.error) {
    throw Object.assign(new Problem(answer.error.message ?? "The server answered with an error.", response.status), {
      code: answer.error.code,
    });
  }
  if (!answer || !("result" in answer)) throw new Problem(`The answer was HTTP status ${response.status}.`, response.status);
  return answer.result;
}

/** Calls `use` with a function that makes requests of 2026-07-28. */
function withoutSession(url, use) {
  return use(async (method, params, headers) => {
    const sent = { "MCP-Protocol-Version": MODERN, "Mcp-Method": method, ...headers };
    return resultOf(await send(url, modern(method, params), sent));
  }, MODERN);
}

/** Calls `use` with a function that makes requests in a session, which is over afterwards: nothing stays at the server. */
async function withSession(url, use) {
  const opened = await send(url, initialize(), {});
  const version = resultOf(opened).protocolVersion;
  const session = opened.response.headers.get("Mcp-Session-Id");
  const headers = { "MCP-Protocol-Version": version, ...(session && { "Mcp-Session-Id": session }) };
  try {
    await send(url, { jsonrpc: "2.0", method: "notifications/initialized" }, headers);
    let id = 0;
    return await use(async (method, params) => {
      id += 1;
      return resultOf(await send(url, { jsonrpc: "2.0", id, method, params }, headers));
    }, version);
  } finally {
    // A server need not support this, so its answer does not matter.
    if (session) await fetch(url, { method: "DELETE", headers: { ...FROM_CONSOLE, ...headers } }).catch(() => {});
  }
}

/** Lists the tools. Which era the server speaks is learned by asking in the modern one first. */
async function listTools(url) {
  const list = (door) => door(url, async (request, version) => ({ door, version, tools: await allTools(request) }));
  try {
    return await list(withoutSession);
  } catch (problem) {
    // Without a status the network failed, and 5xx is the service's own word: `initialize` would meet the same.
    const final = !(problem instanceof Problem) || problem.code === UNUSABLE || !problem.status || problem.status >= 500;
    if (final) throw problem;
    return list(withSession);
  }
}

async function allTools(request) {
  const tools = [];
  let cursor;
  // A server that never stops naming next pages is not followed for ever.
  for (let page = 0; page < 20; page++) {
    const result = await request("tools/list", cursor ? { cursor } : {});
    tools.push(...result.tools);
    cursor = result.nextCursor;
    if (!cursor) break;
  }
  return tools;
}

/** The headers that repeat parts of a `tools/call` for those on its way (MCP 2026-07-28, "Streamable HTTP", headers). */
function callHeaders(tool, given) {
  const headers = { "Mcp-Name": headerValue(tool.name) };
  const collect = (schema, value) => {
    for (const [key, inner] of Object.entries(schema?.properties ?? {})) {
      const named = inner?.["x-mcp-header"];
      const part = value?.[key];
      const plain = ["string", "number", "boolean"].includes(typeof part);
      if (named && plain) headers[`Mcp-Param-${named}`] = headerValue(String(part));
      collect(inner, part);
    }
  };
  collect(tool.inputSchema, given);
  return headers;
}

/** A text as a header carries it: as it is if that is unambiguous, else in base64. */
function headerValue(text) {
  if (/^[!-~]([ -~]*[!-~])?$/.test(text) && !/^=\?base64\?.*\?=$/.test(text)) return text;
  const bytes = new TextEncoder().encode(text);
  return `=?base64?${btoa(String.fromCodePoint(...bytes))}?=`;
}

// ---- Trying a connector: what is seen ------------------------------------------------------------------------------

function makeTry(details, connector) {
  const part = (name) => $(`[data-${name}]`, details);
  const form = $("form", details);
  const url = addressOf(connector);
  let client = null;
  let tool = null;

  const fail = (problem) => {
    part("try-error").textContent = problem instanceof Problem ? problem.message : BAD_ANSWER;
    // The service may have learned just now that the connector cannot be used.
    api("GET", `/${connector.id}`).then(show, () => {});
  };

  const choose = (chosen) => {
    tool = chosen;
    part("about").textContent = tool.description ?? tool.title ?? "This tool has no description.";
    part("schema").textContent = JSON.stringify(tool.inputSchema, null, 2);
    $("textarea", details).value = JSON.stringify(sample(tool.inputSchema), null, 2);
    part("result").hidden = true;
    part("try-error").textContent = "";
  };

  details.ontoggle = async (event) => {
    // The schema's own fold is inside.
    if (event.target !== details || !details.open) return;
    part("status").textContent = "Asking for its tools…";
    part("try-error").textContent = "";
    form.hidden = true;
    try {
      client = await listTools(url);
    } catch (problem) {
      part("status").textContent = "";
      return fail(problem);
    }
    const { tools, version } = client;
    const entries = tools.map((each) => [each.name, () => choose(each)]);
    part("status").textContent = `${tools.length === 1 ? "One tool" : `${tools.length} tools`} · MCP ${version}`;
    choices($(".tools div", details), `tool-${connector.id}`, entries);
    form.hidden = tools.length === 0;
  };

  form.onsubmit = async (event) => {
    event.preventDefault();
    const button = $("button.primary", form);
    if (button.ariaDisabled === "true") return;
    part("try-error").textContent = "";
    part("result").hidden = true;
    const given = readArguments($("textarea", details).value);
    if (!given) {
      part("try-error").textContent = "The arguments must be a JSON object, such as {}.";
      return $("textarea", details).focus();
    }
    button.ariaDisabled = "true";
    button.textContent = "Calling…";
    const [called, headers] = [tool, callHeaders(tool, given)];
    const params = { name: tool.name, arguments: given };
    try {
      const result = await client.door(url, (request) => request("tools/call", params, headers));
      if (called !== tool) return;
      showResult(part("result"), result);
      // Where the user goes on, unless they have gone elsewhere meanwhile.
      if (document.activeElement === button) part("result").focus({ preventScroll: true });
    } catch (problem) {
      fail(problem);
    } finally {
      button.ariaDisabled = "false";
      button.textContent = "Call the tool";
    }
  };
}

function readArguments(text) {
  try {
    const value = JSON.parse(text.trim() || "{}");
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

/** Arguments to begin with: the required ones, with their defaults or something of their type. */
function sample(schema) {
  const byType = { string: "", integer: 0, number: 0, boolean: false, array: [], object: {} };
  const properties = schema?.properties ?? {};
  const names = schema?.required ?? [];
  return Object.fromEntries(
    names.map((name) => {
      const { default: preset, enum: values, type } = properties[name] ?? {};
      return [name, preset ?? values?.[0] ?? byType[type] ?? null];
    }),
  );
}

function showResult(place, result) {
  const asksBack = result.resultType === "input_required";
  const heading = result.isError ? "The tool says that it failed" : asksBack ? "The tool asks back" : "Result";
  const blocks = (result.content ?? []).map(showBlock);
  if (asksBack) blocks.unshift(make("p", "", "This page cannot answer. Call the tool from a full MCP client."));
  const raw = make("details");
  const pre = make("pre", "", JSON.stringify(result, null, 2));
  raw.append(make("summary", "", "The whole answer"), pre);
  place.replaceChildren(make("h3", result.isError ? "error" : "", heading), ...blocks, raw);
  place.hidden = false;
}

function showBlock(block) {
  if (block.type === "text") return make("pre", "", block.text);
  if (block.type === "image" && /^image\/(png|jpeg|gif|webp)$/.test(block.mimeType)) {
    return Object.assign(make("img"), { src: `data:${block.mimeType};base64,${block.data}`, alt: "Image in the result" });
  }
  if (block.type === "resource_link" && isWeb(block.uri)) {
    return Object.assign(make("a", "", block.uri), { href: block.uri, target: "_blank", rel: "noopener noreferrer" });
  }
  return make("pre", "", JSON.stringify(block, null, 2));
}

// ---- The page ------------------------------------------------------------------------------------------------------

function make(tag, className = "", text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

let toastTimer;
/** Says something in passing, to the eye and to screen readers. */
function say(text) {
  const toast = $("#toast");
  toast.textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.textContent = ""), 6_000);
}

const waits = ({ connector: { lifecycle, auth_request: request }, busy }) =>
  !busy && (lifecycle === "connecting" || Boolean(request));

/** Looks at those connectors that wait for something. */
async function poll() {
  const seen = changes;
  const waiting = [...cards.values()].filter(waits);
  const fresh = await Promise.all(waiting.map(({ connector }) => api("GET", `/${connector.id}`).catch(() => null)));
  for (const connector of fresh) {
    const before = cards.get(connector?.id)?.connector.state;
    if (seen !== changes || !before) continue;
    show(connector);
    if (connector.state !== before) say(`${nameOf(connector)}: ${BADGES[connector.state]}`);
  }
  showPresets();
}

/** Keeps what is shown up to date for as long as somebody may look at it. */
async function watch() {
  let rest = REFRESH;
  for (;;) {
    await sleep(POLL);
    if (document.hidden || isSignedOut()) continue;
    rest -= POLL;
    // While the service is away the page asks more often, since nothing else can be done on it.
    if (rest <= 0 || !$("#away").hidden) {
      await start().catch(() => {});
      rest = REFRESH;
    } else {
      await poll();
    }
  }
}

async function start() {
  setSession(await call("GET", SESSION));
  if (isSignedOut()) return;
  await refresh();
  if (!presets.length) presets = (await api("GET", "/presets")).items;
  showPresets();
}

/** What failed in passing is on the banner if the service is away, and a matter of signing in if the user has not; anything
 * else is said. */
const attempt = (work) => () =>
  work().catch((problem) => $("#away").hidden && problem.status !== 401 && say(problem.message));

$("#add").addEventListener("submit", submitAdd);
$("#sign-in form").addEventListener("submit", submitSignIn);
$("#account button").addEventListener("click", attempt(signOut));
$("#begin").addEventListener("click", () => $("#add-url").focus());
$("#more").addEventListener("click", attempt(loadMore));
$("#away button").addEventListener("click", attempt(start));
document.addEventListener("visibilitychange", () => document.hidden || attempt(start)());
attempt(start)().finally(watch);
