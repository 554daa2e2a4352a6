//! The service as a process of its own, and its HTTP API as a client sees it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use super::process::Process;

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running service on SQLite.
pub(crate) struct Service {
    /// Where it listens, without a slash at the end.
    pub(crate) url: String,
    process: Process,
    agent: Agent,
}

impl Service {
    /// Starts the binary with its database in `data`, on `port`; 0 is a free one.
    pub(crate) fn start(connectors: &Path, data: &Path, port: u16, log: &Path) -> anyhow::Result<Self> {
        Self::start_with(connectors, data, port, log, &[])
    }

    /// The same with further settings.
    pub(crate) fn start_with(
        connectors: &Path,
        data: &Path,
        port: u16,
        log: &Path,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(connectors);
        command
            .arg("serve")
            .current_dir(data)
            .env("SERVER__LISTEN", format!("127.0.0.1:{port}"))
            .env("DATABASE__URL", format!("sqlite:{}", data.join("connectors.db").display()))
            .envs(settings.iter().copied());
        let mut process = Process::start("the service", &mut command, log)?;
        let address = process.wait_for("listening on http://", START_LIMIT)?;
        // In a log of JSON lines more follows on the same line.
        let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(address.len());
        Ok(Self { url: format!("http://{}", &address[..end]), process, agent: agent() })
    }

    /// Creates a connector for an MCP server, connects it, and returns its id.
    pub(crate) fn connect(&self, server_url: &str) -> anyhow::Result<String> {
        let body = json!({ "url": server_url, "match_preset": false });
        let created = self.post("/api/v1/connectors", Some(&body))?;
        let id = created["id"].as_str().context("a connector has an id")?.to_owned();
        let connected = self.post(&format!("/api/v1/connectors/{id}/connect"), None)?;
        if connected["state"] != "connected" {
            bail!("the connector for {server_url} is {}, not connected", connected["state"]);
        }
        Ok(id)
    }

    /// The MCP endpoint of a connector.
    pub(crate) fn mcp_url(&self, id: &str) -> String {
        format!("{}/api/v1/connectors/{id}/mcp", self.url)
    }

    /// Posts to the API; anything but a success is an error with the problem's own words.
    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url);
        let request = self.agent.post(&url);
        let sent = match body {
            Some(body) => request.send_json(body),
            None => request.send_empty(),
        };
        let mut response = sent.with_context(|| format!("POST {url}"))?;
        let text = response.body_mut().read_to_string().with_context(|| format!("POST {url}"))?;
        if !response.status().is_success() {
            bail!("POST {path} answered {}: {text}\n{}", response.status(), self.process.tail());
        }
        serde_json::from_str(&text)
            .with_context(|| format!("POST {path} answered with something else than JSON: {text}"))
    }

    /// Sends one JSON-RPC message to an MCP endpoint: the response's head, and what was answered, if anything was.
    pub(crate) fn rpc(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        message: &Value,
    ) -> anyhow::Result<(Response<()>, Value)> {
        let mut request = self.agent.post(url).header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send_json(message).with_context(|| format!("POST {url}"))?;
        let (head, mut body) = response.into_parts();
        let text = body.read_to_string()?;
        if !head.status.is_success() {
            bail!("{} answered {}: {text}", message["method"], head.status);
        }
        // Either one JSON body, or a stream whose last event is the answer.
        let answer = text.lines().rev().find_map(|line| line.strip_prefix("data:")).unwrap_or(&text).trim();
        let answer = if answer.is_empty() { Value::Null } else { serde_json::from_str(answer)? };
        Ok((Response::from_parts(head, ()), answer))
    }

    /// Waits for ever, or until the service ends by itself.
    pub(crate) fn wait(&mut self) -> anyhow::Result<()> {
        let status = self.process.wait(Duration::MAX)?;
        bail!("the service has ended ({status:?})\n{}", self.process.tail())
    }
}

fn agent() -> Agent {
    // Nothing on loopback is behind a proxy, whatever the environment says.
    let config =
        Agent::config_builder().proxy(None).http_status_as_error(false).timeout_global(Some(Duration::from_mins(1)));
    config.build().into()
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?.local_addr()?.port())
}

/// Whether nobody listens on this port now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
