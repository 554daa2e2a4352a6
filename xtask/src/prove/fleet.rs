//! The service as processes, clients of it, and the servers behind and beside it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use connectors_testkit::authorization_server::{AuthorizationServer, Settings, get, visit};
use connectors_testkit::mcp_server::McpServer;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Context;
use crate::support::process::Process;
use crate::support::service::free_port;

const START_LIMIT: Duration = Duration::from_mins(1);
/// How many flows are under way at once where many connectors are connected.
const FLOWS: usize = 16;
/// The keys of services on PostgreSQL. What they seal goes with the database.
const KEYS: &str = r#"[{"id":"1","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]"#;

/// An MCP server behind a strict authorization server.
pub(super) struct Peers {
    pub(super) authorization: AuthorizationServer,
    pub(super) mcp: McpServer,
}

impl Peers {
    pub(super) async fn start(change: impl FnOnce(&mut Settings)) -> anyhow::Result<Self> {
        let authorization = AuthorizationServer::builder().with(change).start().await?;
        let mcp = McpServer::builder().without_recording().start().await?;
        authorization.protect(&mcp);
        Ok(Self { authorization, mcp })
    }

    /// An address of the MCP server that no other connector has.
    pub(super) fn url(&self, number: usize) -> String {
        format!("{}?n={number}", self.mcp.url())
    }

    /// How long access tokens are good that are issued from now on.
    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        self.authorization.change(|settings| settings.token_lifetime = lifetime);
    }
}

/// How a process of the service is started.
#[derive(Clone)]
pub(super) struct Launch {
    connectors: PathBuf,
    folder: PathBuf,
    name: String,
    listen: String,
    settings: HashMap<String, String>,
}

impl Launch {
    /// On a port that stays the same over restarts, with a SQLite database in the folder of the case.
    pub(super) fn new(context: &Context, name: &str) -> anyhow::Result<Self> {
        let folder = context.folder.join(name);
        fs::create_dir_all(&folder)?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let launch = Self {
            connectors: context.connectors.clone(),
            folder,
            name: name.to_owned(),
            listen,
            settings: HashMap::new(),
        };
        Ok(launch.with("CONNECTOR__PER_USER", 1_000_000))
    }

    pub(super) fn with(mut self, setting: &str, value: impl std::fmt::Display) -> Self {
        self.settings.insert(setting.to_owned(), value.to_string());
        self
    }

    /// On PostgreSQL instead.
    pub(super) fn on_postgres(self, url: &str) -> Self {
        self.with("DATABASE__URL", url).with("ENCRYPTION__KEYS", KEYS)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Starts it, and waits until it serves. The log of the start before is kept beside the new one.
    pub(super) fn start(&self) -> anyhow::Result<Instance> {
        let log = self.folder.join("service.log");
        let _ = fs::rename(&log, self.folder.join("service.before.log"));
        // A signal that a limit on the size of files sends would end the process before it sees the error. A shell's soft
        // limit on descriptors is often far below what the machine allows.
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"trap '' XFSZ; ulimit -S -n "$(ulimit -H -n)"; exec "$0" serve"#])
            .arg(&self.connectors)
            .current_dir(&self.folder)
            .env("RUST_BACKTRACE", "0")
            .env("SERVER__LISTEN", &self.listen)
            .envs(&self.settings);
        let mut process = Process::start(&self.name, &mut command, &log)?;
        process.wait_for("listening on http://", START_LIMIT)?;
        Ok(Instance { url: self.url(), client: client()?, process })
    }
}

/// A client that gives up an idle connection before the service does: one that is closed just when it is used again would
/// count as a call that failed.
#[expect(clippy::disallowed_methods, reason = "this is a client of the service; the service itself never uses it")]
fn client() -> anyhow::Result<Client> {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().tls_certs_only([]);
    Ok(builder.pool_idle_timeout(Duration::from_secs(2)).build()?)
}

/// A running process of the service; what was started in it ends with this value.
pub(super) struct Instance {
    pub(super) url: String,
    pub(super) client: Client,
    process: Process,
}

/// The process, as its operator sees it.
impl Instance {
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// As `kill -9` does.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()
    }

    pub(super) fn terminate(&self) -> anyhow::Result<()> {
        self.process.signal("TERM")
    }

    pub(super) fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        self.process.wait(limit)
    }

    /// A client of it that can be given to a task.
    pub(super) fn remote(&self) -> Remote {
        Remote { url: self.url.clone(), client: self.client.clone() }
    }
}

/// The API of a process.
#[derive(Clone)]
pub(super) struct Remote {
    pub(super) url: String,
    client: Client,
}

impl Remote {
    pub(super) async fn call(&self, verb: &str, path: &str, body: Option<Value>) -> anyhow::Result<(u16, Value)> {
        let request = self.client.request(verb.parse()?, format!("{}{path}", self.url));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    pub(super) async fn read(&self, id: &str) -> anyhow::Result<Value> {
        Ok(self.call("GET", &format!("/api/v1/connectors/{id}"), None).await?.1)
    }

    /// Makes a connector and connects it; the user consents at once, and the callback comes to `callback`.
    pub(super) async fn connected(&self, server_url: &str, callback: &Self) -> anyhow::Result<String> {
        let body = json!({ "url": server_url, "match_preset": false });
        let (status, created) = self.call("POST", "/api/v1/connectors", Some(body)).await?;
        ensure!(status == 201, "the connector was not made: {created}");
        let id = created["id"].as_str().context("a connector has an id")?.to_owned();
        self.connect(&id, callback).await?;
        Ok(id)
    }

    /// Connects a connector.
    pub(super) async fn connect(&self, id: &str, callback: &Self) -> anyhow::Result<()> {
        let (_, connector) = self.call("POST", &format!("/api/v1/connectors/{id}/connect"), None).await?;
        let url = connector["auth_request"]["authorization_endpoint"].as_str();
        let came_back = visit(url.with_context(|| format!("nobody is asked for consent: {connector}"))?).await?;
        let path = came_back.splitn(4, '/').nth(3).context("a callback has a path")?;
        let page = get(&format!("{}/{path}", callback.url), &[]).await?;
        ensure!(page.status == 200, "the callback was answered with {}: {}", page.status, page.body);
        let connector = self.read(id).await?;
        ensure!(connector["state"] == "connected", "the connector is not connected: {connector}");
        Ok(())
    }

    /// Calls the tool `count` through the connector: the status, and what was answered. That the user has to consent is
    /// told as an error of JSON-RPC, which counts as 401 here.
    pub(super) async fn count(&self, id: &str) -> anyhow::Result<(u16, String)> {
        let response = self.tool(id, "count", &json!({})).send().await?;
        let status = response.status().as_u16();
        let text = response.text().await?;
        let refused = status == 200 && !text.contains("\"result\"");
        Ok((if refused { 401 } else { status }, text))
    }

    /// A call of a tool, not yet sent.
    pub(super) fn tool(&self, id: &str, name: &str, arguments: &Value) -> reqwest::RequestBuilder {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "prove", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let body = json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": name, "arguments": arguments, "_meta": meta },
        });
        self.client
            .post(format!("{}/api/v1/connectors/{id}/mcp", self.url))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", name)
            .json(&body)
    }

    /// The status of `/readyz`; 0 where nobody answers within two seconds.
    pub(super) async fn ready(&self) -> u16 {
        let asked = self.client.get(format!("{}/readyz", self.url)).timeout(Duration::from_secs(2)).send().await;
        asked.map_or(0, |answer| answer.status().as_u16())
    }
}

/// Makes connectors for `peers` and connects them, through the processes in turn. With `crossed`, the callback comes to
/// another process than the one at which the flow was started.
pub(super) async fn connect_many(
    remotes: &[Remote],
    peers: &Peers,
    numbers: std::ops::Range<usize>,
    crossed: bool,
) -> anyhow::Result<Vec<String>> {
    let mut waiting: Vec<_> = numbers.map(|number| (number, peers.url(number))).rev().collect();
    let mut flows = JoinSet::new();
    let mut ids = Vec::new();
    loop {
        while flows.len() < FLOWS
            && let Some((number, url)) = waiting.pop()
        {
            let remote = remotes[number % remotes.len()].clone();
            let callback = remotes[(number + usize::from(crossed)) % remotes.len()].clone();
            flows.spawn(async move { remote.connected(&url, &callback).await });
        }
        match flows.join_next().await {
            Some(connected) => ids.push(connected??),
            None => return Ok(ids),
        }
    }
}

/// The connectors, as a person would count them: how many are connected, and the disconnect codes of the others.
pub(super) async fn states(remote: &Remote, ids: &[String]) -> anyhow::Result<(usize, Vec<String>)> {
    let mut connected = 0;
    let mut others = Vec::new();
    for id in ids {
        let connector = remote.read(id).await?;
        if connector["state"] == "connected" {
            connected += 1;
        } else {
            others.push(connector["disconnect_code"].as_str().unwrap_or("no code").to_owned());
        }
    }
    Ok((connected, others))
}

/// Waits until `reached` says so.
pub(super) async fn until(
    what: &str,
    limit: Duration,
    mut reached: impl AsyncFnMut() -> bool,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !reached().await {
        if start.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(start.elapsed())
}
