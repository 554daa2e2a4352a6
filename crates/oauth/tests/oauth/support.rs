//! Short forms.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_application::ports::{
    AuthorizationServer as _, ExchangeRequest, PrepareError, PrepareRequest, Prepared, Registrations,
};
use connectors_domain::{
    ClientCredentials, Grant, GrantSource, IssuedGrant, Quirks, RefreshToken, Scopes, Secret, ServerUrl,
};
use connectors_egress::{Egress, Limits, Policy};
use connectors_oauth::{AuthorizationClient, OAuthConfig, SigningKey, client_metadata_document};
use connectors_testkit::authorization_server::{AuthorizationServer, parameter, visit};
use connectors_testkit::mcp_server::{McpServer, Reply};
use connectors_testkit::{ManualClock, MemoryStore, SeededEntropy};
use serde_json::{Value, json};
use url::Url;

pub(crate) const CALLBACK: &str = "https://c.example/api/v1/connectors/oauth/callback";
pub(crate) const PRM: &str = "/.well-known/oauth-protected-resource";
pub(crate) const AS: &str = "/.well-known/oauth-authorization-server";
pub(crate) const OPENID: &str = "/.well-known/openid-configuration";

/// The service with its surroundings.
pub(crate) struct Service {
    pub(crate) client: AuthorizationClient,
    pub(crate) kept: MemoryStore,
    pub(crate) clock: ManualClock,
}

pub(crate) fn config() -> OAuthConfig {
    OAuthConfig::new(Url::parse("https://c.example").unwrap(), None, "Connectors".to_owned())
}

pub(crate) fn service_with(config: OAuthConfig) -> Service {
    service_under(&Policy { loopback: true, ..Policy::default() }, config)
}

pub(crate) fn service_under(policy: &Policy, config: OAuthConfig) -> Service {
    let egress = Egress::new(policy, &Limits::default(), None).unwrap();
    let (kept, clock) = (MemoryStore::new(), ManualClock::default());
    let client = AuthorizationClient::new(
        egress,
        Arc::new(kept.clone()) as Arc<dyn Registrations>,
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
        held: Scopes::default(),
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

/// An MCP server behind an authorization server.
pub(crate) async fn pair(server: AuthorizationServer) -> (AuthorizationServer, McpServer) {
    let mcp = bare().await;
    server.protect(&mcp);
    (server, mcp)
}

/// What the user's browser brings back.
pub(crate) async fn consented(prepared: &Prepared) -> ExchangeRequest {
    let callback = visit(prepared.authorization_url.expose()).await.unwrap();
    assert!(callback.starts_with(&prepared.redirect_uri), "{callback}");
    let code = parameter(&callback, "code").unwrap_or_else(|| panic!("no code in {callback}"));
    ExchangeRequest {
        authority: prepared.authority.clone(),
        code: Secret::new(code),
        verifier: prepared.verifier.clone(),
        redirect_uri: prepared.redirect_uri.clone(),
        scopes: prepared.scopes.clone(),
    }
}

/// Goes the whole way to a grant.
pub(crate) async fn obtain(service: &Service, request: PrepareRequest) -> Grant {
    let prepared = service.prepare(request).await.unwrap();
    service.client.exchange(consented(&prepared).await).await.unwrap()
}

pub(crate) fn issued(grant: &Grant) -> &IssuedGrant {
    match &grant.source {
        GrantSource::Issued(issued) => issued,
        GrantSource::Supplied => panic!("nobody supplied it"),
    }
}

pub(crate) fn refresh_token(grant: &Grant) -> &str {
    issued(grant).refresh_token.as_ref().map(RefreshToken::expose).unwrap()
}

/// A key that nobody else has.
pub(crate) fn signing_key() -> SigningKey {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let body = STANDARD.encode(document);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    SigningKey::from_pem(&Secret::new(pem)).unwrap()
}

/// The URL of the service's metadata document.
pub(crate) const DOCUMENT: &str = "https://c.example/client.json";

/// A service with a key and a metadata document.
pub(crate) fn keyed_config() -> OAuthConfig {
    OAuthConfig { client_metadata_url: Some(DOCUMENT.to_owned()), signing_key: Some(signing_key()), ..config() }
}

/// The public keys of a service.
pub(crate) fn public_keys(config: &OAuthConfig) -> Value {
    client_metadata_document(config).unwrap()["jwks"].clone()
}
