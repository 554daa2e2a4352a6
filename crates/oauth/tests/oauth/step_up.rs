//! Wider consent: what is asked for when something is held already, and how a server asks for more.

use connectors_application::ports::{AuthorizationServer as _, PrepareRequest};
use connectors_domain::{Quirks, Scopes};
use serde_json::json;

use crate::support::{challenged, parameters, protected, protected_with, request, service};

#[tokio::test]
async fn a_403_may_ask_for_more_scopes() {
    let service = service();
    let demanded = |field: &str| service.client.demanded_scopes(&[field.to_owned()]);
    let field = r#"Bearer error="insufficient_scope", scope="files:write", resource_metadata="https://a/m""#;
    assert_eq!(demanded(field), Some(Scopes::parse("files:write")));
    assert_eq!(demanded(r#"Bearer error="insufficient_scope""#), Some(Scopes::default()));
    assert_eq!(demanded(r#"Bearer error="invalid_token""#), None);
    assert_eq!(service.client.demanded_scopes(&[]), None);
}

#[tokio::test]
async fn what_is_held_is_asked_for_again() {
    let server = protected().await;
    let asked = async |challenge: &str, held: &str, quirks: Quirks| {
        let held = Scopes::parse(held);
        let request = PrepareRequest { held, quirks, ..challenged(&server, challenge) };
        let prepared = service().prepare(request).await.unwrap();
        assert_eq!(parameters(&prepared).get("scope").cloned().unwrap_or_default(), prepared.scopes.to_string());
        prepared.scopes.to_string()
    };
    let none = Quirks::default;
    assert_eq!(
        asked(r#"Bearer error="insufficient_scope", scope="admin""#, "read mail", none()).await,
        "admin mail read"
    );
    // A challenge that names none leaves it to the resource.
    assert_eq!(asked(r#"Bearer error="insufficient_scope""#, "mail", none()).await, "mail read write");
    assert_eq!(asked("Bearer scope=\"read\"", "read", none()).await, "read");
    let quirks = Quirks { scope: Some("fixed".to_owned()), ..none() };
    assert_eq!(asked("Bearer scope=\"admin\"", "mail", quirks).await, "fixed mail");
}

#[tokio::test]
async fn the_scope_for_refresh_tokens_is_not_lost() {
    let server = protected_with(|metadata| metadata["scopes_supported"] = json!(["offline_access"])).await;
    let request = PrepareRequest { held: Scopes::parse("offline_access read"), ..request(&server) };
    let prepared = service().prepare(request).await.unwrap();
    assert_eq!(parameters(&prepared)["scope"], "offline_access read write");
    assert_eq!(parameters(&prepared)["prompt"], "consent");
}
