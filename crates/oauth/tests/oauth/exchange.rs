//! From a code to a grant.

use std::time::Duration;

use connectors_application::ports::{AuthorizationServer, ExchangeError, ExchangeRequest, Prepared};
use connectors_domain::{Grant, IssuedGrant, Scopes, Secret};
use connectors_testkit::mcp_server::{McpServer, Reply};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{
    Service, config, given, issued, protected, protected_with, refresh_token, request, service, service_with,
};

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn exchange_request(prepared: &Prepared) -> ExchangeRequest {
    ExchangeRequest {
        authority: prepared.authority.clone(),
        code: Secret::new("co de&x=1"),
        verifier: prepared.verifier.clone(),
        redirect_uri: prepared.redirect_uri.clone(),
        scopes: Scopes::parse("asked"),
    }
}

/// A server and a service that is its client already.
async fn ready() -> (McpServer, Service, ExchangeRequest) {
    let (server, service) = (protected().await, service());
    let prepared = service.prepare(request(&server)).await.unwrap();
    let exchange = exchange_request(&prepared);
    (server, service, exchange)
}

async fn answered(reply: Reply) -> Result<Grant, ExchangeError> {
    let (server, service, request) = ready().await;
    server.route("/token", reply);
    service.client.exchange(request).await
}

#[tokio::test]
async fn a_code_becomes_a_grant() {
    let (server, service, request) = ready().await;
    server.route(
        "/token",
        Reply::json(
            r#"{"access_token":"at","token_type":"bEARER","expires_in":3600,"refresh_token":"rt","scope":"b a"}"#,
        ),
    );
    let grant = service.client.exchange(request.clone()).await.unwrap();
    assert_eq!(grant.access_token.expose(), "at");
    let printed = format!("{grant:?}");
    assert!(!printed.contains("\"at\"") && !printed.contains("\"rt\""), "{printed}");
    let issued = issued(&grant);
    assert_eq!(issued.authority, request.authority);
    assert_eq!(refresh_token(&grant), "rt");
    assert_eq!(issued.obtained_at, NOW);
    assert_eq!(issued.expires_at, Some(NOW + SignedDuration::from_hours(1)));
    assert_eq!(issued.scopes, Scopes::parse("a b"));
    assert_eq!(issued.generation, IssuedGrant::UNSTORED);

    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(sent.header("accept"), Some("application/json"));
    assert_eq!(sent.header("authorization"), None);
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&sent.body).into_owned().collect();
    let expected = [
        ("grant_type", "authorization_code"),
        ("code", "co de&x=1"),
        ("redirect_uri", &request.redirect_uri),
        ("code_verifier", request.verifier.expose()),
        ("resource", &server.url()),
        ("client_id", "registered"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn the_secret_goes_where_the_server_wants_it() {
    for (method, basic) in [("client_secret_basic", true), ("client_secret_post", false)] {
        let server = protected_with(|metadata| {
            metadata["token_endpoint_auth_methods_supported"] = json!([method]);
        })
        .await;
        let service = service();
        let prepared = service.prepare(given(&server, Some("s:/ &"))).await.unwrap();
        server.route("/token", Reply::json(r#"{"access_token":"at","token_type":"Bearer"}"#));
        service.client.exchange(exchange_request(&prepared)).await.unwrap();
        let sent = server.requests().pop().unwrap();
        // given:s%3A%2F+%26
        let header = basic.then_some("Basic Z2l2ZW46cyUzQSUyRislMjY=");
        assert_eq!(sent.header("authorization"), header);
        assert_eq!(sent.contains("client_secret=s%3A%2F+%26"), !basic);
        assert!(sent.contains("client_id=given"));
    }
}

#[tokio::test]
async fn the_life_of_a_token_never_fails_an_exchange() {
    let year = Some(365 * 24 * 60 * 60);
    for (expires_in, expected) in [
        ("3600", Some(3600)),
        ("\"3600\"", Some(3600)),
        ("3599.5", Some(3599)),
        ("0", Some(0)),
        ("-1", Some(0)),
        ("\"0\"", Some(0)),
        ("null", None),
        ("\"\"", None),
        ("\"3600abc\"", None),
        ("true", None),
        ("{\"a\":[]}", None),
        ("18446744073709551615", year),
        ("1e300", year),
        ("1e999", None),
    ] {
        let body = format!(r#"{{"access_token":"at","token_type":"Bearer","expires_in":{expires_in}}}"#);
        let grant = answered(Reply::json(body)).await.unwrap();
        let issued = issued(&grant);
        let life = issued.expires_at.map(|end| end.duration_since(NOW).as_secs());
        assert_eq!(life, expected, "{expires_in}");
    }
    let grant = answered(Reply::json(r#"{"access_token":"at","token_type":"Bearer"}"#)).await.unwrap();
    let issued = issued(&grant);
    assert_eq!((issued.expires_at, issued.refresh_token.as_ref()), (None, None));
    assert_eq!(issued.scopes, Scopes::parse("asked"));
}

#[tokio::test]
async fn granted_scopes_are_read_in_every_spelling() {
    for (scope, asked, expected) in [
        (r#""b a""#, "asked", "a b"),
        (r#"["b","a"]"#, "asked", "a b"),
        (r#""""#, "asked", "asked"),
        ("null", "asked", "asked"),
        ("7", "asked", "asked"),
        // A comma parts scopes only where all the parts were asked for.
        (r#""repo,gist""#, "gist read:org repo", "gist repo"),
        (r#""repo,gist""#, "repo", "repo,gist"),
        (r#""a,b""#, "a,b", "a,b"),
    ] {
        let (server, service, request) = ready().await;
        let body = r#"{"access_token":"at","token_type":"Bearer","scope":SCOPE}"#.replace("SCOPE", scope);
        server.route("/token", Reply::json(body));
        let request = ExchangeRequest { scopes: Scopes::parse(asked), ..request };
        let grant = service.client.exchange(request).await.unwrap();
        assert_eq!(issued(&grant).scopes.to_string(), expected, "{scope}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_refused() {
    let long = "a".repeat(16 * 1024 + 1);
    for body in [
        "",
        "null",
        "[]",
        "access_token=at&token_type=bearer",
        "{}",
        r#"{"access_token":"at"}"#,
        r#"{"access_token":"at","token_type":"mac"}"#,
        r#"{"access_token":"at","token_type":"DPoP"}"#,
        r#"{"access_token":"at","token_type":["Bearer"]}"#,
        r#"{"token_type":"Bearer"}"#,
        r#"{"access_token":null,"token_type":"Bearer"}"#,
        r#"{"access_token":7,"token_type":"Bearer"}"#,
        r#"{"access_token":"","token_type":"Bearer"}"#,
        r#"{"access_token":"a b","token_type":"Bearer"}"#,
        r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#,
        r#"{"access_token":"a\u0000","token_type":"Bearer"}"#,
        r#"{"access_token":"é","token_type":"Bearer"}"#,
        r#"{"access_token":"at","token_type":"Bearer","refresh_token":"a\n"}"#,
        r#"{"access_token":"at","token_type":"Bearer","refresh_token":7}"#,
        r#"{"access_token":"at","access_token":"b","token_type":"Bearer"}"#,
        &format!(r#"{{"access_token":"{long}","token_type":"Bearer"}}"#),
    ] {
        let refused = answered(Reply::json(body.to_owned())).await;
        assert_eq!(refused, Err(ExchangeError::InvalidResponse), "{body:.80}");
    }
}

#[tokio::test]
async fn an_error_counts_before_everything_else() {
    let both = r#"{"access_token":"at","token_type":"Bearer","error":"invalid_grant"}"#;
    for (status, body, expected) in [
        (200, both, ExchangeError::Refused),
        (400, r#"{"error":""}"#, ExchangeError::Refused),
        (200, r#"{"error":{"code":1}}"#, ExchangeError::Refused),
        (400, r#"{"error":"invalid_grant","error_description":"CANARY"}"#, ExchangeError::Refused),
        (401, r#"{"error":"invalid_grant"}"#, ExchangeError::Refused),
        (400, r#"{"error":"invalid_target"}"#, ExchangeError::Refused),
        (400, r#"{"error":"invalid_client"}"#, ExchangeError::ClientRefused),
        (401, r#"{"error":"invalid_client"}"#, ExchangeError::ClientRefused),
        (200, r#"{"error":"invalid_client"}"#, ExchangeError::ClientRefused),
        (401, "CANARY", ExchangeError::ClientRefused),
        (400, "CANARY", ExchangeError::Refused),
        (403, "<html>", ExchangeError::Refused),
        (500, "CANARY", ExchangeError::InvalidResponse),
        (503, r#"{"error":"temporarily_unavailable"}"#, ExchangeError::InvalidResponse),
        (429, "", ExchangeError::InvalidResponse),
        (302, "", ExchangeError::InvalidResponse),
    ] {
        let refused = answered(Reply::json(body).status(status)).await;
        assert_eq!(refused, Err(expected), "{status} {body}");
        assert!(!format!("{refused:?}").contains("CANARY"));
    }
}

#[tokio::test]
async fn a_client_that_is_refused_registers_anew_next_time() {
    let (server, service, exchange) = ready().await;
    server.route("/token", Reply::json(r#"{"error":"invalid_client"}"#).status(401));
    assert_eq!(service.client.exchange(exchange.clone()).await, Err(ExchangeError::ClientRefused));
    assert!(service.kept.registered().is_empty());
    server.route("/register", Reply::json(r#"{"client_id":"second"}"#));
    let prepared = service.prepare(request(&server)).await.unwrap();
    assert_eq!(prepared.authority.client.credentials.id(), "second");
    // What is late does no harm to what is new.
    assert_eq!(service.client.exchange(exchange).await, Err(ExchangeError::ClientRefused));
    assert_eq!(service.kept.registered().len(), 1);
}

#[tokio::test]
async fn trouble_on_the_way_is_told_apart() {
    let (server, _, request) = ready().await;
    server.route("/token", Reply::json("{}").delay(Duration::from_secs(30)));
    let impatient =
        service_with(connectors_oauth::OAuthConfig { request_timeout: Duration::from_millis(100), ..config() });
    assert_eq!(impatient.client.exchange(request.clone()).await, Err(ExchangeError::TimedOut));
    server.stop().await;
    assert_eq!(service().client.exchange(request.clone()).await, Err(ExchangeError::Unreachable));
    let mut inner = request;
    inner.authority.token_endpoint = "http://169.254.169.254/latest/api/token".to_owned();
    assert!(matches!(service().client.exchange(inner).await, Err(ExchangeError::AddressRefused(_))));
}
