//! A server on a free port, over a store in memory and a scripted MCP port.

use std::collections::HashMap;
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connectors_api::{ApiConfig, Inbound, Server};
use connectors_application::ports::{
    AddressRefused, Audience, AuthenticateError, Authenticated, Authenticator, Clock, Login, MockAuthorizationServer,
    MockMcpServer, PrepareError, Prepared, ProbeError, RelayBody, RelayResponse, ResponseHeaders, Sealer,
};
use connectors_application::{
    Access, AccessConfig, ConnectorService, IssuerLimits, Ports, RenewalConfig, ServiceConfig, UserLimits,
};
use connectors_domain::{
    AccessToken, AccountName, Authority, ClientAuthentication, ClientCredentials, ClientOrigin, Grant, GrantSource,
    IssuedGrant, Issuer, Metadata, OAuthClient, OwnerId, Permissions, Preset, Presets, Principal, ProtocolVersion,
    Quirks, RedirectOrigins, Scopes, Secret, ServerFacts, ServerUrl, StateHash,
};
use connectors_testkit::{ManualClock, MemorySealer, MemoryStore, SeededEntropy};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::sync::oneshot;

pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
}

/// What one call came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The document without what differs from one request to another.
    pub(crate) fn settled(&self) -> Value {
        let mut document = self.json();
        for field in ["id", "instance", "request_id"] {
            if let Some(value) = document.get_mut(field) {
                *value = Value::from(format!("[{field}]"));
            }
        }
        document
    }

    /// The bytes of a problem document but for those that tell one request from another, with the status.
    pub(crate) fn bytes(&self) -> (u16, String) {
        let document = self.json();
        let text = ["instance", "request_id"].iter().fold(self.text.clone(), |text, field| {
            text.replacen(&document[field].to_string(), &format!("[{field}]"), 1)
        });
        (self.status, text)
    }

    /// The `Set-Cookie` field for the cookie `name`.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        let fields = self.headers.get_all("set-cookie").iter().map(|field| field.to_str().unwrap());
        fields.into_iter().find(|field| field.starts_with(&format!("{name}="))).map(str::to_owned)
    }

    /// The cookie `name` as a browser sends it back.
    pub(crate) fn cookie_pair(&self, name: &str) -> String {
        let field = self.cookie(name).unwrap_or_else(|| panic!("no cookie {name}: {:?}", self.headers));
        field.split(';').next().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn config() -> ApiConfig {
    ApiConfig {
        public_url: "https://connectors.example.com/".parse().unwrap(),
        allowed_hosts: vec![],
        allowed_origins: vec!["https://inspector.example.com".into()],
        allow_loopback_hosts: true,
        authorization_servers: vec![],
        session_lifetime: Duration::from_hours(8),
        api_body_limit: 64 * 1024,
        relay_body_limit: 256 * 1024,
        body_timeout: Duration::from_millis(500),
        // Longer than a test leaves a connection of its client unused.
        head_timeout: Duration::from_secs(30),
        event_keep_alive: Duration::from_secs(15),
        workers: 1,
        max_connections_per_worker: 100,
        shutdown_timeout: Duration::from_secs(2),
        client_metadata: None,
        instance: [0, 0, 0, 1],
    }
}

/// An MCP port on which `https://up.example.com/…` is a modern server, `https://down.example.com/…` is unreachable,
/// `https://locked.example.com/…` wants the token `good`, `https://consent.example.com/…` the one that is issued after a
/// consent, and nothing else may be talked to.
fn mcp() -> MockMcpServer {
    let mut mcp = MockMcpServer::new();
    mcp.expect_admit().returning(|url| {
        if url.as_url().host_str().is_some_and(|host| host.ends_with(".example.com")) {
            Ok(())
        } else {
            Err(AddressRefused("The address is not public. The operator allows others in egress.allow.".into()))
        }
    });
    mcp.expect_probe().returning(|url, token| {
        let facts = ServerFacts { modern: ProtocolVersion::parse("2026-07-28").ok(), legacy: None, name: None };
        let token = token.as_ref().map(AccessToken::expose);
        match url.as_url().host_str() {
            Some("up.example.com") => Ok(facts),
            Some("locked.example.com") if token == Some("good") => Ok(facts),
            Some("consent.example.com") if token == Some("canary-issued") => Ok(facts),
            Some("locked.example.com" | "consent.example.com") => Err(ProbeError::Unauthorized { challenges: vec![] }),
            Some("broken.example.com") => Err(ProbeError::Status(500)),
            _ => Err(ProbeError::Unreachable("it is away")),
        }
    });
    mcp.expect_relay().returning(|request| {
        let body = request.body.clone();
        let stream = futures_util::stream::iter([Ok(body)]);
        let mut headers = ResponseHeaders::default();
        headers.offer("mcp-session-id", b"s-1");
        Ok(RelayResponse {
            status: 200,
            headers: headers.with_content_type(b"application/json"),
            challenges: Vec::new(),
            body: RelayBody::Json { length: None, stream: Box::pin(stream) },
        })
    });
    mcp
}

/// Servers at `https://consent.example.com/…` want a consent. Each is asked for under a state of its own, `state-0` and so
/// on, and any code is exchanged.
fn authorization(exchanges: Arc<AtomicUsize>) -> MockAuthorizationServer {
    let mut authorization = MockAuthorizationServer::new();
    let attempts = AtomicUsize::new(0);
    authorization.expect_prepare().returning(move |request| {
        if request.url.as_url().host_str() != Some("consent.example.com") {
            return Err(PrepareError::NotOffered);
        }
        let state = format!("state-{}", attempts.fetch_add(1, Ordering::SeqCst));
        Ok(Prepared {
            authority: authority(),
            names_itself: false,
            authorization_url: Secret::new(format!("https://as.example.com/authorize?state={state}")),
            state_hash: hash(&state),
            verifier: Secret::new("canary-verifier"),
            redirect_uri: "https://connectors.example.com/api/v1/connectors/oauth/callback".into(),
            scopes: Scopes::default(),
        })
    });
    authorization.expect_exchange().returning(move |_| {
        exchanges.fetch_add(1, Ordering::SeqCst);
        let issued = IssuedGrant {
            authority: authority(),
            refresh_token: None,
            obtained_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            scopes: Scopes::default(),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        };
        Ok(Grant {
            access_token: AccessToken::new("canary-issued".into()).unwrap(),
            source: GrantSource::Issued(issued),
        })
    });
    authorization.expect_is_named_by().returning(|_| false);
    authorization.expect_state_hash().returning(hash);
    authorization
}

fn authority() -> Authority {
    Authority {
        issuer: Issuer::new("https://as.example.com"),
        token_endpoint: "https://as.example.com/token".into(),
        revocation_endpoint: None,
        resource: None,
        client: OAuthClient {
            credentials: ClientCredentials::new("client".into(), None).unwrap(),
            authentication: ClientAuthentication::None,
            origin: ClientOrigin::Registered,
        },
    }
}

/// A state hashes to itself, cut after 32 bytes.
fn hash(state: &str) -> StateHash {
    let mut hash = [0; 32];
    state.bytes().zip(&mut hash).for_each(|(byte, place)| *place = byte);
    StateHash(hash)
}

/// The tokens of an installation.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Arc<Mutex<HashMap<String, Authenticated>>>);

impl Tokens {
    /// Makes `token` speak for `principal`.
    pub(crate) fn give(&self, token: &str, principal: Principal) {
        let known = Authenticated { principal, audience: Audience::Service, until: None };
        self.put(token, known);
    }

    pub(crate) fn put(&self, token: &str, known: Authenticated) {
        self.0.lock().unwrap().insert(token.to_owned(), known);
    }

    pub(crate) fn take_back(&self, token: &str) {
        self.0.lock().unwrap().remove(token);
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, bearer: &Secret) -> Result<Authenticated, AuthenticateError> {
        if bearer.expose() == "away" {
            return Err(AuthenticateError::Unavailable("nobody can tell"));
        }
        let known = self.0.lock().unwrap().get(bearer.expose()).cloned();
        known.ok_or(AuthenticateError::Invalid("nobody knows it"))
    }
}

/// The user `name`, who may do all that concerns their own connectors.
pub(crate) fn user(name: &str) -> Principal {
    with(name, Permissions::own())
}

/// The user `name`, who may do what `permissions` say.
pub(crate) fn with(name: &str, permissions: Permissions) -> Principal {
    let account = AccountName::new(&format!("{name}@example.com"));
    Principal { owner: OwnerId::derive("https://idp.example.com", name), account, permissions }
}

/// What a server is started with.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) store: MemoryStore,
    pub(crate) clock: ManualClock,
    pub(crate) sealer: Arc<dyn Sealer>,
    /// `None` where there is one local user.
    pub(crate) tokens: Option<Tokens>,
    pub(crate) login: Option<Arc<dyn Login>>,
    /// How often a code was exchanged.
    pub(crate) exchanges: Arc<AtomicUsize>,
    pub(crate) requests_per_second: Option<NonZeroU32>,
    pub(crate) connects_per_minute: Option<NonZeroU32>,
    pub(crate) config: ApiConfig,
}

impl Stage {
    /// Without authentication.
    pub(crate) fn open() -> Self {
        Self {
            store: MemoryStore::new(),
            clock: ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap()),
            sealer: Arc::new(MemorySealer::new()),
            tokens: None,
            login: None,
            exchanges: Arc::default(),
            requests_per_second: None,
            connects_per_minute: None,
            config: config(),
        }
    }

    /// With the users `alice`, `bob` and `carol`, whose tokens are called as they are.
    pub(crate) fn closed() -> Self {
        let tokens = Tokens::default();
        for name in ["alice", "bob", "carol"] {
            tokens.give(name, user(name));
        }
        Self { tokens: Some(tokens), ..Self::open() }
    }

    /// Gives out a token more.
    pub(crate) fn give(self, token: &str, principal: Principal) -> Self {
        self.tokens().give(token, principal);
        self
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        self.tokens.as_ref().unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn exchanged(&self) -> usize {
        self.exchanges.load(Ordering::SeqCst)
    }

    /// Starts a server; one more with each call, as a replica of the first.
    pub(crate) fn start(&self) -> TestServer {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let authenticator = self.tokens.clone().map(|tokens| Arc::new(tokens) as Arc<dyn Authenticator>);
        let access = AccessConfig {
            administrators: true,
            audiences: vec!["https://connectors.example.com".into()],
            requests_per_second: self.requests_per_second,
        };
        let inbound = Inbound {
            service: self.service(),
            access: Access::new(authenticator, clock, access),
            sealer: self.sealer.clone(),
            login: self.login.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::new(listener, inbound, self.config.clone()).unwrap();
        let url = format!("http://{}", server.address());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            server.run(async { drop(stopped.await) }).await.unwrap();
        });
        TestServer { url, client: connectors_testkit::http::client(), stop: Some(stop) }
    }

    fn service(&self) -> ConnectorService {
        let client = ClientCredentials::new("preset-id".into(), Some("preset-secret".into())).unwrap();
        let metadata = Metadata::new([("name".to_owned(), "Preset".to_owned())].into()).unwrap();
        let preset = Preset {
            url: ServerUrl::parse("https://preset.example.com").unwrap(),
            client: Some(client),
            metadata: Some(metadata),
            quirks: Quirks::default(),
        };
        let beside = Arc::new(self.store.clone());
        let ports = Ports {
            connectors: beside.clone(),
            renewals: beside.clone(),
            agenda: beside.clone(),
            revocations: beside.clone(),
            changes: beside,
            mcp: Arc::new(mcp()),
            authorization: Arc::new(authorization(self.exchanges.clone())),
            clock: Arc::new(self.clock.clone()),
            sealer: self.sealer.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
        };
        let config = ServiceConfig {
            presets: Presets::new(vec![preset]),
            redirect_origins: RedirectOrigins::Loopback,
            limits: UserLimits {
                connectors: 5,
                waiting: None,
                connects_per_minute: self.connects_per_minute,
                streams: None,
            },
            probe_deadline: Duration::from_secs(30),
            attempt_lifetime: Duration::from_mins(10),
            bind_browsers: self.tokens.is_some(),
            alone_since: None,
            target_capacity: 100,
            target_ttl: None,
            renewal: RenewalConfig {
                lease: Duration::from_secs(30),
                wait: Duration::from_secs(20),
                issuers: IssuerLimits { concurrency: 16, per_second: NonZeroU32::MAX },
            },
            health_interval: None,
        };
        ConnectorService::new(ports, config)
    }
}

/// A server with one local user.
pub(crate) fn start() -> TestServer {
    Stage::open().start()
}

impl TestServer {
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    /// One call with a bearer token.
    pub(crate) async fn call_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    /// What a browser that is at this service asks for.
    pub(crate) async fn visit(&self, path: &str, cookies: &str) -> Answer {
        self.send(self.request("GET", path).header("cookie", cookies)).await
    }

    pub(crate) async fn create(&self, url: &str) -> String {
        self.create_as("", url).await
    }

    pub(crate) async fn create_as(&self, token: &str, url: &str) -> String {
        let body = serde_json::json!({ "url": url });
        let answer = self.call_as(token, "POST", "/api/v1/connectors", Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }
}
