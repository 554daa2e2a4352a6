//! The program as a process, and clients of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_testkit::authorization_server::{AuthorizationServer, visit};
use connectors_testkit::http::client;
use connectors_testkit::mcp_server::{Eras, McpServer};
use serde_json::{Value, json};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// An MCP server behind an authorization server.
pub(crate) async fn protected() -> (AuthorizationServer, McpServer) {
    protected_in(Eras::Dual).await
}

pub(crate) async fn protected_in(eras: Eras) -> (AuthorizationServer, McpServer) {
    let authorization = AuthorizationServer::builder().start().await.unwrap();
    let server = McpServer::builder().eras(eras).start().await.unwrap();
    authorization.protect(&server);
    (authorization, server)
}

/// An address that a service can have again after a restart: callbacks come to the one that was announced.
pub(crate) fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// `encryption.keys` with these keys, which follow from their ids. Of an id such as `a/2`, the key is another one and the
/// id `a`.
pub(crate) fn keys(ids: &[&str]) -> String {
    let keys = ids.iter().map(|text| {
        let mut key = [7; 32];
        key[..text.len()].copy_from_slice(text.as_bytes());
        json!({ "id": text.split('/').next(), "key": STANDARD.encode(key) })
    });
    keys.collect::<Value>().to_string()
}

/// Waits until `done`, which is asked again and again.
pub(crate) async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs the program to its end.
pub(crate) fn run(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_connectors"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Sends a call: the status, and the body.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The program, killed when it is dropped.
pub(crate) struct Service {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
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
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let url = line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, output, url, client: client() }
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end of the process.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(status.success(), "{status}");
    }

    /// What it printed after its first line; it must have ended.
    pub(crate) fn printed(&mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }

    /// The memory of the process, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        answer(self.request(method, path, body)).await
    }

    /// A call, not yet sent.
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<Value>) -> reqwest::RequestBuilder {
        let request = self.client.request(method.parse().unwrap(), format!("{}{path}", self.url));
        body.into_iter().fold(request, |request, body| request.json(&body))
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

    pub(crate) async fn connect(&self, id: &str, body: Value) -> (u16, Value) {
        self.call("POST", &format!("/api/v1/connectors/{id}/connect"), Some(body)).await
    }

    pub(crate) async fn disconnect(&self, id: &str) -> (u16, Value) {
        self.call("POST", &format!("/api/v1/connectors/{id}/disconnect"), None).await
    }

    pub(crate) async fn delete(&self, id: &str) -> u16 {
        self.call("DELETE", &format!("/api/v1/connectors/{id}"), None).await.0
    }

    /// Connects, and returns the URL that the user must visit.
    pub(crate) async fn consent_url(&self, id: &str, body: Value) -> String {
        let (status, connector) = self.connect(id, body).await;
        assert_eq!((status, connector["state"].as_str()), (200, Some("auth_required")), "{connector}");
        assert_eq!(connector["lifecycle"], "connecting");
        assert_eq!(connector["auth_request"]["type"], "code");
        connector["auth_request"]["authorization_endpoint"].as_str().unwrap().to_owned()
    }

    /// Connects, and consents.
    pub(crate) async fn authorize(&self, id: &str) {
        let callback = visit(&self.consent_url(id, json!({})).await).await.unwrap();
        let (status, _, page) = self.get(&callback).await;
        assert_eq!(status, 200, "{page}");
        let read = self.read(id).await;
        assert_eq!(read["state"], "connected", "{read}");
    }

    /// A new connector towards a server behind an authorization server, whose user has consented.
    pub(crate) async fn authorized(&self, server: &McpServer) -> String {
        let id = self.create(&server.url()).await;
        self.authorize(&id).await;
        server.clear_requests();
        id
    }

    pub(crate) async fn get(&self, url: &str) -> (u16, reqwest::header::HeaderMap, String) {
        let answer = self.client.get(url).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.text().await.unwrap())
    }

    /// Calls the tool `count`: the status, and the answer.
    pub(crate) async fn count(&self, id: &str) -> (u16, Value) {
        answer(self.tool(id, "count", &json!({}))).await
    }

    /// As [`Service::count`], which must succeed.
    pub(crate) async fn counts(&self, id: &str) {
        let (status, answer) = self.count(id).await;
        assert!(status == 200 && answer["result"].is_object(), "{status} {answer}");
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
