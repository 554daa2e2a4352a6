//! The protected resource metadata (RFC 9728).

use serde_json::json;

use crate::support::Stage;

const ROOT: &str = "/.well-known/oauth-protected-resource";

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_s_document_names_its_very_url_whether_it_exists_or_not() {
    let mut stage = Stage::closed();
    stage.config.authorization_servers = vec!["https://idp.example.com/realm".into()];
    let server = stage.start();
    let own = server.create_as("alice", "https://up.example.com/").await;
    for id in [own.as_str(), "019f0000-0000-7000-8000-000000000000"] {
        let path = format!("/api/v1/connectors/{id}/mcp");
        // The very URL that a refusal names.
        let refused = server.call("POST", &path, None).await;
        let named = refused.header("www-authenticate").split('"').nth(1).unwrap();
        let document = named.strip_prefix("https://connectors.example.com").unwrap();
        let answer = server.call("GET", document, None).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
        assert_eq!(
            answer.json(),
            json!({
                "resource": format!("https://connectors.example.com{path}"),
                "authorization_servers": ["https://idp.example.com/realm"],
                "scopes_supported": ["connectors:proxy"],
                "bearer_methods_supported": ["header"],
                "resource_name": "Connectors",
            })
        );
    }
    for path in ["/api/v1/connectors/x/mcp", "/api/v1/connectors", "/x", "/"] {
        assert_eq!(server.call("GET", &format!("{ROOT}{path}"), None).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_has_a_document_of_its_own() {
    let server = Stage::closed().start();
    assert_eq!(
        server.call("GET", ROOT, None).await.json(),
        json!({
            "resource": "https://connectors.example.com",
            "scopes_supported": ["connectors:read", "connectors:write", "connectors:proxy"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Connectors",
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_there_is_no_document() {
    let server = Stage::open().start();
    for path in ["", "/api/v1/connectors/019f0000-0000-7000-8000-000000000000/mcp"] {
        assert_eq!(server.call("GET", &format!("{ROOT}{path}"), None).await.status, 404);
    }
}
