//! `private_key_jwt`: the service proves itself with a key, towards a server that verifies it.

use connectors_application::ports::{
    AuthorizationServer as _, ExchangeError, PrepareError, PrepareRequest, RefreshError, RefreshRequest, SpentToken,
};
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Grant};
use connectors_oauth::OAuthConfig;
use connectors_testkit::authorization_server::{AuthMethod, AuthorizationServer, Builder, Client, Endpoint};
use connectors_testkit::mcp_server::McpServer;
use jiff::Timestamp;
use serde_json::json;

use crate::support::{
    CALLBACK, DOCUMENT, Service, config, consented, issued, keyed_config, obtain, pair, public_keys, request,
    service_with, signing_key,
};

fn builder(methods: &[AuthMethod]) -> Builder {
    AuthorizationServer::builder().with(|settings| settings.auth_methods = methods.to_vec())
}

fn documents(builder: Builder) -> Builder {
    builder.with(|settings| {
        settings.metadata.insert("client_id_metadata_document_supported".to_owned(), Some(true.into()));
    })
}

async fn start(builder: Builder) -> (AuthorizationServer, McpServer) {
    pair(builder.start().await.unwrap()).await
}

/// A service whose clock shows the server's time.
fn service_at(server: &AuthorizationServer, config: OAuthConfig) -> Service {
    let service = service_with(config);
    service.clock.set(Timestamp::from_second(server.seconds().try_into().unwrap()).unwrap());
    service
}

fn given(mcp: &McpServer) -> PrepareRequest {
    let client = ClientCredentials::new("given".to_owned(), None).unwrap();
    PrepareRequest { client: Some(client), ..request(mcp) }
}

/// Uses the key at every endpoint that takes it.
async fn live(service: &Service, server: &AuthorizationServer, request: PrepareRequest) -> Grant {
    let first = obtain(service, request).await;
    assert_eq!(issued(&first).authority.client.authentication, ClientAuthentication::PrivateKeyJwt);
    let second = service.client.refresh(RefreshRequest::of(issued(&first)).unwrap()).await.unwrap();
    assert!(server.token_info(second.access_token.expose()).is_some());
    assert_eq!(service.client.revoke(second.clone()).await, Ok(()));
    assert_eq!(server.token_info(second.access_token.expose()), None);
    let sent: Vec<_> = [Endpoint::Token, Endpoint::Revocation].map(|part| server.requests_to(part)).concat();
    assert_eq!(sent.len(), 4);
    for request in sent {
        assert!(request.header("authorization").is_none() && !request.contains("client_secret="));
    }
    second
}

#[tokio::test]
async fn a_given_client_without_a_secret_uses_the_key() {
    let (server, mcp) = start(builder(&[AuthMethod::PrivateKey, AuthMethod::Basic])).await;
    let config = keyed_config();
    server.add_client(Client::keyed("given", public_keys(&config), CALLBACK));
    let service = service_at(&server, config);
    let grant = live(&service, &server, given(&mcp)).await;
    assert_eq!(issued(&grant).authority.client.origin, ClientOrigin::Given);
    assert!(!format!("{service:?}", service = service.client).contains("PRIVATE"));
}

#[tokio::test]
async fn the_metadata_document_has_the_key() {
    for methods in [&[AuthMethod::PrivateKey][..], &[AuthMethod::None, AuthMethod::PrivateKey]] {
        let (server, mcp) = start(documents(builder(methods))).await;
        let config = keyed_config();
        server.add_client(Client::keyed(DOCUMENT, public_keys(&config), CALLBACK));
        let service = service_at(&server, config);
        let grant = live(&service, &server, request(&mcp)).await;
        assert_eq!(issued(&grant).authority.client.origin, ClientOrigin::MetadataDocument);
        assert!(server.requests_to(Endpoint::Registration).is_empty());
    }
}

#[tokio::test]
async fn where_the_key_is_not_taken_the_document_is_the_last_resort() {
    let (server, mcp) = start(documents(builder(&[AuthMethod::None]))).await;
    let service = service_at(&server, keyed_config());
    let grant = obtain(&service, request(&mcp)).await;
    assert_eq!(issued(&grant).authority.client.origin, ClientOrigin::Registered);

    let (server, mcp) =
        start(documents(builder(&[AuthMethod::None])).with(|settings| settings.registration = false)).await;
    server.add_client(Client::public(DOCUMENT, CALLBACK));
    let service = service_at(&server, keyed_config());
    let grant = obtain(&service, request(&mcp)).await;
    let client = &issued(&grant).authority.client;
    assert_eq!(client.origin, ClientOrigin::MetadataDocument);
    assert_eq!(client.authentication, ClientAuthentication::None);
}

#[tokio::test]
async fn a_registration_has_the_key_where_nothing_else_is_taken() {
    let (server, mcp) = start(builder(&[AuthMethod::PrivateKey])).await;
    let config = OAuthConfig { signing_key: Some(signing_key()), ..config() };
    let keys = public_keys(&OAuthConfig { client_metadata_url: Some(DOCUMENT.to_owned()), ..config.clone() });
    let service = service_at(&server, config);
    let grant = live(&service, &server, request(&mcp)).await;
    assert_eq!(issued(&grant).authority.client.origin, ClientOrigin::Registered);
    let sent = server.requests_to(Endpoint::Registration)[0].json().unwrap();
    assert_eq!(sent["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(sent["token_endpoint_auth_signing_alg"], "ES256");
    assert_eq!(sent["jwks"], keys);

    for other in [AuthMethod::None, AuthMethod::Post] {
        let (server, mcp) = start(builder(&[AuthMethod::PrivateKey, other])).await;
        let service = service_at(&server, keyed_config());
        let grant = obtain(&service, request(&mcp)).await;
        assert_ne!(issued(&grant).authority.client.authentication, ClientAuthentication::PrivateKeyJwt);
        assert!(server.requests_to(Endpoint::Registration)[0].json().unwrap().get("jwks").is_none());
    }
}

#[tokio::test]
async fn the_key_is_left_where_it_need_not_be_shown() {
    let (server, mcp) = start(builder(&[AuthMethod::PrivateKey, AuthMethod::None])).await;
    let service = service_at(&server, keyed_config());
    let prepared = service.prepare(given(&mcp)).await.unwrap();
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::None);

    // The server verifies other signatures only.
    let other = builder(&[AuthMethod::PrivateKey]).with(|settings| {
        let name = "token_endpoint_auth_signing_alg_values_supported".to_owned();
        settings.metadata.insert(name, Some(json!(["RS256"])));
    });
    let (server, mcp) = start(other).await;
    let service = service_at(&server, keyed_config());
    assert!(matches!(service.prepare(request(&mcp)).await, Err(PrepareError::InvalidMetadata(_))));
}

#[tokio::test]
async fn without_a_key_none_is_offered() {
    let (server, mcp) = start(documents(builder(&[AuthMethod::PrivateKey]))).await;
    let service = service_at(&server, config());
    assert!(matches!(service.prepare(request(&mcp)).await, Err(PrepareError::InvalidMetadata(_))));
    assert!(server.requests_to(Endpoint::Registration).is_empty());
    let prepared = service.prepare(given(&mcp)).await.unwrap();
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::None);
}

#[tokio::test]
async fn a_signature_of_somebody_else_is_refused() {
    let (server, mcp) = start(builder(&[AuthMethod::PrivateKey])).await;
    server.add_client(Client::keyed("given", public_keys(&keyed_config()), CALLBACK));
    let service = service_at(&server, keyed_config());
    let prepared = service.prepare(given(&mcp)).await.unwrap();
    let exchanged = service.client.exchange(consented(&prepared).await).await;
    assert_eq!(exchanged, Err(ExchangeError::ClientRefused));
}

#[tokio::test]
async fn an_assertion_is_good_for_a_minute_and_one_server() {
    let (server, mcp) = start(builder(&[AuthMethod::PrivateKey])).await;
    let config = keyed_config();
    server.add_client(Client::keyed("given", public_keys(&config), CALLBACK));
    let service = service_at(&server, config);
    let grant = obtain(&service, given(&mcp)).await;
    let request = RefreshRequest::of(issued(&grant)).unwrap();

    // As it would be at another server: the audience is what was recorded.
    let mut elsewhere = request.clone();
    elsewhere.authority.issuer = connectors_domain::Issuer::new("https://other.example");
    assert_eq!(service.client.refresh(elsewhere).await, Err(RefreshError::ClientRefused));

    let seconds = i64::try_from(server.seconds()).unwrap();
    service.clock.set(Timestamp::from_second(seconds - 61).unwrap());
    assert_eq!(service.client.refresh(request.clone()).await, Err(RefreshError::ClientRefused));
    service.clock.set(Timestamp::from_second(seconds).unwrap());
    assert!(service.client.refresh(request).await.is_ok());
}

#[tokio::test]
async fn a_key_that_is_gone_costs_no_grant() {
    let (server, mcp) = start(builder(&[AuthMethod::PrivateKey])).await;
    let keyed = service_at(&server, keyed_config());
    let grant = obtain(&keyed, request(&mcp)).await;
    let request = RefreshRequest::of(issued(&grant)).unwrap();
    let keyless = service_at(&server, config());
    let refreshed = keyless.client.refresh(request.clone()).await;
    assert!(matches!(refreshed, Err(RefreshError::Passing { spent: SpentToken::No, .. })), "{refreshed:?}");
    assert!(keyless.client.revoke(grant).await.is_err());
    assert_eq!(server.counters().refresh_requests + server.counters().revocation_requests, 0);
    assert!(keyed.client.refresh(request).await.is_ok());
}
