//! A strict OAuth authorization server, over real sockets.
//!
//! By itself it is honest and unforgiving: metadata (RFC 8414 and OpenID Connect Discovery), registration (RFC 7591),
//! codes with PKCE and `resource`, refresh tokens that rotate, revocation (RFC 7009). Whoever shows a spent refresh token
//! loses the grant, and that is counted. [`Settings`] change what it does, a script what it answers, down to the bytes on
//! the wire; everything that arrives is recorded.
//!
//! ```no_run
//! # use connectors_testkit::authorization_server::{AuthorizationServer, Behaviour, Endpoint, ExpiresIn, parameter, visit};
//! # use connectors_testkit::mcp_server::McpServer;
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let server = AuthorizationServer::builder().issuer_path("/tenant").start().await?;
//! let mcp = McpServer::builder().start().await?;
//! server.protect(&mcp); // resource metadata, a challenge, and only tokens of this server for this resource
//!
//! server.change(|settings| settings.expires_in = ExpiresIn::Text);
//! server.add_rules(server.once(Endpoint::Refresh, Behaviour::too_many_requests(1)));
//! # let authorization_url = String::new();
//! let callback = visit(&authorization_url).await?; // the browser: consents, and is sent back
//! let code = parameter(&callback, "code");
//! // … let the client finish and call …
//! assert_eq!(server.counters().exchanges, 1);
//! assert_eq!(server.counters().reuses, 0);
//! # Ok(())
//! # }
//! ```
//!
//! It is no reference server: it knows no users, sessions, ID tokens or signed tokens, fetches no client metadata document (a
//! test adds the client under its URL), and speaks neither TLS nor HTTP/2.

mod assertions;
mod authorize;
mod browser;
pub(crate) mod clients;
pub(crate) mod form;
mod metadata;
mod settings;
pub(crate) mod state;
pub(crate) mod token;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot};

use self::{authorize::Outcome, form::Form, state::State};
pub use self::{
    browser::{Page, get, parameter, visit},
    clients::Client,
    settings::{AuthMethod, Consent, Document, ExpiresIn, Iss, Rotation, Settings},
    state::{Counters, GrantInfo, Issued, TokenInfo},
};
pub use crate::wire::{
    behaviour::{Behaviour, Hold, Step},
    gauge::NotReached,
    reply::{Ending, Framing, Reply},
    request::Request,
    script::{Rule, Script},
};
use crate::{
    mcp_server::{Auth, McpServer},
    wire::{Answer, Server, Service, gauge::Gauge, hub::Hub},
};

/// A running server; stops when it is dropped.
#[derive(Debug)]
pub struct AuthorizationServer {
    shared: Arc<Shared>,
    server: Server,
}

/// What the server will be.
#[derive(Debug)]
#[must_use]
pub struct Builder {
    address: SocketAddr,
    host: Option<String>,
    issuer_path: String,
    settings: Settings,
    clients: Vec<Client>,
    script: Script,
}

/// A part of the server, for rules and recorded requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// The metadata documents, wherever they are.
    Metadata,
    /// Registration, and its end.
    Registration,
    /// Where the browser goes.
    Authorization,
    /// The token endpoint, whatever the grant type.
    Token,
    /// The token endpoint with `grant_type=authorization_code`.
    Exchange,
    /// The token endpoint with `grant_type=refresh_token`.
    Refresh,
    /// Revocation.
    Revocation,
}

#[derive(Debug)]
struct Shared {
    origin: String,
    issuer: String,
    issuer_path: String,
    state: Mutex<State>,
    /// How many browsers have been asked for consent since the last decision.
    asked: Gauge,
}

impl Builder {
    /// Where it listens; without this, on a free port of 127.0.0.1.
    pub fn address(self, address: SocketAddr) -> Self {
        Self { address, ..self }
    }

    /// The host in its URLs, such as `localhost`; without this, the address.
    pub fn host(self, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    /// The path of the issuer, such as `/tenant`; without this there is none.
    pub fn issuer_path(self, path: impl Into<String>) -> Self {
        Self { issuer_path: path.into(), ..self }
    }

    /// Changes what the server does.
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// A client that is known from the start.
    pub fn client(mut self, client: Client) -> Self {
        self.clients.push(client);
        self
    }

    /// Rules from the start, as by [`AuthorizationServer::script`].
    pub fn script(self, script: impl Into<Script>) -> Self {
        Self { script: script.into(), ..self }
    }

    /// Listens. Fails where the address cannot be bound.
    pub async fn start(self) -> io::Result<AuthorizationServer> {
        let listener = TcpListener::bind(self.address).await?;
        let address = listener.local_addr()?;
        let origin = match self.host {
            Some(host) => format!("http://{host}:{}", address.port()),
            None => format!("http://{address}"),
        };
        let shared = Arc::new(Shared {
            issuer: format!("{origin}{}", self.issuer_path),
            origin,
            issuer_path: self.issuer_path,
            state: Mutex::new(State::new(self.settings, self.clients)),
            asked: Gauge::new("browsers that wait for consent"),
        });
        let server = Server::start(listener, true, self.script, Arc::new(Hub::new()), Arc::clone(&shared))?;
        Ok(AuthorizationServer { shared, server })
    }
}

/// Where it is, and its end.
impl AuthorizationServer {
    /// Describes a server.
    pub fn builder() -> Builder {
        Builder {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            host: None,
            issuer_path: String::new(),
            settings: Settings::default(),
            clients: Vec::new(),
            script: Script::default(),
        }
    }

    /// The issuer: the origin and the path, without a slash at the end unless the path has one.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// Scheme, host and port.
    pub fn url(&self) -> &str {
        &self.shared.origin
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The URL of a metadata document.
    pub fn metadata_url(&self, document: Document) -> String {
        format!("{}{}", self.shared.origin, metadata::path(document, &self.shared.issuer_path))
    }

    /// What a metadata document says now.
    pub fn metadata(&self, document: Document) -> Value {
        metadata::document(&self.shared.lock(), &self.shared.issuer, document)
    }

    /// Where the browser goes.
    pub fn authorization_endpoint(&self) -> String {
        format!("{}/authorize", self.shared.issuer)
    }

    /// Where tokens are.
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.shared.issuer)
    }

    /// Where clients register.
    pub fn registration_endpoint(&self) -> String {
        format!("{}/register", self.shared.issuer)
    }

    /// Where tokens are revoked.
    pub fn revocation_endpoint(&self) -> String {
        format!("{}/revoke", self.shared.issuer)
    }

    /// Stops, and waits until the port is free. What it knew is forgotten.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    /// Ends every connection at once, in the middle of whatever it carries.
    pub fn close_connections(&self) {
        self.server.core.close_connections();
    }
}

/// What it does for MCP servers.
impl AuthorizationServer {
    /// Protected resource metadata (RFC 9728) of an MCP server that takes the tokens of this one.
    pub fn resource_metadata(&self, mcp_url: &str) -> Value {
        let mut metadata = json!({
            "resource": mcp_url,
            "authorization_servers": [self.shared.issuer],
            "bearer_methods_supported": ["header"],
        });
        let scopes = &self.shared.lock().settings.scopes;
        if !scopes.is_empty() {
            metadata["scopes_supported"] = json!(scopes);
        }
        metadata
    }

    /// Makes this the authorization server of an MCP server: publishes [`Self::resource_metadata`] at the well-known path,
    /// and lets in only who brings a token of this server for that URL. The 401 names the metadata.
    pub fn protect(&self, mcp: &McpServer) {
        let (origin, url) = (mcp.origin(), mcp.url());
        let path = format!("/.well-known/oauth-protected-resource{}", url.strip_prefix(&origin).unwrap_or_default());
        let challenge = format!("Bearer resource_metadata=\"{origin}{path}\"");
        mcp.route(path, Reply::json(self.resource_metadata(&url).to_string()));
        mcp.set_auth(Auth::verified_by(self.verifier(&url)).challenge(challenge));
    }

    /// Whether a token is good for this resource, for [`Auth::verified_by`].
    pub fn verifier(&self, resource: &str) -> impl Fn(&str) -> bool + Send + Sync + use<> {
        let (shared, resource) = (Arc::clone(&self.shared), Some(resource.to_owned()));
        move |token| shared.lock().info(token).is_some_and(|info| info.resource == resource)
    }

    /// What an access token is good for; `None` when it is unknown, has expired or was revoked.
    pub fn token_info(&self, token: &str) -> Option<TokenInfo> {
        self.shared.lock().info(token)
    }

    /// Tokens without a flow, as if someone had consented; `None` when the client is unknown. Not counted.
    pub fn issue(&self, client_id: &str, resource: Option<&str>, scopes: &[&str]) -> Option<Issued> {
        let mut state = self.shared.lock();
        if !state.clients.contains_key(client_id) {
            return None;
        }
        let scopes: Vec<_> = scopes.iter().map(|&scope| scope.to_owned()).collect();
        let (client_id, resource) = (client_id.to_owned(), resource.map(str::to_owned));
        state.grants.push(state::Grant::new(client_id, resource, scopes.clone()));
        let grant = state.grants.len() - 1;
        let access_token = state.new_access(grant, scopes);
        let refresh_token = state.refreshable(grant).then(|| state.new_refresh(grant));
        Some(Issued { access_token, refresh_token })
    }
}

/// What happened.
impl AuthorizationServer {
    /// What the server did.
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// What became of every consent, in the order in which they were given.
    pub fn grants(&self) -> Vec<GrantInfo> {
        self.shared.lock().grants.iter().map(state::Grant::info).collect()
    }

    /// What became of the consent that a token goes back to, good or spent; `None` when the token is unknown, or was an
    /// access token and is forgotten.
    pub fn grant_of(&self, token: &str) -> Option<GrantInfo> {
        self.shared.lock().grant_of(token).map(state::Grant::info)
    }

    /// What its clock shows, in seconds since 1970: client assertions are judged by it.
    pub fn seconds(&self) -> u64 {
        clients::seconds_since_1970(Duration::ZERO)
    }

    /// All requests, in the order in which they were complete, whether served or scripted.
    pub fn requests(&self) -> Vec<Request> {
        self.server.core.lock_requests().clone()
    }

    /// The requests to a part of the server, whether served or scripted.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<Request> {
        let requests = self.server.core.lock_requests();
        let path = &self.shared.issuer_path;
        requests.iter().filter(|request| endpoint.takes(path, request)).cloned().collect()
    }

    /// Forgets the requests and sets the counters to 0.
    pub fn clear(&self) {
        self.server.core.clear_requests();
        self.shared.lock().counters = Counters::default();
    }

    /// How many requests are being answered: a browser that waits for consent, and one towards which the server hangs.
    pub fn open_requests(&self) -> usize {
        self.server.core.streams.get()
    }

    /// Waits until at least so many requests have come.
    pub async fn wait_until_requests(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.server.core.wait_until_requests(wanted, limit).await
    }

    /// Waits until exactly so many requests are being answered.
    pub async fn wait_until_open_requests(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.server.core.streams.wait(wanted, |open| open == wanted, limit).await
    }

    /// Waits until at least so many browsers have been asked for consent and are waiting.
    pub async fn wait_until_asked(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.shared.asked.wait(wanted, |asked| asked >= wanted, limit).await
    }
}

/// How it behaves from now on.
impl AuthorizationServer {
    /// Changes what the server does. No request is answered meanwhile, so `change` must not call the server.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().settings);
    }

    /// These rules, and no others. They hold for every path, and before anything else.
    pub fn script(&self, script: impl Into<Script>) {
        self.server.core.rules.replace(script.into());
    }

    /// These rules after those that hold already.
    pub fn add_rules(&self, script: impl Into<Script>) {
        self.server.core.rules.add(script.into());
    }

    /// No rules: only the settings count.
    pub fn behave(&self) {
        self.script(Script::default());
    }

    /// A rule for every request to a part of the server.
    pub fn on(&self, endpoint: Endpoint, behaviour: impl Into<Behaviour>) -> Rule {
        let path = self.shared.issuer_path.clone();
        Rule::new(behaviour).when(move |request| endpoint.takes(&path, request))
    }

    /// A rule for the next request to a part of the server.
    pub fn once(&self, endpoint: Endpoint, behaviour: impl Into<Behaviour>) -> Rule {
        self.on(endpoint, behaviour).times(1)
    }

    /// Consents for every browser that waits; answers how many there were.
    pub fn approve(&self) -> usize {
        self.decide(authorize::Authorization::grant)
    }

    /// Refuses for every browser that waits, with this error; answers how many there were.
    pub fn refuse(&self, error: &str, description: &str) -> usize {
        self.decide(|authorization, state, issuer| authorization.refuse(state, issuer, error, description))
    }

    fn decide(&self, decision: impl Fn(&authorize::Authorization, &mut State, &str) -> Reply) -> usize {
        let mut state = self.shared.lock();
        let asked = std::mem::take(&mut state.asked);
        self.shared.asked.set(0);
        let waiting = asked.into_iter().filter(|(browser, _)| !browser.is_closed());
        waiting
            .filter_map(|(browser, authorization)| {
                browser.send(decision(&authorization, &mut state, &self.shared.issuer)).ok()
            })
            .count()
    }
}

/// What it knows from now on.
impl AuthorizationServer {
    /// One more client, or another in the place of one with the same id.
    pub fn add_client(&self, client: Client) {
        self.shared.lock().clients.insert(client.id.clone(), client.into());
    }

    /// The ids of all clients.
    pub fn client_ids(&self) -> Vec<String> {
        self.shared.lock().clients.keys().cloned().collect()
    }

    /// The client is unknown from now on; tokens that it has stay good for resources.
    pub fn forget_client(&self, client_id: &str) {
        self.shared.lock().clients.remove(client_id);
    }

    /// All clients are unknown from now on.
    pub fn forget_clients(&self) {
        self.shared.lock().clients.clear();
    }

    /// Every secret that exists now has expired.
    pub fn expire_secrets(&self) {
        let now = Instant::now();
        for registered in self.shared.lock().clients.values_mut() {
            if registered.client.secret.is_some() {
                registered.secret_ends = Some(now);
            }
        }
    }

    /// Every access token that exists now has expired. Refresh tokens stay good.
    pub fn expire_access_tokens(&self) {
        self.shared.lock().access.clear();
    }

    /// Every grant that exists now ends: its access and refresh tokens are good no longer.
    pub fn revoke_grants(&self) {
        for grant in &mut self.shared.lock().grants {
            grant.revoked = true;
        }
    }
}

impl Endpoint {
    fn takes(self, issuer_path: &str, request: &Request) -> bool {
        let path = request.path();
        let below = path.strip_prefix(issuer_path).unwrap_or_default();
        let granting = |wanted: &str| {
            below == "/token" && Form::parse(&request.body).is_ok_and(|form| form.get("grant_type") == Some(wanted))
        };
        match self {
            Self::Metadata => {
                let documents = [Document::OAuth, Document::OpenIdInserted, Document::OpenIdAppended];
                documents.into_iter().any(|document| metadata::path(document, issuer_path) == path)
            }
            Self::Registration => below == "/register" || below.starts_with("/register/"),
            Self::Authorization => below == "/authorize",
            Self::Token => below == "/token",
            Self::Exchange => granting("authorization_code"),
            Self::Refresh => granting("refresh_token"),
            Self::Revocation => below == "/revoke",
        }
    }
}

impl Service for Shared {
    fn answer(&self, request: &Request, json: Option<&Value>) -> Answer {
        let mut state = self.lock();
        let path = request.path();
        let documents = state.settings.documents.iter();
        let document = documents.copied().find(|document| metadata::path(*document, &self.issuer_path) == path);
        if let Some(document) = document {
            if request.verb != "GET" {
                return Reply::text(405, "Method Not Allowed").header("allow", "GET").into();
            }
            return Reply::json(metadata::document(&state, &self.issuer, document).to_string()).into();
        }
        match path.strip_prefix(&self.issuer_path).unwrap_or_default() {
            "/authorize" => match authorize::authorize(&mut state, &self.issuer, request) {
                Outcome::Reply(reply) => reply.into(),
                Outcome::Ask(authorization) => {
                    let (browser, decision) = oneshot::channel();
                    state.asked.push((browser, authorization));
                    self.asked.add();
                    Answer::Later(decision)
                }
            },
            "/token" => token::token(&mut state, &self.issuer, request).into(),
            "/revoke" => token::revoke(&mut state, &self.issuer, request).into(),
            "/register" if state.settings.registration => {
                let endpoint = format!("{}/register", self.issuer);
                clients::register(&mut state, &endpoint, request, json).into()
            }
            "/jwks" => Reply::json(r#"{"keys":[]}"#).into(),
            other => match other.strip_prefix("/register/") {
                Some(id) => clients::deregister(&mut state, request, id).into(),
                None => Reply::text(404, "Not Found").into(),
            },
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
