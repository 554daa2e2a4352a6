//! The program as a process, and clients of it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use connectors_testkit::http::client;
use connectors_testkit::mcp_server::McpServer;
use serde_json::{Value, json};

/// The program, killed when it is dropped.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Service {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    pub(crate) fn start_with(directory: &Path, environment: &[(&str, &str)]) -> Self {
        Self::spawn(directory, environment, Stdio::null())
    }

    /// Writes its log to `log`.
    pub(crate) fn start_logging(directory: &Path, environment: &[(&str, &str)], log: File) -> Self {
        Self::spawn(directory, environment, log.into())
    }

    fn spawn(directory: &Path, environment: &[(&str, &str)], log: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_connectors"))
            .current_dir(directory)
            .env_clear()
            .env("SERVER__LISTEN", "127.0.0.1:0")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, url, client: client() }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The memory of the process, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn create(&self, url: &str) -> String {
        let (status, created) = self.call("POST", "/api/v1/connectors", Some(json!({ "url": url }))).await;
        assert_eq!(status, 201, "{created}");
        created["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn connected(&self, server: &McpServer) -> String {
        let id = self.create(&server.url()).await;
        let (status, connector) = self.call("POST", &format!("/api/v1/connectors/{id}/connect"), None).await;
        assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
        server.clear_requests();
        id
    }

    pub(crate) async fn read(&self, id: &str) -> Value {
        self.call("GET", &format!("/api/v1/connectors/{id}"), None).await.1
    }

    pub(crate) fn mcp(&self, id: &str) -> String {
        format!("{}/api/v1/connectors/{id}/mcp", self.url)
    }

    /// A modern call of a tool through the connector, not yet sent.
    pub(crate) fn tool(&self, id: &str, name: &str, arguments: &Value) -> reqwest::RequestBuilder {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": "p",
        });
        let body = json!({
            "jsonrpc": "2.0", "id": 7, "method": "tools/call",
            "params": { "name": name, "arguments": arguments, "_meta": meta },
        });
        self.client
            .post(self.mcp(id))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", name)
            .json(&body)
    }
}
