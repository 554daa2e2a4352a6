//! The authorization request.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{AuthorizationServer, PrepareRequest};
use connectors_domain::Quirks;
use serde_json::json;

use crate::support::{PRM, challenged, document, parameters, protected, protected_with, request, service};

#[tokio::test]
async fn a_request_has_all_that_is_needed() {
    let (server, service) = (protected().await, service());
    let prepared = service.prepare(request(&server)).await.unwrap();
    let sent = parameters(&prepared);
    assert_eq!(sent["response_type"], "code");
    assert_eq!(sent["client_id"], "registered");
    assert_eq!(sent["redirect_uri"], prepared.redirect_uri);
    assert_eq!(sent["resource"], server.url());
    assert_eq!(sent["scope"], "read write");
    assert_eq!(sent["code_challenge_method"], "S256");
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, prepared.verifier.expose().as_bytes()));
    assert_eq!(sent["code_challenge"], challenge);
    assert_eq!(sent["state"].len(), 43);
    assert_eq!(service.client.state_hash(&sent["state"]), prepared.state_hash);
    assert_eq!(prepared.verifier.expose().len(), 43);
    assert_ne!(prepared.verifier.expose(), sent["state"]);
    assert_eq!(sent.len(), 8);
    let printed = format!("{prepared:?}");
    assert!(!printed.contains(&sent["state"]) && !printed.contains(prepared.verifier.expose()), "{printed}");

    let again = service.prepare(request(&server)).await.unwrap();
    assert_ne!(again.state_hash, prepared.state_hash);
}

#[tokio::test]
async fn the_scope_comes_from_the_challenge_before_the_metadata() {
    let server = protected().await;
    let prepared = service().prepare(challenged(&server, "Bearer scope=\"admin\"")).await.unwrap();
    assert_eq!(parameters(&prepared)["scope"], "admin");
    assert_eq!(prepared.scopes.to_string(), "admin");

    for scopes in [json!([]), json!(null), json!("read")] {
        server.route(
            format!("{PRM}/mcp"),
            document(&json!({
                "resource": server.url(),
                "authorization_servers": [server.origin()],
                "scopes_supported": scopes,
            })),
        );
        let prepared = service().prepare(request(&server)).await.unwrap();
        assert!(!parameters(&prepared).contains_key("scope"), "{scopes}");
    }
}

#[tokio::test]
async fn refresh_tokens_are_asked_for_where_they_can_be() {
    let many: Vec<_> = (0..1000).map(|number| number.to_string()).chain(["offline_access".to_owned()]).collect();
    let server = protected_with(|metadata| metadata["scopes_supported"] = json!(many)).await;
    let prepared = service().prepare(request(&server)).await.unwrap();
    assert_eq!(parameters(&prepared)["scope"], "offline_access read write");
    assert_eq!(parameters(&prepared)["prompt"], "consent");
}

#[tokio::test]
async fn a_preset_may_change_what_does_not_protect() {
    let server = protected_with(|metadata| {
        metadata["scopes_supported"] = json!(["offline_access"]);
        metadata["authorization_endpoint"] =
            format!("{}/authorize?tenant=a%20b", metadata["issuer"].as_str().unwrap()).into();
    })
    .await;
    let pairs = [("access_type", "offline"), ("prompt", "login"), ("state", "fixed"), ("code_challenge", "x")];
    let quirks = Quirks {
        authorize_parameters: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        scope: Some("x offline_access".to_owned()),
        omit_resource: true,
        ..Quirks::default()
    };
    let prepared = service().prepare(PrepareRequest { quirks, ..request(&server) }).await.unwrap();
    let sent = parameters(&prepared);
    assert_eq!(sent["tenant"], "a b");
    assert_eq!(sent["access_type"], "offline");
    assert_eq!(sent["prompt"], "login");
    assert_eq!(sent["scope"], "offline_access x");
    assert_eq!(sent["state"].len(), 43);
    assert_eq!(sent["code_challenge"].len(), 43);
    assert!(!sent.contains_key("resource"));
    assert_eq!(prepared.authority.resource, None);
}
