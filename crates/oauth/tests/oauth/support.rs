//! Short forms.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use connectors_application::ports::{
    AuthorizationServer, PrepareError, PrepareRequest, Prepared, Registration, RegistrationKey, Registrations,
    Reservation, StoreError,
};
use connectors_domain::{ClientCredentials, Quirks, ServerUrl};
use connectors_egress::{Egress, Limits, Policy};
use connectors_oauth::{AuthorizationClient, OAuthConfig};
use connectors_testkit::mcp_server::{McpServer, Reply};
use connectors_testkit::{ManualClock, SeededEntropy};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

pub(crate) const CALLBACK: &str = "https://c.example/api/v1/connectors/oauth/callback";
pub(crate) const PRM: &str = "/.well-known/oauth-protected-resource";
pub(crate) const AS: &str = "/.well-known/oauth-authorization-server";
pub(crate) const OPENID: &str = "/.well-known/openid-configuration";

/// Registrations in memory.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashMap<RegistrationKey, Option<Registration>>>);

impl Kept {
    pub(crate) fn all(&self) -> Vec<(RegistrationKey, Option<Registration>)> {
        self.0.lock().unwrap().clone().into_iter().collect()
    }
}

#[async_trait]
impl Registrations for Kept {
    async fn reserve(&self, key: RegistrationKey, _: Timestamp, _: Timestamp) -> Result<Reservation, StoreError> {
        let mut kept = self.0.lock().unwrap();
        Ok(match kept.get(&key) {
            Some(Some(registration)) => Reservation::Found(registration.clone()),
            Some(None) => Reservation::Busy,
            None => {
                kept.insert(key, None);
                Reservation::Yours
            }
        })
    }

    async fn keep(&self, key: RegistrationKey, registration: Registration) -> Result<Registration, StoreError> {
        self.0.lock().unwrap().insert(key, Some(registration.clone()));
        Ok(registration)
    }

    async fn release(&self, key: RegistrationKey) -> Result<(), StoreError> {
        self.0.lock().unwrap().remove(&key);
        Ok(())
    }

    async fn forget(&self, key: RegistrationKey, client_id: String) -> Result<(), StoreError> {
        let mut kept = self.0.lock().unwrap();
        if kept.get(&key).is_some_and(|kept| {
            kept.as_ref().is_some_and(|registration| registration.client.credentials.id() == client_id)
        }) {
            kept.remove(&key);
        }
        Ok(())
    }
}

/// The service with its surroundings.
pub(crate) struct Service {
    pub(crate) client: AuthorizationClient,
    pub(crate) kept: Arc<Kept>,
    pub(crate) clock: ManualClock,
}

pub(crate) fn config() -> OAuthConfig {
    OAuthConfig::new(Url::parse("https://c.example").unwrap(), None, "Connectors".to_owned())
}

pub(crate) fn service_with(config: OAuthConfig) -> Service {
    let policy = Policy { loopback: true, ..Policy::default() };
    let egress = Egress::new(&policy, &Limits::default(), None).unwrap();
    let (kept, clock) = (Arc::new(Kept::default()), ManualClock::default());
    let client = AuthorizationClient::new(
        egress,
        Arc::clone(&kept) as Arc<dyn Registrations>,
        Arc::new(clock.clone()),
        Arc::new(SeededEntropy::default()),
        config,
    );
    Service { client, kept, clock }
}

pub(crate) fn service() -> Service {
    service_with(config())
}

impl Service {
    pub(crate) async fn prepare(&self, request: PrepareRequest) -> Result<Prepared, PrepareError> {
        self.client.prepare(request).await
    }
}

pub(crate) fn document(value: &Value) -> Reply {
    Reply::json(value.to_string())
}

/// A server that has nothing but its MCP endpoint.
pub(crate) async fn bare() -> McpServer {
    McpServer::builder().start().await.unwrap()
}

/// Metadata of an authorization server at `origin`.
pub(crate) fn metadata(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "registration_endpoint": format!("{origin}/register"),
        "code_challenge_methods_supported": ["plain", "S256"],
        "token_endpoint_auth_methods_supported": ["none"],
    })
}

/// A server that is its own authorization server.
pub(crate) async fn protected() -> McpServer {
    let server = bare().await;
    let origin = server.origin();
    server.route(
        format!("{PRM}/mcp"),
        document(&json!({
            "resource": server.url(),
            "authorization_servers": [origin],
            "scopes_supported": ["read", "write"],
        })),
    );
    server.route(AS, document(&metadata(&origin)));
    server.route("/register", Reply::json(r#"{"client_id":"registered"}"#).status(201));
    server
}

/// The same, with some members of its metadata replaced.
pub(crate) async fn protected_with(change: impl FnOnce(&mut Value)) -> McpServer {
    let server = protected().await;
    let mut value = metadata(&server.origin());
    change(&mut value);
    server.route(AS, document(&value));
    server
}

pub(crate) fn request(server: &McpServer) -> PrepareRequest {
    PrepareRequest {
        url: ServerUrl::parse(&server.url()).unwrap(),
        challenges: vec!["Bearer".to_owned()],
        client: None,
        bound_to: None,
        quirks: Quirks::default(),
    }
}

pub(crate) fn challenged(server: &McpServer, challenge: &str) -> PrepareRequest {
    PrepareRequest { challenges: vec![challenge.to_owned()], ..request(server) }
}

pub(crate) fn given(server: &McpServer, secret: Option<&str>) -> PrepareRequest {
    let client = ClientCredentials::new("given".to_owned(), secret.map(str::to_owned)).unwrap();
    PrepareRequest { client: Some(client), ..request(server) }
}

/// The parameters of an authorization request.
pub(crate) fn parameters(prepared: &Prepared) -> BTreeMap<String, String> {
    Url::parse(prepared.authorization_url.expose()).unwrap().query_pairs().into_owned().collect()
}

/// The paths that were asked for.
pub(crate) fn paths(server: &McpServer) -> Vec<String> {
    server.requests().iter().map(|request| request.path().to_owned()).collect()
}

pub(crate) fn count(server: &McpServer, path: &str) -> usize {
    paths(server).iter().filter(|asked| *asked == path).count()
}
