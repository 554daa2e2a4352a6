//! Who the service is at an authorization server.

use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{PrepareError, PrepareRequest};
use connectors_domain::{ClientAuthentication, ClientOrigin, Issuer};
use connectors_oauth::{OAuthConfig, issuer_key};
use connectors_testkit::mcp_server::{Reply, Rule};
use serde_json::json;
use url::Url;

use crate::support::{
    AS, CALLBACK, config, count, document, given, metadata, parameters, protected, protected_with, request, service,
    service_with,
};

#[tokio::test]
async fn a_registration_says_who_asks() {
    let server = protected_with(|metadata| metadata["scopes_supported"] = json!(["write", "admin"])).await;
    let prepared = service().prepare(request(&server)).await.unwrap();
    let redirect_uri = format!("{CALLBACK}/{}", issuer_key(&Issuer::new(server.origin())));
    let sent = server.requests().into_iter().find(|request| request.path() == "/register").unwrap();
    assert_eq!(
        sent.json().unwrap(),
        json!({
            "client_name": "Connectors",
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "web",
            "scope": "admin read write",
        })
    );
    assert_eq!(prepared.redirect_uri, redirect_uri);
    assert_eq!(prepared.authority.client.origin, ClientOrigin::Registered);
}

#[tokio::test]
async fn a_local_service_registers_as_a_native_application() {
    let server = protected().await;
    let config = OAuthConfig { public_url: Url::parse("http://127.0.0.1:8080").unwrap(), ..config() };
    service_with(config).prepare(request(&server)).await.unwrap();
    let sent = server.requests().into_iter().find(|request| request.path() == "/register").unwrap();
    assert_eq!(sent.json().unwrap()["application_type"], "native");
}

#[tokio::test]
async fn the_way_of_authentication_is_one_that_the_server_lists() {
    for (listed, expected) in [
        (json!(["client_secret_post", "none"]), "none"),
        (json!(["client_secret_post", "client_secret_basic"]), "client_secret_basic"),
        (json!(["private_key_jwt", "client_secret_post"]), "client_secret_post"),
        (json!(null), "client_secret_basic"),
    ] {
        let server =
            protected_with(|metadata| metadata["token_endpoint_auth_methods_supported"] = listed.clone()).await;
        server.route(
            "/register",
            Reply::json(
                r#"{"client_id":"a","client_secret":"s","token_endpoint_auth_method":"METHOD"}"#
                    .replace("METHOD", expected),
            ),
        );
        service().prepare(request(&server)).await.unwrap();
        let sent = server.requests().into_iter().find(|request| request.path() == "/register").unwrap();
        assert_eq!(sent.json().unwrap()["token_endpoint_auth_method"], expected, "{listed}");
    }
    let server =
        protected_with(|metadata| metadata["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt"])).await;
    assert!(matches!(service().prepare(request(&server)).await, Err(PrepareError::InvalidMetadata(_))));
    assert!(matches!(service().prepare(given(&server, Some("s"))).await, Err(PrepareError::InvalidMetadata(_))));
}

#[tokio::test]
async fn a_refusal_registers_nothing_and_can_be_tried_again() {
    for reply in [
        Reply::text(500, "CANARY"),
        Reply::json(r#"{"error":"invalid_redirect_uri","error_description":"CANARY"}"#).status(400),
        Reply::json(r#"{"client_id":"a","token_endpoint_auth_method":"client_secret_basic"}"#).status(201),
        Reply::json(r#"{"client_id":"a\u0000"}"#),
        Reply::html("<html>CANARY"),
        Reply::json(r#"{"client_id":"a"}"#).gzipped(),
    ] {
        let (server, service) = (protected().await, service());
        server.route("/register", reply);
        let refused = service.prepare(request(&server)).await.unwrap_err();
        assert!(matches!(refused, PrepareError::RegistrationFailed), "{refused}");
        assert!(!format!("{refused} {refused:?}").contains("CANARY"));
        assert!(service.kept.registered().is_empty());
        server.route("/register", Reply::json(r#"{"client_id":"better"}"#));
        assert!(service.prepare(request(&server)).await.is_ok());
    }
}

#[tokio::test]
async fn a_server_that_minds_the_scopes_is_asked_without_them() {
    let server = protected().await;
    server.script(Rule::once(Reply::json(r#"{"error":"invalid_client_metadata"}"#).status(400)).on_path("/register"));
    service().prepare(request(&server)).await.unwrap();
    let sent: Vec<_> = server.requests().into_iter().filter(|request| request.path() == "/register").collect();
    assert_eq!(sent.len(), 2);
    assert!(sent[0].json().unwrap().get("scope").is_some());
    assert!(sent[1].json().unwrap().get("scope").is_none());
}

#[tokio::test]
async fn many_at_once_register_once() {
    let server = protected().await;
    server.route("/register", Reply::json(r#"{"client_id":"shared"}"#).delay(Duration::from_millis(100)));
    let service = Arc::new(service());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (service, request) = (Arc::clone(&service), request(&server));
            tokio::spawn(async move { service.prepare(request).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().authority.client.credentials.id(), "shared");
    }
    assert_eq!(count(&server, "/register"), 1);
}

#[tokio::test]
async fn an_expired_secret_registers_anew() {
    let server =
        protected_with(|metadata| metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]))
            .await;
    let service = service();
    let answer = |id: &str, end: i64| {
        document(&json!({ "client_id": id, "client_secret": "s", "client_secret_expires_at": end }))
    };
    server.route("/register", answer("first", 1_767_225_600 + 60));
    assert_eq!(service.prepare(request(&server)).await.unwrap().authority.client.credentials.id(), "first");
    service.clock.advance(Duration::from_mins(1));
    server.route("/register", answer("second", 0));
    let prepared = service.prepare(request(&server)).await.unwrap();
    assert_eq!(prepared.authority.client.credentials.id(), "second");
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::SecretPost);
    assert!(!format!("{prepared:?}").contains("\"s\""));
}

#[tokio::test]
async fn a_caller_that_waits_too_long_is_told() {
    let server = protected().await;
    server.route("/register", Reply::json("{}").delay(Duration::from_secs(30)));
    let config = OAuthConfig { prepare_timeout: Duration::from_millis(300), ..config() };
    assert!(matches!(service_with(config).prepare(request(&server)).await, Err(PrepareError::TimedOut)));
    let config = OAuthConfig { request_timeout: Duration::from_millis(100), ..crate::support::config() };
    assert!(matches!(service_with(config).prepare(request(&server)).await, Err(PrepareError::TimedOut)));
}

#[tokio::test]
async fn a_given_client_is_used_before_all_others() {
    let server = protected_with(|metadata| {
        metadata["client_id_metadata_document_supported"] = json!(true);
        metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    })
    .await;
    let prepared = service().prepare(given(&server, Some("secret"))).await.unwrap();
    assert_eq!(parameters(&prepared)["client_id"], "given");
    assert_eq!(prepared.redirect_uri, CALLBACK);
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::SecretPost);
    assert_eq!(prepared.authority.client.origin, ClientOrigin::Given);
    let prepared = service().prepare(given(&server, None)).await.unwrap();
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::None);
    assert_eq!(count(&server, "/register"), 0);
}

#[tokio::test]
async fn a_given_client_is_bound_to_its_issuer() {
    let server = protected().await;
    let bound = |issuer: String| PrepareRequest { bound_to: Some(Issuer::new(issuer)), ..given(&server, None) };
    assert!(service().prepare(bound(server.origin())).await.is_ok());
    let refused = service().prepare(bound("https://other.example".to_owned())).await;
    assert!(matches!(refused, Err(PrepareError::ClientBoundElsewhere)));
    // A registration is bound by its key alone.
    let request = PrepareRequest { client: None, ..bound("https://other.example".to_owned()) };
    assert!(service().prepare(request).await.is_ok());
}

#[tokio::test]
async fn the_issuer_of_a_given_client_is_chosen_among_several() {
    let (server, other) = (protected().await, protected().await);
    server.route(
        format!("{}/mcp", crate::support::PRM),
        document(&json!({ "resource": server.url(), "authorization_servers": [server.origin(), other.origin()] })),
    );
    let bound_to = Some(Issuer::new(other.origin()));
    let prepared = service().prepare(PrepareRequest { bound_to, ..given(&server, None) }).await.unwrap();
    assert_eq!(prepared.authority.issuer.as_str(), other.origin());
}

#[tokio::test]
async fn the_metadata_document_is_used_where_it_is_understood() {
    let url = "https://c.example/client.json";
    let with_document = || service_with(OAuthConfig { client_metadata_url: Some(url.to_owned()), ..config() });
    let server = protected_with(|metadata| metadata["client_id_metadata_document_supported"] = json!(true)).await;
    let prepared = with_document().prepare(request(&server)).await.unwrap();
    assert_eq!(parameters(&prepared)["client_id"], url);
    assert_eq!(prepared.redirect_uri, CALLBACK);
    assert_eq!(prepared.authority.client.origin, ClientOrigin::MetadataDocument);
    assert_eq!(count(&server, "/register"), 0);

    assert_eq!(parameters(&service().prepare(request(&server)).await.unwrap())["client_id"], "registered");
    let server = protected().await;
    assert_eq!(parameters(&with_document().prepare(request(&server)).await.unwrap())["client_id"], "registered");
}

#[tokio::test]
async fn without_any_way_a_client_is_required() {
    for absent in [json!(null), json!("")] {
        let server = protected().await;
        let mut value = metadata(&server.origin());
        value["registration_endpoint"] = absent;
        server.route(AS, document(&value));
        assert!(matches!(service().prepare(request(&server)).await, Err(PrepareError::ClientRequired)));
    }
}

#[tokio::test]
async fn a_registration_outlives_the_caller_that_began_it() {
    let server = protected().await;
    server.route("/register", Reply::json(r#"{"client_id":"late"}"#).delay(Duration::from_millis(400)));
    let service = service_with(OAuthConfig { prepare_timeout: Duration::from_millis(200), ..config() });
    assert!(matches!(service.prepare(request(&server)).await, Err(PrepareError::TimedOut)));
    for _ in 0..100 {
        if !service.kept.registered().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it was never kept");
}
