//! A scriptable MCP server of both eras, over real sockets.
//!
//! By itself it is a proper server: `initialize` with sessions, `server/discover` with its headers, or both on one URL,
//! and five tools to call. A script makes single requests, or all, go wrong, down to the bytes on the wire. Everything
//! that arrives is recorded, and what is open can be waited for.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use connectors_testkit::mcp_server::{Auth, Behaviour, Eras, McpServer, Rule};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = McpServer::builder().eras(Eras::Dual).auth(Auth::bearer("good")).start().await?;
//! let url = server.url(); // http://127.0.0.1:PORT/mcp
//!
//! server.script(Rule::once(Behaviour::redirect(307, "http://elsewhere.example/")).on_method("tools/call"));
//! server.revoke_token("good"); // from now on 401
//! server.accept_token("better");
//! // … call it …
//! assert!(server.requests().iter().all(|request| !request.contains("platform-token")));
//! server.wait_until_open_streams(0, Duration::from_secs(1)).await?;
//! assert_eq!(server.count(), 1); // calls of the tool `count`
//! # Ok(())
//! # }
//! ```
//!
//! It is no reference server and no authorization server: it has no resources, prompts, resumable streams or requests of
//! its own but those that a test sends, and speaks neither TLS nor HTTP/2.

#![expect(clippy::result_large_err, reason = "a refusal is a whole reply, and made once for a request")]

mod auth;
mod http_sse;
mod legacy;
mod modern;
mod protocol;
mod tools;

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::net::TcpListener;

pub use self::{
    auth::Auth,
    protocol::{Eras, LEGACY_VERSIONS, MODERN_VERSION},
};
use self::{auth::Gate, protocol::Protocol};
pub use crate::wire::{
    behaviour::{Behaviour, HOSTILE_HEADERS, Hold, Step},
    gauge::NotReached,
    reply::{Ending, Framing, ID, Reply, SseStyle},
    request::Request,
    script::{Rule, Script},
};
// The modules of this one find the wire layer here.
use crate::wire::{
    Answer, Server, Service,
    hub::{self, Post},
    reply, request,
};

/// A running server; stops when it is dropped.
#[derive(Debug)]
pub struct McpServer {
    shared: Arc<Shared>,
    server: Server,
}

/// What the server will be.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    address: SocketAddr,
    path: String,
    eras: Eras,
    auth: Auth,
    sessions: bool,
    get_stream: bool,
    recording: bool,
    script: Script,
    routes: HashMap<String, Reply>,
}

/// What it serves.
#[derive(Debug)]
struct Shared {
    path: String,
    protocol: Arc<Protocol>,
    gate: Gate,
    routes: Mutex<HashMap<String, Reply>>,
}

impl Builder {
    /// Which versions it speaks; without this, [`Eras::Dual`].
    pub fn eras(self, eras: Eras) -> Self {
        Self { eras, ..self }
    }

    /// Who may call it; without this, everyone.
    pub fn auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Where it listens; without this, on a free port of 127.0.0.1.
    pub fn address(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// The path of the MCP endpoint; without this, `/mcp`.
    pub fn path(self, path: impl Into<String>) -> Self {
        Self { path: path.into(), ..self }
    }

    /// Legacy clients get no session id and need none.
    pub fn stateless(self) -> Self {
        Self { sessions: false, ..self }
    }

    /// GET is answered by 405.
    pub fn without_get_stream(self) -> Self {
        Self { get_stream: false, ..self }
    }

    /// Requests are counted but not kept, for benchmarks.
    pub fn without_recording(self) -> Self {
        Self { recording: false, ..self }
    }

    /// Rules from the start, as by [`McpServer::script`].
    pub fn script(self, script: impl Into<Script>) -> Self {
        Self { script: script.into(), ..self }
    }

    /// A reply on another path from the start, as by [`McpServer::route`].
    pub fn route(mut self, path: impl Into<String>, reply: Reply) -> Self {
        self.routes.insert(path.into(), reply);
        self
    }

    /// Listens. Fails where the address cannot be bound.
    pub async fn start(self) -> io::Result<McpServer> {
        let listener = TcpListener::bind(self.address).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            path: self.path,
            protocol: Arc::new(Protocol::new(&self.eras, self.sessions, self.get_stream, port)),
            gate: Gate::new(self.auth),
            routes: Mutex::new(self.routes),
        });
        let hub = Arc::clone(&shared.protocol.hub);
        let server = Server::start(listener, self.recording, self.script, hub, Arc::clone(&shared))?;
        Ok(McpServer { shared, server })
    }
}

/// Where it is, and its end.
impl McpServer {
    /// Describes a server.
    pub fn builder() -> Builder {
        Builder {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            path: "/mcp".to_owned(),
            eras: Eras::Dual,
            auth: Auth::none(),
            sessions: true,
            get_stream: true,
            recording: true,
            script: Script::default(),
            routes: HashMap::new(),
        }
    }

    /// The URL of the MCP endpoint.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin(), self.shared.path)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Stops, and waits until the port is free: a server that is started there afterwards takes its place.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    /// Ends every connection at once, in the middle of whatever it carries.
    pub fn close_connections(&self) {
        self.server.core.close_connections();
    }
}

/// What happened.
impl McpServer {
    /// All requests, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Request> {
        self.server.core.lock_requests().clone()
    }

    /// The requests that carried a JSON-RPC message with this method.
    pub fn requests_for(&self, method: &str) -> Vec<Request> {
        let requests = self.server.core.lock_requests();
        requests.iter().filter(|request| request.rpc_method.as_deref() == Some(method)).cloned().collect()
    }

    /// How many requests came, recorded or not.
    pub fn request_count(&self) -> usize {
        self.server.core.arrived.get()
    }

    /// Forgets the requests, and counts them from 0 again.
    pub fn clear_requests(&self) {
        self.server.core.clear_requests();
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.server.core.connections.get()
    }

    /// How many requests are being answered: each from its last byte until the last byte of its response is written or
    /// the client has closed. A server that hangs is answering.
    pub fn open_streams(&self) -> usize {
        self.server.core.streams.get()
    }

    /// How many times the tool `count` was called.
    pub fn count(&self) -> u64 {
        self.shared.protocol.counter.load(Ordering::SeqCst)
    }

    /// Waits until exactly so many connections are open.
    pub async fn wait_until_connections(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.server.core.connections.wait(wanted, |open| open == wanted, limit).await
    }

    /// Waits until exactly so many requests are being answered.
    pub async fn wait_until_open_streams(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.server.core.streams.wait(wanted, |open| open == wanted, limit).await
    }

    /// Waits until at least so many requests have come.
    pub async fn wait_until_requests(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.server.core.wait_until_requests(wanted, limit).await
    }
}

/// How it behaves from now on.
impl McpServer {
    /// These rules, and no others. They hold for every path, and before anything else.
    pub fn script(&self, script: impl Into<Script>) {
        self.server.core.rules.replace(script.into());
    }

    /// These rules after those that hold already.
    pub fn add_rules(&self, script: impl Into<Script>) {
        self.server.core.rules.add(script.into());
    }

    /// No rules: the server behaves.
    pub fn behave(&self) {
        self.script(Script::default());
    }

    /// A reply on a path, for every method and without a token, such as protected resource metadata.
    pub fn route(&self, path: impl Into<String>, reply: Reply) {
        self.shared.lock_routes().insert(path.into(), reply);
    }

    /// Other rules about who may call it.
    pub fn set_auth(&self, auth: Auth) {
        self.shared.gate.replace(auth);
    }

    /// One more token is good. From now on one is needed.
    pub fn accept_token(&self, token: &str) {
        self.shared.gate.accept(token);
    }

    /// Messages with this JSON-RPC method need no token from now on.
    pub fn open_method(&self, method: &str) {
        self.shared.gate.open_method(method);
    }

    /// The token is good no longer; has no effect on [`Auth::verified_by`].
    pub fn revoke_token(&self, token: &str) {
        self.shared.gate.revoke(token);
    }

    /// No token is good until one is accepted. From now on one is needed.
    pub fn revoke_all_tokens(&self) {
        self.shared.gate.revoke_all();
    }

    /// After so many further requests that are let in, as by [`Self::revoke_all_tokens`].
    pub fn revoke_after(&self, requests: u64) {
        self.shared.gate.revoke_after(requests);
    }

    /// Another `WWW-Authenticate` for the 401, or none.
    pub fn set_challenge(&self, challenge: Option<&str>) {
        self.shared.gate.challenge(challenge.map(str::to_owned));
    }

    /// Every session is unknown from now on.
    pub fn forget_sessions(&self) {
        legacy::forget_sessions(&self.shared.protocol);
    }

    /// Sends a notification on the streams that are open for it.
    pub fn notify(&self, method: &str, params: &Value) {
        self.push(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Sends any message, such as a request of the server, on the GET streams of legacy clients; subscriptions of modern
    /// ones take only the notifications they asked for.
    pub fn push(&self, message: Value) {
        self.shared.protocol.hub.post(Post::Everyone(message));
    }

    /// Ends the GET streams and the subscriptions as the protocol has it.
    pub fn end_streams(&self) {
        self.shared.protocol.hub.post(Post::End);
    }
}

impl Service for Shared {
    fn answer(&self, request: &Request, rpc: Option<&Value>) -> Answer {
        let path = request.path();
        if let Some(reply) = self.lock_routes().get(path).cloned() {
            return reply.into();
        }
        let messages = self.protocol.http_sse && path == http_sse::MESSAGES;
        if path != self.path && !messages {
            return Reply::text(404, "Not Found").into();
        }
        if let Err(refusal) = self.gate.check(request) {
            return refusal.into();
        }
        if messages {
            http_sse::message(&self.protocol, request, rpc).into()
        } else {
            self.protocol.answer(request, rpc).into()
        }
    }
}

impl Shared {
    fn lock_routes(&self) -> std::sync::MutexGuard<'_, HashMap<String, Reply>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
