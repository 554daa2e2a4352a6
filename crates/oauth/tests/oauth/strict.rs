//! The whole way, against an authorization server that forgives nothing.

use connectors_application::ports::{AuthorizationServer as _, ExchangeError, PrepareRequest, Prepared};
use connectors_domain::{ClientAuthentication, ClientCredentials};
use connectors_oauth::OAuthConfig;
use connectors_testkit::authorization_server::{AuthMethod, AuthorizationServer, Client, Document, Endpoint};

use crate::support::{CALLBACK, Service, config, consented, issued, pair, request, service, service_with};

/// Goes the whole way.
async fn connect(service: &Service, server: &AuthorizationServer, request: PrepareRequest) -> Prepared {
    let prepared = service.prepare(request).await.unwrap();
    assert_eq!(prepared.authority.issuer.as_str(), server.issuer());
    let grant = service.client.exchange(consented(&prepared).await).await.unwrap();
    let info = server.token_info(grant.access_token.expose());
    assert!(info.is_some());
    assert!(issued(&grant).expires_at.is_some());
    prepared
}

#[tokio::test]
async fn every_way_of_authentication_leads_to_a_token() {
    for (method, expected) in [
        (AuthMethod::None, ClientAuthentication::None),
        (AuthMethod::Basic, ClientAuthentication::SecretBasic),
        (AuthMethod::Post, ClientAuthentication::SecretPost),
    ] {
        let server = AuthorizationServer::builder().with(|settings| settings.auth_methods = vec![method]);
        let (server, mcp) = pair(server.start().await.unwrap()).await;
        let prepared = connect(&service(), &server, request(&mcp)).await;
        assert_eq!(prepared.authority.client.authentication, expected);
    }
}

#[tokio::test]
async fn every_place_of_metadata_is_found() {
    for (path, document) in [
        ("", Document::OAuth),
        ("", Document::OpenIdInserted),
        ("/tenant", Document::OAuth),
        ("/tenant", Document::OpenIdInserted),
        ("/tenant", Document::OpenIdAppended),
    ] {
        let server =
            AuthorizationServer::builder().issuer_path(path).with(|settings| settings.documents = vec![document]);
        let (server, mcp) = pair(server.start().await.unwrap()).await;
        connect(&service(), &server, request(&mcp)).await;
    }
}

#[tokio::test]
async fn a_given_client_needs_no_registration() {
    let (server, mcp) = pair(AuthorizationServer::builder().start().await.unwrap()).await;
    server.add_client(Client::confidential("given", "se:cret/ +", AuthMethod::Basic, CALLBACK));
    let client = ClientCredentials::new("given".to_owned(), Some("se:cret/ +".to_owned())).unwrap();
    connect(&service(), &server, PrepareRequest { client: Some(client), ..request(&mcp) }).await;
    assert!(server.requests_to(Endpoint::Registration).is_empty());
}

#[tokio::test]
async fn the_metadata_document_is_a_client() {
    let url = "https://c.example/client.json";
    let server = AuthorizationServer::builder().with(|settings| {
        settings.metadata.insert("client_id_metadata_document_supported".to_owned(), Some(true.into()));
    });
    let (server, mcp) = pair(server.start().await.unwrap()).await;
    server.add_client(Client::public(url, CALLBACK));
    let service = service_with(OAuthConfig { client_metadata_url: Some(url.to_owned()), ..config() });
    connect(&service, &server, request(&mcp)).await;
    assert!(server.requests_to(Endpoint::Registration).is_empty());
}

#[tokio::test]
async fn a_code_is_good_once_and_a_forgotten_client_comes_again() {
    let (server, mcp) = pair(AuthorizationServer::builder().start().await.unwrap()).await;
    let service = service();
    let prepared = service.prepare(request(&mcp)).await.unwrap();
    let exchange = consented(&prepared).await;
    assert!(service.client.exchange(exchange.clone()).await.is_ok());
    assert_eq!(service.client.exchange(exchange.clone()).await, Err(ExchangeError::Refused));

    let prepared = service.prepare(request(&mcp)).await.unwrap();
    let exchange = consented(&prepared).await;
    server.forget_clients();
    assert_eq!(service.client.exchange(exchange).await, Err(ExchangeError::ClientRefused));
    connect(&service, &server, request(&mcp)).await;
    assert_eq!(server.requests_to(Endpoint::Registration).len(), 2);
}
