//! The scriptable MCP server, seen by a client that is nothing but a socket.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests are tests, too")]

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use connectors_testkit::mcp_server::{
    Auth, Behaviour, Ending, Eras, HOSTILE_HEADERS, LEGACY_VERSIONS, MODERN_VERSION, McpServer, Reply, Rule, SseStyle,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const SOON: Duration = Duration::from_secs(1);
/// For what is expected not to come.
const SHORTLY: Duration = Duration::from_millis(50);

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the body ended where its framing said.
    complete: bool,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap()
    }

    fn tool_text(&self) -> String {
        self.json()["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// The JSON messages of an event stream, by the rules of the HTML standard.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n").replace('\r', "\n");
        let data = |event: &str| {
            let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
            lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
        };
        text.split("\n\n")
            .map(data)
            .filter(|data| !data.is_empty())
            .map(|data| serde_json::from_str(&data).unwrap())
            .collect()
    }
}

impl Client {
    async fn connect(server: &McpServer) -> Self {
        Self { stream: TcpStream::connect(server.address()).await.unwrap(), buffer: Vec::new() }
    }

    async fn send(&mut self, raw: impl AsRef<[u8]>) {
        self.stream.write_all(raw.as_ref()).await.unwrap();
    }

    async fn request(&mut self, verb: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
        let length = body.len();
        self.send(format!("{verb} {path} HTTP/1.1\r\nHost: test\r\n{lines}Content-Length: {length}\r\n\r\n{body}"))
            .await;
    }

    async fn post(&mut self, headers: &[(&str, &str)], message: &Value) -> Response {
        self.start_post(headers, message).await;
        self.response().await
    }

    async fn start_post(&mut self, headers: &[(&str, &str)], message: &Value) {
        let accept = "application/json, text/event-stream";
        let mut all = vec![("Accept", accept), ("Content-Type", "application/json")];
        all.extend_from_slice(headers);
        self.request("POST", "/mcp", &all, &message.to_string()).await;
    }

    /// A proper modern request.
    async fn modern(&mut self, method: &str, params: Value) -> Response {
        self.start_modern(method, params).await;
        self.response().await
    }

    async fn start_modern(&mut self, method: &str, params: Value) {
        let name = params["name"].as_str().unwrap_or_default().to_owned();
        let mut headers = vec![("MCP-Protocol-Version", MODERN_VERSION), ("Mcp-Method", method)];
        if !name.is_empty() {
            headers.push(("Mcp-Name", &name));
        }
        self.start_post(&headers, &modern_message(method, params, MODERN_VERSION)).await;
    }

    /// Opens a legacy session.
    async fn initialize(&mut self, version: &str) -> Response {
        let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": { "name": "t" } });
        self.post(&[], &json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params })).await
    }

    async fn call(&mut self, session: &str, tool: &str, arguments: Value) -> Response {
        self.post(&[("Mcp-Session-Id", session)], &call_message(tool, &arguments)).await
    }

    /// Reads until this occurs, and takes everything up to its end.
    async fn read_until(&mut self, text: &str) -> String {
        loop {
            let found = self.buffer.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let taken: Vec<_> = self.buffer.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            assert!(self.fill().await, "the server closed before {text:?}: {}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// Reads whatever comes until the server closes.
    async fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    async fn response(&mut self) -> Response {
        let head = self.read_until("\r\n\r\n").await;
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new(), complete: true };
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                if chunk.is_empty() {
                    return response;
                }
                response.body.extend(chunk);
            }
            response.complete = false;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            while self.buffer.len() < length && response.complete {
                response.complete = self.fill().await;
            }
            let taken = length.min(self.buffer.len());
            response.body = self.buffer.drain(..taken).collect();
        } else if response.header("connection") == Some("close") {
            response.body = self.read_to_end().await;
        }
        response
    }

    /// A chunk; the last one is empty; `None` when the server closed before it.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<_> = self.buffer.drain(..end + 2).collect();
                break usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16).unwrap();
            }
            if !self.fill().await {
                return None;
            }
        };
        while self.buffer.len() < size + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let mut chunk: Vec<_> = self.buffer.drain(..size + 2).collect();
        chunk.truncate(size);
        Some(chunk)
    }

    async fn fill(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(5), self.stream.read_buf(&mut self.buffer)).await;
        matches!(read.expect("the server says something within five seconds"), Ok(bytes) if bytes > 0)
    }

    /// Whether nothing comes for a while, and the connection stays open.
    async fn silent(&mut self) -> bool {
        tokio::time::timeout(SHORTLY, self.stream.read_buf(&mut self.buffer)).await.is_err()
    }
}

fn modern_message(method: &str, mut params: Value, version: &str) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = version.into();
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    json!({ "jsonrpc": "2.0", "id": "m-1", "method": method, "params": params })
}

fn call_message(tool: &str, arguments: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": tool, "arguments": arguments } })
}

async fn server(eras: Eras) -> McpServer {
    McpServer::builder().eras(eras).start().await.unwrap()
}

/// A legacy server that needs no session, so that single calls suffice.
async fn simple() -> McpServer {
    McpServer::builder().eras(Eras::Legacy).stateless().start().await.unwrap()
}

async fn echo(server: &McpServer) -> Response {
    Client::connect(server).await.post(&[], &call_message("echo", &json!({ "text": "hello" }))).await
}

// The legacy era

#[tokio::test]
async fn a_legacy_client_opens_a_session_calls_and_ends_it() {
    let server = server(Eras::Legacy).await;
    let mut client = Client::connect(&server).await;
    let opened = client.initialize("2025-06-18").await;
    assert_eq!(opened.status, 200);
    assert_eq!(opened.json()["result"]["protocolVersion"], "2025-06-18");
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let own = [("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "2025-06-18")];

    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let accepted = client.post(&own, &initialized).await;
    assert_eq!((accepted.status, accepted.body.len()), (202, 0));

    let listed = client.post(&own, &json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/list" })).await;
    assert_eq!(listed.json()["result"]["tools"].as_array().unwrap().len(), 5);
    assert!(listed.json()["result"].get("resultType").is_none());
    assert_eq!(client.call(&session, "add", json!({ "a": 1, "b": 2 })).await.tool_text(), "3");

    client.request("DELETE", "/mcp", &own, "").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.call(&session, "add", json!({ "a": 1, "b": 2 })).await.status, 404);
}

#[tokio::test]
async fn an_unknown_legacy_version_is_answered_by_the_latest_and_refused_in_the_header() {
    let server = server(Eras::Legacy).await;
    let mut client = Client::connect(&server).await;
    let opened = client.initialize("1999-01-01").await;
    assert_eq!(opened.json()["result"]["protocolVersion"], LEGACY_VERSIONS[0]);
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let headers = [("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", "1999-01-01")];
    let refused = client.post(&headers, &call_message("echo", &json!({}))).await;
    assert_eq!((refused.status, refused.code()), (400, -32000));
}

#[tokio::test]
async fn a_session_is_needed_and_must_be_known() {
    let server = server(Eras::Legacy).await;
    let mut client = Client::connect(&server).await;
    let session = client.initialize("2025-11-25").await.header("mcp-session-id").unwrap().to_owned();
    assert_eq!(client.post(&[], &call_message("count", &json!({}))).await.status, 400);
    assert_eq!(client.call("somebody-else's", "count", json!({})).await.status, 404);
    assert_eq!(client.call(&session, "count", json!({})).await.status, 200);
    server.forget_sessions();
    assert_eq!(client.call(&session, "count", json!({})).await.status, 404);
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_stateless_server_gives_no_session_and_needs_none() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    assert_eq!(client.initialize("2025-11-25").await.header("mcp-session-id"), None);
    assert_eq!(client.post(&[], &call_message("count", &json!({}))).await.tool_text(), "1");
    client.request("DELETE", "/mcp", &[], "").await;
    assert_eq!(client.response().await.status, 405);
}

#[tokio::test]
async fn a_get_stream_carries_what_the_server_sends_until_it_ends() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    client.request("GET", "/mcp", &[("Accept", "text/event-stream")], "").await;
    assert!(client.read_until("\r\n\r\n").await.contains("content-type: text/event-stream"));
    server.notify("notifications/tools/list_changed", &json!({}));
    client.read_until("notifications/tools/list_changed").await;
    server.push(json!({ "jsonrpc": "2.0", "id": 7, "method": "roots/list" }));
    client.read_until("roots/list").await;
    assert_eq!(server.open_streams(), 1);
    server.end_streams();
    client.read_until("\r\n0\r\n\r\n").await;
    server.wait_until_open_streams(0, SOON).await.unwrap();
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn get_is_405_where_it_is_not_offered() {
    for builder in [
        McpServer::builder().eras(Eras::Legacy).without_get_stream(),
        McpServer::builder().eras(Eras::Modern),
        McpServer::builder().eras(Eras::Modern).without_get_stream(),
    ] {
        let server = builder.start().await.unwrap();
        let mut client = Client::connect(&server).await;
        client.request("GET", "/mcp", &[("Accept", "text/event-stream")], "").await;
        let response = client.response().await;
        assert_eq!(response.status, 405);
        assert!(response.header("allow").unwrap().starts_with("POST"));
    }
}

#[tokio::test]
async fn a_legacy_server_refuses_a_modern_request_without_a_modern_error() {
    for server in [server(Eras::Legacy).await, simple().await] {
        let response = Client::connect(&server).await.modern("server/discover", json!({})).await;
        assert_eq!((response.status, response.code()), (400, -32000));
    }
}

#[tokio::test]
async fn what_is_no_message_or_of_no_accepted_type_is_refused() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    let accept = ("Accept", "application/json, text/event-stream");
    let json_type = ("Content-Type", "application/json");
    for (headers, body, status) in [
        (vec![accept, json_type], "{", 400),
        (vec![accept, json_type], "{}", 400),
        (vec![accept, json_type], "[]", 400),
        (vec![accept, ("Content-Type", "text/plain")], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, 415),
        (vec![("Accept", "application/json"), json_type], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, 406),
        (vec![accept, json_type], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, 200),
        (vec![accept, json_type], r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 202),
    ] {
        client.request("POST", "/mcp", &headers, body).await;
        assert_eq!(client.response().await.status, status, "{headers:?} {body}");
    }
    client.request("GET", "/elsewhere", &[], "").await;
    assert_eq!(client.response().await.status, 404);
}

// The modern era

#[tokio::test]
async fn a_modern_client_discovers_lists_and_calls() {
    let server = server(Eras::Modern).await;
    let mut client = Client::connect(&server).await;
    let discovered = client.modern("server/discover", json!({})).await.json();
    assert_eq!(discovered["result"]["supportedVersions"], json!([MODERN_VERSION]));
    assert_eq!(discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "testkit");
    let listed = client.modern("tools/list", json!({})).await.json();
    assert_eq!(listed["result"]["cacheScope"], "private");
    let called = client.modern("tools/call", json!({ "name": "add", "arguments": { "a": 1.5, "b": 2 } })).await;
    assert_eq!(called.tool_text(), "3.5");
    assert_eq!(called.json()["id"], "m-1");
    assert_eq!(called.json()["result"]["resultType"], "complete");
    let unknown = client.modern("no/such", json!({})).await;
    assert_eq!((unknown.status, unknown.code()), (404, -32601));
}

#[tokio::test]
async fn modern_headers_must_match_the_body() {
    let server = server(Eras::Modern).await;
    let mut client = Client::connect(&server).await;
    let version = ("MCP-Protocol-Version", MODERN_VERSION);
    let method = ("Mcp-Method", "tools/call");
    let name = ("mcp-name", "echo");
    let plain = json!({ "name": "echo", "arguments": { "text": "hello" } });
    let regional = json!({ "name": "echo", "arguments": { "text": "hello", "region": "süd" } });
    for (headers, params, status) in [
        (vec![version, method, name], &plain, 200),
        (vec![version, method, ("Mcp-Name", "=?base64?ZWNobw==?=")], &plain, 200),
        (vec![method, name], &plain, 400),
        (vec![("MCP-Protocol-Version", "2026-07-29"), method, name], &plain, 400),
        (vec![version, name], &plain, 400),
        (vec![version, ("Mcp-Method", "tools/list"), name], &plain, 400),
        (vec![version, method], &plain, 400),
        (vec![version, method, ("Mcp-Name", "add")], &plain, 400),
        (vec![version, method, name, ("Mcp-Param-Region", "x")], &plain, 400),
        (vec![version, method, name], &regional, 400),
        (vec![version, method, name, ("Mcp-Param-Region", "nord")], &regional, 400),
        (vec![version, method, name, ("Mcp-Param-Region", "=?base64?c8O8ZA==?=")], &regional, 200),
    ] {
        let message = modern_message("tools/call", params.clone(), MODERN_VERSION);
        let response = client.post(&headers, &message).await;
        assert_eq!(response.status, status, "{headers:?}");
        if status == 400 {
            assert_eq!(response.code(), -32020, "{headers:?}");
        }
    }
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    let response = client.post(&[version, ("Mcp-Method", "tools/list")], &bare).await;
    assert_eq!((response.status, response.code()), (400, -32602));
}

#[tokio::test]
async fn an_unsupported_version_is_answered_by_those_that_are_supported() {
    let versions = vec!["2027-01-01".to_owned(), "2026-12-01".to_owned()];
    let server = server(Eras::Versions(versions.clone())).await;
    let mut client = Client::connect(&server).await;
    let refused = client.modern("server/discover", json!({})).await;
    assert_eq!((refused.status, refused.code()), (400, -32022));
    assert_eq!(refused.json()["error"]["data"], json!({ "supported": versions, "requested": MODERN_VERSION }));

    let headers = [("MCP-Protocol-Version", "2026-12-01"), ("Mcp-Method", "server/discover")];
    let response = client.post(&headers, &modern_message("server/discover", json!({}), "2026-12-01")).await;
    assert_eq!(response.json()["result"]["supportedVersions"], json!(versions));

    let refused = client.initialize("2025-11-25").await;
    assert_eq!((refused.status, refused.code()), (400, -32022));
}

#[tokio::test]
async fn a_server_of_both_eras_goes_by_the_way_in_which_the_client_opens() {
    let server = server(Eras::Dual).await;
    let mut client = Client::connect(&server).await;
    let discovered = client.modern("server/discover", json!({})).await.json();
    let all: Vec<_> = [MODERN_VERSION].into_iter().chain(LEGACY_VERSIONS).collect();
    assert_eq!(discovered["result"]["supportedVersions"], json!(all));
    let opened = client.initialize("2025-11-25").await;
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    assert_eq!(client.call(&session, "echo", json!({ "text": "old" })).await.tool_text(), "old");
    let modern = client.modern("tools/call", json!({ "name": "echo", "arguments": { "text": "new" } })).await;
    assert_eq!(modern.tool_text(), "new");
    let notification = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled" });
    assert_eq!(client.post(&[("MCP-Protocol-Version", MODERN_VERSION)], &notification).await.status, 202);
}

#[tokio::test]
async fn a_subscription_carries_what_was_asked_for_until_it_ends() {
    let server = server(Eras::Modern).await;
    let mut client = Client::connect(&server).await;
    let filter = json!({ "toolsListChanged": true, "resourceSubscriptions": ["memo://a"] });
    client.start_modern("subscriptions/listen", json!({ "notifications": filter })).await;
    let opening = client.read_until("\n\n").await;
    assert!(opening.contains("notifications/subscriptions/acknowledged"), "{opening}");
    assert!(opening.contains(r#""io.modelcontextprotocol/subscriptionId":"m-1""#), "{opening}");
    server.notify("notifications/prompts/list_changed", &json!({}));
    server.notify("notifications/resources/updated", &json!({ "uri": "memo://b" }));
    server.notify("notifications/resources/updated", &json!({ "uri": "memo://a" }));
    server.notify("notifications/tools/list_changed", &json!({}));
    server.end_streams();
    let rest = client.read_until("0\r\n\r\n").await;
    assert!(!rest.contains("prompts") && !rest.contains("memo://b"), "{rest}");
    let (updated, changed) = (rest.find("memo://a").unwrap(), rest.find("tools/list_changed").unwrap());
    assert!(updated < changed && changed < rest.find(r#""resultType":"complete""#).unwrap(), "{rest}");
    assert_eq!(rest.matches(r#""io.modelcontextprotocol/subscriptionId":"m-1""#).count(), 3);
}

// HTTP+SSE

#[tokio::test]
async fn an_http_sse_client_gets_its_answers_on_its_own_stream() {
    let server = server(Eras::HttpSse).await;
    let mut poster = Client::connect(&server).await;
    assert_eq!(poster.modern("server/discover", json!({})).await.status, 405);
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = Client::connect(&server).await;
        stream.request("GET", "/mcp", &[("Accept", "text/event-stream")], "").await;
        stream.read_until("event: endpoint\ndata: ").await;
        let endpoint = stream.read_until("\n").await.trim().to_owned();
        streams.push((stream, endpoint));
    }
    for (stream, endpoint) in &mut streams {
        for (tool, expected) in [("echo", endpoint.as_str()), ("slow", "3 steps")] {
            let message = call_message(tool, &json!({ "text": endpoint })).to_string();
            poster.request("POST", endpoint, &[("Content-Type", "application/json")], &message).await;
            assert_eq!(poster.response().await.status, 202);
            stream.read_until("event: message\ndata: ").await;
            assert!(stream.read_until("\n\n").await.contains(expected));
        }
    }
    assert_ne!(streams[0].1, streams[1].1);
}

// Tools

#[tokio::test]
async fn slow_reports_its_progress_at_its_interval() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    let mut message = call_message("slow", &json!({ "steps": 3, "interval_ms": 20 }));
    message["params"]["_meta"] = json!({ "progressToken": "p" });
    let start = Instant::now();
    let response = client.post(&[], &message).await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let events = response.events();
    let progress: Vec<_> = events.iter().filter_map(|event| event["params"]["progress"].as_u64()).collect();
    assert_eq!(progress, [1, 2, 3]);
    assert!(events[..3].iter().all(|event| event["params"]["progressToken"] == "p"));
    assert_eq!(events[3]["result"]["content"][0]["text"], "3 steps");
}

#[tokio::test]
async fn big_is_as_big_as_asked() {
    let server = server(Eras::Dual).await;
    let mut client = Client::connect(&server).await;
    for bytes in [0, 1, 65_536, 3_000_000] {
        let called = client.modern("tools/call", json!({ "name": "big", "arguments": { "bytes": bytes } })).await;
        assert_eq!(called.tool_text().len(), bytes);
    }
    let arguments = json!({ "bytes": 100_000, "sse": true });
    let called = client.modern("tools/call", json!({ "name": "big", "arguments": arguments })).await;
    assert_eq!(called.events()[0]["result"]["content"][0]["text"].as_str().unwrap().len(), 100_000);
}

// Authorization

#[tokio::test]
async fn a_token_is_needed_and_can_be_revoked() {
    let auth = Auth::bearer("good").challenge("Bearer resource_metadata=\"http://x/\"").open_method("initialize");
    let server = McpServer::builder().eras(Eras::Legacy).stateless().auth(auth).start().await.unwrap();
    let mut client = Client::connect(&server).await;
    let message = call_message("count", &json!({}));
    let good = [("Authorization", "Bearer good")];
    let better = [("authorization", "bearer better")];

    let refused = client.post(&[], &message).await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Bearer resource_metadata=\"http://x/\""))
    );
    assert_eq!(client.post(&[("Authorization", "Basic good")], &message).await.status, 401);
    assert_eq!(client.post(&good, &message).await.status, 200);
    assert_eq!(client.initialize("2025-11-25").await.status, 200);
    server.revoke_token("good");
    server.set_challenge(None);
    let refused = client.post(&good, &message).await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (401, None));
    server.accept_token("better");
    assert_eq!(client.post(&better, &message).await.status, 200);
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn tokens_are_revoked_after_a_number_of_requests() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    let message = call_message("count", &json!({}));
    server.revoke_after(2);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(client.post(&[], &message).await.status);
    }
    assert_eq!(seen, [200, 200, 401, 401]);
    server.accept_token("new");
    assert_eq!(client.post(&[("Authorization", "Bearer new")], &message).await.status, 200);
    server.set_auth(Auth::verified_by(|token| token.starts_with("at-")));
    assert_eq!(client.post(&[("Authorization", "Bearer at-1")], &message).await.status, 200);
    assert_eq!(client.post(&[("Authorization", "Bearer new")], &message).await.status, 401);
}

#[tokio::test]
async fn other_paths_answer_without_a_token() {
    let server = McpServer::builder().auth(Auth::bearer("")).start().await.unwrap();
    server.route("/.well-known/oauth-protected-resource/mcp", Reply::json(r#"{"resource":"x"}"#));
    let mut client = Client::connect(&server).await;
    client.request("GET", "/.well-known/oauth-protected-resource/mcp?a=b", &[], "").await;
    assert_eq!(client.response().await.json()["resource"], "x");
    client.request("POST", "/mcp", &[], "{}").await;
    assert_eq!(client.response().await.status, 401);
}

// Records and gauges

#[tokio::test]
async fn requests_are_recorded_as_they_came() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    let before = Instant::now();
    client
        .send(
            "POST /mcp?q=1 HTTP/1.1\r\nHOST: h\r\nX_Under: 1\r\nx-twice: a\r\nX-Twice:  b \r\nempty:\r\n\
             Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 415);
    assert_eq!(echo(&server).await.status, 200);

    let requests = server.requests();
    let first = &requests[0];
    assert_eq!((first.verb.as_str(), first.path(), first.query("q")), ("POST", "/mcp", Some("1")));
    let names: Vec<_> = first.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["HOST", "X_Under", "x-twice", "X-Twice", "empty", "Transfer-Encoding"]);
    assert_eq!(first.header_values("x-twice").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(first.header("empty"), Some(""));
    assert_eq!(first.body, "hello world");
    assert!(first.contains("X_Under: 1") && first.contains("lo wo") && !first.contains("absent"));
    assert!(first.arrived >= before);
    assert_eq!((first.connection, requests[1].connection), (0, 1));
    assert_eq!(requests[1].json().unwrap()["method"], "tools/call");
    assert_eq!(server.requests_for("tools/call").len(), 1);
    server.clear_requests();
    assert_eq!((server.request_count(), server.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_connection_is_kept_until_the_client_asks_otherwise() {
    let server = McpServer::builder().stateless().without_recording().start().await.unwrap();
    let mut client = Client::connect(&server).await;
    for number in 1..=50 {
        let response = client.post(&[], &call_message("count", &json!({}))).await;
        assert_eq!(response.tool_text(), number.to_string());
    }
    assert_eq!((server.connections(), server.request_count(), server.requests().len()), (1, 50, 0));

    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let head = "POST /mcp HTTP/1.1\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 40\r\n";
    let pipelined =
        format!("{head}\r\n{ping}{head}Expect: 100-continue\r\n\r\n{ping}{head}Connection: close\r\n\r\n{ping}");
    client.send(pipelined).await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.status, 100);
    assert_eq!(client.response().await.status, 200);
    assert_eq!(client.response().await.header("connection"), Some("close"));
    assert!(client.read_to_end().await.is_empty());
    server.wait_until_connections(0, SOON).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once_whatever_it_waits_for() {
    let server = server(Eras::Modern).await;
    for behaviour in [
        Behaviour::serve(),
        Behaviour::hang(),
        Behaviour::hang_in_head(),
        Behaviour::cut_in_the_middle(Ending::Hang),
        Behaviour::delayed(Duration::from_mins(1)),
        Behaviour::endless_sse(Duration::from_mins(1)),
        Behaviour::endless_json(),
    ] {
        server.script(behaviour.clone());
        server.clear_requests();
        let mut client = Client::connect(&server).await;
        client.start_modern("subscriptions/listen", json!({})).await;
        server.wait_until_requests(1, SOON).await.unwrap();
        assert_eq!(server.open_streams(), 1, "{behaviour:?}");
        drop(client);
        server.wait_until_open_streams(0, SOON).await.unwrap();
        server.wait_until_connections(0, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn waiting_in_vain_says_what_was_there() {
    let server = simple().await;
    let _client = Client::connect(&server).await;
    server.wait_until_connections(1, SOON).await.unwrap();
    let missed = server.wait_until_connections(2, SHORTLY).await.unwrap_err();
    assert_eq!((missed.wanted, missed.last), (2, 1));
    assert!(missed.to_string().ends_with("for 2 connections, there were 1"), "{missed}");
}

#[tokio::test]
async fn a_stopped_server_leaves_its_port_to_the_next() {
    let server = simple().await;
    let address = server.address();
    let mut client = Client::connect(&server).await;
    server.wait_until_connections(1, SOON).await.unwrap();
    server.stop().await;
    assert!(client.read_to_end().await.is_empty());
    assert!(TcpStream::connect(address).await.is_err());
    let server = McpServer::builder().stateless().address(address).start().await.unwrap();
    assert_eq!(server.url(), format!("http://{address}/mcp"));
    assert_eq!(echo(&server).await.status, 200);
}

#[tokio::test]
async fn connections_can_be_closed_in_the_middle_of_a_stream() {
    let server = simple().await;
    let mut client = Client::connect(&server).await;
    client.request("GET", "/mcp", &[("Accept", "text/event-stream")], "").await;
    client.read_until(": open").await;
    server.close_connections();
    assert!(!String::from_utf8(client.read_to_end().await).unwrap().contains("0\r\n\r\n"));
    assert_eq!(echo(&server).await.status, 200);
}

// Scripts

#[tokio::test]
async fn rules_are_asked_in_their_order() {
    let server = simple().await;
    server.script([
        Rule::once(Behaviour::status(500)).on_method("ping"),
        Rule::once(Behaviour::status(501)),
        Rule::once(Behaviour::status(502)).skip(1),
        Rule::new(Behaviour::status(503)).on_verb("GET").on_path("/x").when(|request| request.query("q") == Some("1")),
    ]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(echo(&server).await.status);
    }
    assert_eq!(seen, [501, 200, 502, 200]);
    let mut client = Client::connect(&server).await;
    for (path, status) in [("/x?q=1", 503), ("/x", 404), ("/x?q=1", 503)] {
        client.request("GET", path, &[], "").await;
        assert_eq!(client.response().await.status, status);
    }
    server.add_rules(Behaviour::status(504));
    assert_eq!(echo(&server).await.status, 504);
    assert_eq!(client.post(&[], &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" })).await.status, 500);
    server.behave();
    assert_eq!(echo(&server).await.status, 200);
}

#[tokio::test]
async fn replies_that_are_valid_http() {
    let server = simple().await;
    for (behaviour, status, header, body) in [
        (Behaviour::status(200), 200, None, ""),
        (Behaviour::status(202), 202, None, ""),
        (Behaviour::status(204), 204, None, ""),
        (Behaviour::text(405, "no"), 405, Some(("content-type", "text/plain; charset=utf-8")), "no"),
        (Behaviour::html("CANARY"), 200, Some(("content-type", "text/html; charset=utf-8")), "CANARY"),
        (Behaviour::text(500, "CANARY"), 500, None, "CANARY"),
        (Behaviour::redirect(308, "http://x/"), 308, Some(("location", "http://x/")), "moved"),
        (Behaviour::too_many_requests(7), 429, Some(("retry-after", "7")), "slow down"),
        (
            Behaviour::unauthorized("Bearer x"),
            401,
            Some(("www-authenticate", "Bearer x")),
            r#"{"error":"invalid_token"}"#,
        ),
        (Behaviour::invalid_json(), 200, None, r#"{"jsonrpc":"2.0","id":2,"result":{"#),
        (Behaviour::not_json_rpc(), 200, None, r#"{"status":"ok","items":[1,2,3]}"#),
        (Behaviour::deep_json(3), 200, None, r#"{"jsonrpc":"2.0","id":2,"result":{"deep":[[[]]]}}"#),
        (Behaviour::rpc_result(&json!({"a": 1})), 200, None, r#"{"jsonrpc":"2.0","id":2,"result":{"a":1}}"#),
    ] {
        server.script(behaviour.clone());
        let response = echo(&server).await;
        assert_eq!((response.status, response.text().as_str()), (status, body), "{behaviour:?}");
        assert!(response.complete);
        if let Some((name, value)) = header {
            assert_eq!(response.header(name), Some(value), "{behaviour:?}");
        }
    }
    server.script(Behaviour::rpc_error(400, -32000, "a \"b\"", &json!({ "c": 1 })));
    let error = echo(&server).await;
    assert_eq!(
        error.json(),
        json!({ "jsonrpc": "2.0", "id": 2, "error": { "code": -32000, "message": "a \"b\"", "data": { "c": 1 } } })
    );
}

#[tokio::test]
async fn right_answers_with_something_wrong() {
    let server = simple().await;
    server.script(Behaviour::hostile_headers());
    let hostile = echo(&server).await;
    assert_eq!(hostile.tool_text(), "hello");
    assert!(HOSTILE_HEADERS.iter().all(|(name, value)| hostile.header(name) == Some(*value)));

    server.script(Behaviour::wrong_id());
    let wrong = echo(&server).await;
    assert_eq!((wrong.json()["id"].as_str(), wrong.tool_text().as_str()), (Some("somebody else's"), "hello"));

    server.script(Behaviour::gzip());
    let gzip = echo(&server).await;
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert!(gzip.body.starts_with(&[0x1f, 0x8b, 8]));
    let plain = &gzip.body[15..gzip.body.len() - 8];
    assert_eq!(serde_json::from_slice::<Value>(plain).unwrap()["result"]["content"][0]["text"], "hello");

    server.script(Behaviour::huge_headers(100_000));
    let huge = echo(&server).await;
    assert!(huge.headers.iter().map(|(_, value)| value.len()).sum::<usize>() > 100_000);

    server.script(Behaviour::duplicate_content_length());
    let double = echo(&server).await;
    assert_eq!(double.headers.iter().filter(|(name, _)| name == "content-length").count(), 2);

    server.script(Behaviour::shorter_than_declared());
    let short = echo(&server).await;
    assert!(!short.complete && short.tool_text() == "hello");

    server.script(Behaviour::delayed(SHORTLY));
    let start = Instant::now();
    assert_eq!(echo(&server).await.tool_text(), "hello");
    assert!(start.elapsed() >= SHORTLY);

    server.script(Behaviour::trickle(Duration::from_millis(1)));
    let start = Instant::now();
    let trickled = echo(&server).await;
    assert_eq!(trickled.tool_text(), "hello");
    assert!(start.elapsed() >= Duration::from_millis(trickled.body.len() as u64 - 1));

    server
        .script(Behaviour::alter(|reply| reply.status(207).header("x-a", "1").edit_json(|json| json["b"] = 2.into())));
    let altered = echo(&server).await;
    assert_eq!((altered.status, altered.header("x-a"), &altered.json()["b"]), (207, Some("1"), &json!(2)));
}

#[tokio::test]
async fn answers_that_break_off() {
    let server = simple().await;
    server.script(Behaviour::cut_in_the_middle(Ending::Close));
    let cut = echo(&server).await;
    assert!(!cut.complete && cut.body.len() > 10);

    server.script(Behaviour::cut_in_the_middle(Ending::Hang));
    let mut client = Client::connect(&server).await;
    client.start_post(&[], &call_message("echo", &json!({ "text": "hello" }))).await;
    client.read_until("\"result\":").await;
    client.read_until("\r\n").await;
    assert!(client.silent().await);

    server.script(Behaviour::alter(|reply| reply.cut_after(0, Ending::Reset)));
    let mut client = Client::connect(&server).await;
    client.start_post(&[], &call_message("echo", &json!({}))).await;
    client.read_until("\r\n\r\n").await;
    assert_eq!(client.stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn no_http_at_all() {
    let server = simple().await;
    for (behaviour, expected) in [
        (Behaviour::close(), &b""[..]),
        (Behaviour::reset(), b""),
        (Behaviour::raw("HTTP/1.1 200 OK\r\nx"), b"HTTP/1.1 200 OK\r\nx"),
    ] {
        server.script(behaviour.clone());
        let mut client = Client::connect(&server).await;
        client.start_post(&[], &call_message("echo", &json!({}))).await;
        assert_eq!(client.read_to_end().await, expected, "{behaviour:?}");
    }
    server.script(Behaviour::garbage());
    let mut client = Client::connect(&server).await;
    client.start_post(&[], &call_message("echo", &json!({}))).await;
    assert!(!client.read_to_end().await.starts_with(b"HTTP"));
    server.script(Behaviour::hang());
    let mut client = Client::connect(&server).await;
    client.start_post(&[], &call_message("echo", &json!({}))).await;
    assert!(client.silent().await);
    assert_eq!(server.request_count(), 5);
}

#[tokio::test]
async fn bodies_without_end_keep_coming() {
    let server = simple().await;
    for (behaviour, unit) in [
        (Behaviour::endless_json(), "x"),
        (Behaviour::endless_sse(Duration::from_millis(1)), "tick"),
        (Behaviour::huge_sse_event(1 << 30), "x"),
    ] {
        server.script(behaviour);
        let mut client = Client::connect(&server).await;
        client.start_post(&[], &call_message("echo", &json!({}))).await;
        client.read_until("\r\n\r\n").await;
        for _ in 0..20 {
            client.read_until(unit).await;
        }
    }
    server.script(Behaviour::huge_sse_event(200_000));
    let event = &echo(&server).await.events()[0];
    assert_eq!((&event["id"], event["result"]["huge"].as_str().unwrap().len()), (&json!(2), 200_000));
}

#[tokio::test]
async fn every_style_of_event_stream_says_the_same() {
    let server = simple().await;
    for style in [
        SseStyle::Plain,
        SseStyle::Bare,
        SseStyle::CrLf,
        SseStyle::Cr,
        SseStyle::Bom,
        SseStyle::Comments,
        SseStyle::MultiLine,
        SseStyle::Primed,
        SseStyle::Everything,
    ] {
        server.script(Behaviour::as_sse(style));
        let response = Client::connect(&server).await.initialize("2025-11-25").await;
        assert_eq!(response.header("content-type"), Some("text/event-stream"), "{style:?}");
        let events = response.events();
        assert_eq!(events.len(), 1, "{style:?}");
        assert_eq!(events[0]["result"]["serverInfo"]["name"], "testkit", "{style:?}");
    }
}
