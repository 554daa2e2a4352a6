//! The end of a grant.

use std::time::{Duration, Instant};

use connectors_application::ports::{AuthorizationServer as _, RevokeError};
use connectors_domain::{AccessToken, Grant, GrantSource};
use connectors_oauth::OAuthConfig;
use connectors_testkit::authorization_server::{
    AuthMethod, AuthorizationServer, Behaviour, Endpoint, Request, Rotation,
};
use connectors_testkit::mcp_server::{McpServer, Reply};

use crate::support::{Service, config, issued, obtain, pair, refresh_token, request, service_with};

async fn granted(server: AuthorizationServer) -> (AuthorizationServer, McpServer, Service, Grant) {
    let (server, mcp) = pair(server).await;
    let service = service_with(OAuthConfig { request_timeout: Duration::from_millis(500), ..config() });
    let grant = obtain(&service, request(&mcp)).await;
    (server, mcp, service, grant)
}

async fn plain() -> (AuthorizationServer, McpServer, Service, Grant) {
    granted(AuthorizationServer::builder().start().await.unwrap()).await
}

fn form(request: &Request) -> Vec<(String, String)> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

#[tokio::test]
async fn the_refresh_token_ends_first() {
    for method in [AuthMethod::None, AuthMethod::Basic, AuthMethod::Post] {
        let builder = AuthorizationServer::builder().with(|settings| settings.auth_methods = vec![method]);
        let (server, _mcp, service, grant) = granted(builder.start().await.unwrap()).await;
        assert_eq!(service.client.revoke(grant.clone()).await, Ok(()));
        let sent = server.requests_to(Endpoint::Revocation);
        let token = |token: &str, kind: &str| {
            [("token", token), ("token_type_hint", kind)].map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        assert_eq!(sent.len(), 2);
        assert_eq!(form(&sent[0])[..2], token(refresh_token(&grant), "refresh_token"));
        assert_eq!(form(&sent[1])[..2], token(grant.access_token.expose(), "access_token"));
        assert!(sent.iter().all(|request| !request.contains("resource=")));
        assert!(sent.iter().all(|request| request.header("authorization").is_some() == (method == AuthMethod::Basic)));
        assert_eq!(server.token_info(grant.access_token.expose()), None);
        assert!(server.grant_of(refresh_token(&grant)).unwrap().revoked);
        // What is over already is no trouble.
        assert_eq!(service.client.revoke(grant).await, Ok(()));
    }
}

#[tokio::test]
async fn nobody_is_asked_where_there_is_nobody_to_ask() {
    let (server, _mcp, service, grant) = plain().await;
    let supplied = Grant::supplied(AccessToken::new("at".to_owned()).unwrap());
    assert_eq!(service.client.revoke(supplied).await, Ok(()));
    let mut silent = issued(&grant).clone();
    silent.authority.revocation_endpoint = None;
    let silent = Grant { source: GrantSource::Issued(silent), ..grant };
    assert_eq!(service.client.revoke(silent).await, Ok(()));
    assert!(server.requests_to(Endpoint::Revocation).is_empty());
}

#[tokio::test]
async fn access_tokens_that_cannot_be_revoked_end_with_their_refresh_token() {
    let builder = AuthorizationServer::builder().with(|settings| settings.revoke_access_tokens = false);
    let (server, _mcp, service, grant) = granted(builder.start().await.unwrap()).await;
    assert_eq!(service.client.revoke(grant).await, Ok(()));
    assert_eq!((server.counters().revocation_requests, server.counters().revocations), (2, 1));

    let builder = AuthorizationServer::builder().with(|settings| {
        (settings.revoke_access_tokens, settings.rotation) = (false, Rotation::Never);
    });
    let (_server, _mcp, service, grant) = granted(builder.start().await.unwrap()).await;
    assert_eq!(service.client.revoke(grant).await, Err(RevokeError("it does not revoke access tokens")));
}

#[tokio::test]
async fn what_was_not_revoked_can_be_tried_again() {
    let (server, _mcp, service, grant) = plain().await;
    for (behaviour, expected) in [
        (Behaviour::status(503), "it is out of order"),
        (Behaviour::html("<html>"), ""),
        (Behaviour::from(Reply::html("CANARY").status(403)), "it answered with an error that says nothing"),
        (Behaviour::redirect(307, "http://127.0.0.1:9/"), "it answered with an error that says nothing"),
        (Behaviour::too_many_requests(1), "it answered with an error that says nothing"),
        (Behaviour::from(Reply::json(r#"{"error":"server_error"}"#).status(400)), "it answered with an error"),
        (Behaviour::from(Reply::json(r#"{"error":{"a":1}}"#)), "it answered with an error"),
        (
            Behaviour::from(Reply::json(r#"{"error":"invalid_client"}"#).status(401)),
            "it refuses this service as a client",
        ),
        (
            Behaviour::from(Reply::json(r#"{"error":"unsupported_token_type"}"#).status(400)),
            "it does not revoke refresh tokens",
        ),
        (Behaviour::from(Reply::json(r#"{"error":"invalid_token"}"#).status(400)), ""),
        (Behaviour::from(Reply::json(r#"{"error":"invalid_grant"}"#).status(400)), ""),
        (Behaviour::reset(), "the connection broke, or its answer cannot be read"),
        (Behaviour::garbage(), "the connection broke, or its answer cannot be read"),
        (Behaviour::hang(), "it did not answer in time"),
    ] {
        let before = Instant::now();
        server.script(server.once(Endpoint::Revocation, behaviour.clone()));
        let revoked = service.client.revoke(grant.clone()).await;
        let expected = if expected.is_empty() { Ok(()) } else { Err(RevokeError(expected)) };
        assert_eq!(revoked, expected, "{behaviour:?}");
        assert!(before.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(service.client.revoke(grant).await, Ok(()));
}

#[tokio::test]
async fn the_server_need_not_be_there() {
    let (server, _mcp, service, grant) = plain().await;
    let inner = issued(&grant).clone();
    let at = |endpoint: &str| {
        let mut issued = inner.clone();
        issued.authority.revocation_endpoint = Some(endpoint.to_owned());
        Grant { source: GrantSource::Issued(issued), ..grant.clone() }
    };
    server.stop().await;
    assert_eq!(service.client.revoke(grant.clone()).await, Err(RevokeError("it cannot be reached")));
    let refused = service.client.revoke(at("http://169.254.169.254/")).await;
    assert_eq!(refused, Err(RevokeError("this service may not call its revocation endpoint")));
    let refused = service.client.revoke(at("javascript:x")).await;
    assert_eq!(refused, Err(RevokeError("its revocation endpoint is no address that can be used")));
}
