//! An OpenID provider, over real sockets.
//!
//! By itself it is honest: metadata (OpenID Connect Discovery), keys (RFC 7517), codes with PKCE, ID tokens, and access
//! tokens that are JWTs (RFC 9068). [`Settings`] change what it does, a script what it answers, down to the bytes on the
//! wire; everything that arrives is recorded. Beside that it signs whatever a test wants signed.
//!
//! ```no_run
//! # use connectors_testkit::identity_provider::{Behaviour, Endpoint, IdentityProvider, Key, KeyKind};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = IdentityProvider::builder().key(Key::new(KeyKind::P256, "one")).start().await?;
//! let token = provider.issue(&provider.claims("https://connectors.example"));
//!
//! provider.change(|settings| settings.keys = vec![Key::new(KeyKind::Ed25519, "two")]);
//! provider.script(provider.on(Endpoint::Keys, Behaviour::status(503)));
//! // … let the service look for newer keys …
//! assert_eq!(provider.requests_to(Endpoint::Keys).len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! It knows one client and one person, no sessions and no refresh tokens, and it speaks neither TLS nor HTTP/2.

mod key;
mod login;
mod settings;

use std::{
    collections::HashMap,
    fmt, io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use connectors_application::ports::Clock;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

pub use self::{
    key::{Key, KeyKind},
    settings::Settings,
};
use crate::{
    SystemClock,
    authorization_server::{AuthMethod, Iss, state::override_members},
    wire::{Answer, Server, Service, hub::Hub},
};
pub use crate::{
    authorization_server::Client,
    wire::{
        behaviour::{Behaviour, Hold, Step},
        gauge::NotReached,
        reply::{Ending, Reply},
        request::Request,
        script::{Rule, Script},
    },
};

/// A running provider; stops when it is dropped.
#[derive(Debug)]
pub struct IdentityProvider {
    shared: Arc<Shared>,
    server: Server,
}

/// What the provider will be.
#[must_use]
pub struct Builder {
    issuer_path: String,
    rfc_8414: bool,
    keys: Vec<Key>,
    client: Option<Client>,
    clock: Arc<dyn Clock>,
}

/// A part of the provider, for rules and recorded requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// The metadata document, and where it could stand.
    Metadata,
    /// The set of keys.
    Keys,
    /// Where the browser goes.
    Authorization,
    /// Where codes are exchanged.
    Token,
}

struct Shared {
    issuer: String,
    issuer_path: String,
    metadata_path: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: Settings,
    codes: HashMap<String, login::Code>,
    issued: u64,
}

impl State {
    fn issue(&self, claims: &Value) -> String {
        let key = &self.settings.keys[0];
        key.token(&json!({ "alg": key.algorithm(), "kid": key.id(), "typ": "at+jwt" }), claims)
    }
}

impl Builder {
    /// The path of the issuer, such as `/realms/one`; without this there is none.
    pub fn issuer_path(self, path: impl Into<String>) -> Self {
        Self { issuer_path: path.into(), ..self }
    }

    /// The metadata stand where RFC 8414 has them, and not where OpenID Connect Discovery does.
    pub fn rfc_8414(self) -> Self {
        Self { rfc_8414: true, ..self }
    }

    /// One more key. Without any, there is one on P-256.
    pub fn key(mut self, key: Key) -> Self {
        self.keys.push(key);
        self
    }

    /// The client of logins.
    pub fn client(self, client: Client) -> Self {
        Self { client: Some(client), ..self }
    }

    /// The clock that says when tokens are issued; without this, that of the machine.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Listens on a free port of 127.0.0.1. Fails where that is not possible.
    pub async fn start(self) -> io::Result<IdentityProvider> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let Self { issuer_path, rfc_8414, mut keys, client, clock } = self;
        if keys.is_empty() {
            keys.push(Key::new(KeyKind::P256, "first"));
        }
        let metadata_path = if rfc_8414 {
            format!("/.well-known/oauth-authorization-server{issuer_path}")
        } else {
            format!("{issuer_path}/.well-known/openid-configuration")
        };
        let settings = Settings { client, ..Settings::new(keys) };
        let shared = Arc::new(Shared {
            issuer: format!("http://{}{issuer_path}", listener.local_addr()?),
            issuer_path,
            metadata_path,
            clock,
            state: Mutex::new(State { settings, codes: HashMap::new(), issued: 0 }),
        });
        let server = Server::start(listener, true, Script::default(), Arc::new(Hub::new()), Arc::clone(&shared))?;
        Ok(IdentityProvider { shared, server })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Builder").field("issuer_path", &self.issuer_path).finish_non_exhaustive()
    }
}

/// Where it is, and its end.
impl IdentityProvider {
    /// Describes a provider.
    pub fn builder() -> Builder {
        Builder {
            issuer_path: String::new(),
            rfc_8414: false,
            keys: Vec::new(),
            client: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// The issuer: the origin and the path.
    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    /// The URL of the set of keys.
    pub fn jwks_uri(&self) -> String {
        format!("{}/jwks", self.shared.issuer)
    }

    /// Stops, and waits until the port is free.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// What it signs.
impl IdentityProvider {
    /// The claims of a good access token for `audience`, of the person in the settings and with every scope that this
    /// service has for a user's own connectors.
    pub fn claims(&self, audience: &str) -> Value {
        self.shared.claims(&self.shared.lock(), audience)
    }

    /// An access token with these claims, signed by the first key.
    pub fn issue(&self, claims: &Value) -> String {
        self.shared.lock().issue(claims)
    }

    /// The keys that are published.
    pub fn keys(&self) -> Vec<Key> {
        self.shared.lock().settings.keys.clone()
    }

    /// The first of them.
    pub fn key(&self) -> Key {
        self.shared.lock().settings.keys[0].clone()
    }
}

/// How it behaves from now on.
impl IdentityProvider {
    /// Changes what the provider does. No request is answered meanwhile, so `change` must not call the provider.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().settings);
    }

    /// These rules, and no others. They hold before anything else.
    pub fn script(&self, script: impl Into<Script>) {
        self.server.core.rules.replace(script.into());
    }

    /// No rules: only the settings count.
    pub fn behave(&self) {
        self.script(Script::default());
    }

    /// A rule for every request to a part of the provider.
    pub fn on(&self, endpoint: Endpoint, behaviour: impl Into<Behaviour>) -> Rule {
        let path = self.shared.issuer_path.clone();
        Rule::new(behaviour).when(move |request| endpoint.takes(&path, request))
    }
}

/// What happened.
impl IdentityProvider {
    /// All requests, in the order in which they were complete, whether served or scripted.
    pub fn requests(&self) -> Vec<Request> {
        self.server.core.lock_requests().clone()
    }

    /// The requests to a part of the provider, whether served or scripted.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<Request> {
        let path = &self.shared.issuer_path;
        self.requests().into_iter().filter(|request| endpoint.takes(path, request)).collect()
    }

    /// Waits until at least so many requests have come.
    pub async fn wait_until_requests(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.server.core.wait_until_requests(wanted, limit).await
    }
}

impl Endpoint {
    fn takes(self, issuer_path: &str, request: &Request) -> bool {
        let path = request.path();
        let below = path.strip_prefix(issuer_path).unwrap_or_default();
        match self {
            Self::Metadata => path.contains("/.well-known/"),
            Self::Keys => below == "/jwks",
            Self::Authorization => below == "/authorize",
            Self::Token => below == "/token",
        }
    }
}

impl Service for Shared {
    fn answer(&self, request: &Request, _: Option<&Value>) -> Answer {
        let mut state = self.lock();
        let below = request.path().strip_prefix(&self.issuer_path).unwrap_or_default();
        match (request.verb.as_str(), below) {
            ("GET", _) if request.path() == self.metadata_path => Reply::json(self.metadata(&state).to_string()),
            ("GET", "/jwks") => {
                let keys: Vec<_> = state.settings.keys.iter().map(Key::jwk).collect();
                Reply::json(json!({ "keys": keys }).to_string())
            }
            ("GET", "/authorize") => login::authorize(&mut state, &self.issuer, request),
            ("POST", "/token") => login::exchange(self, &mut state, request),
            _ => Reply::text(404, "Not Found"),
        }
        .into()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a token that is issued now begins and ends, in seconds since 1970.
    fn times(&self, state: &State) -> (i64, i64) {
        let now = self.clock.now().as_second();
        let life = i64::try_from(state.settings.token_lifetime.as_secs()).unwrap_or(i64::MAX);
        (now, now.saturating_add(life))
    }

    fn claims(&self, state: &State, audience: &str) -> Value {
        let (begins, ends) = self.times(state);
        json!({
            "iss": self.issuer,
            "sub": state.settings.subject,
            "aud": audience,
            "iat": begins,
            "nbf": begins,
            "exp": ends,
            "client_id": "client",
            "scope": "openid connectors:read connectors:write connectors:proxy",
        })
    }

    fn metadata(&self, state: &State) -> Value {
        let Self { issuer, .. } = self;
        let method = state.settings.client.as_ref().map_or(AuthMethod::None, |client| client.method).name();
        let mut members = Map::new();
        for (name, value) in [
            ("issuer", json!(issuer)),
            ("authorization_endpoint", json!(format!("{issuer}/authorize"))),
            ("token_endpoint", json!(format!("{issuer}/token"))),
            ("jwks_uri", json!(format!("{issuer}/jwks"))),
            ("scopes_supported", json!(["openid", "profile", "email"])),
            ("response_types_supported", json!(["code"])),
            ("subject_types_supported", json!(["public"])),
            ("id_token_signing_alg_values_supported", json!(["RS256", "ES256", "ES384", "EdDSA"])),
            ("token_endpoint_auth_methods_supported", json!([method])),
            ("code_challenge_methods_supported", json!(["S256"])),
            ("authorization_response_iss_parameter_supported", json!(state.settings.iss != Iss::Missing)),
        ] {
            members.insert(name.to_owned(), value);
        }
        override_members(&mut members, &state.settings.metadata);
        members.into()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
