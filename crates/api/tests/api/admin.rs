//! What an administrator may do with the connectors of others, and what not.

use connectors_domain::{Permission, Permissions};
use serde_json::{Value, json};

use crate::support::{Stage, TestServer, with};

fn stage() -> Stage {
    Stage::closed().give("admin", with("admin", [Permission::Admin].into_iter().collect()))
}

async fn waiting(server: &TestServer, name: &str) -> String {
    let id = server.create_as(name, "https://consent.example.com/").await;
    let answer = server.call_as(name, "POST", &format!("/api/v1/connectors/{id}/connect"), None).await;
    assert_eq!(answer.json()["state"], "auth_required");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_all_connectors_and_never_where_their_users_must_go() {
    let server = stage().start();
    let mut ids = Vec::new();
    for name in ["alice", "bob", "carol"] {
        ids.push(waiting(&server, name).await);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/admin/connectors?limit=2".to_owned();
    loop {
        let answer = server.call_as("admin", "GET", &path, None).await;
        assert!(!answer.text.contains("ticket") && !answer.text.contains("as.example.com"), "{}", answer.text);
        let page = answer.json();
        assert_eq!(page["total_count"], 3);
        seen.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(token) = page["next_page_token"].as_str() else { break };
        path = format!("/api/v1/admin/connectors?limit=2&page_token={token}");
    }
    for (name, id) in ["alice", "bob", "carol"].iter().zip(&ids) {
        let item = seen.iter().find(|item| item["id"] == json!(id)).unwrap();
        assert_eq!(item["account"], format!("{name}@example.com"));
        assert_eq!((&item["state"], &item["auth_request"]), (&json!("auth_required"), &Value::Null));
        let read = server.call_as("admin", "GET", &format!("/api/v1/admin/connectors/{id}"), None).await;
        assert_eq!(&read.json(), item);
    }
    let none = server.call_as("admin", "GET", "/api/v1/admin/connectors?state=connected", None).await;
    assert_eq!(none.json()["total_count"], 0);
    assert_eq!(server.call_as("admin", "GET", "/api/v1/admin/connectors?limit=0", None).await.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_disconnects_and_deletes_and_does_no_more() {
    let server = stage().start();
    let id = waiting(&server, "alice").await;
    let own = format!("/api/v1/connectors/{id}");
    let admin = format!("/api/v1/admin/connectors/{id}");
    // To see a connector is not to use it.
    for (method, path) in [("GET", own.clone()), ("POST", format!("{own}/mcp")), ("POST", format!("{own}/connect"))] {
        assert_eq!(server.call_as("admin", method, &path, None).await.status, 403, "{method} {path}");
    }
    let disconnected = server.call_as("admin", "POST", &format!("{admin}/disconnect"), None).await;
    assert_eq!((disconnected.status, disconnected.json()["state"].clone()), (200, json!("disconnected")));
    assert_eq!(server.call_as("alice", "GET", &own, None).await.json()["disconnect_code"], "client_request");
    assert_eq!(server.call_as("admin", "DELETE", &admin, None).await.status, 204);
    assert_eq!(server.call_as("alice", "GET", &own, None).await.status, 404);
    for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/disconnect")] {
        let gone = server.call_as("admin", method, &format!("{admin}{path}"), None).await;
        assert_eq!((gone.status, gone.json()["type"].clone()), (404, json!("urn:connectors:problem:not-found")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_s_own_connectors_are_like_those_of_everybody() {
    let server = stage().give("root", with("root", Permissions::all())).start();
    let id = waiting(&server, "root").await;
    let own = server.call_as("root", "GET", &format!("/api/v1/connectors/{id}"), None).await.json();
    assert!(own["auth_request"]["authorization_endpoint"].as_str().unwrap().contains("ticket="));
    assert!(own.get("account").is_none());
    let seen = server.call_as("root", "GET", &format!("/api/v1/admin/connectors/{id}"), None).await.json();
    assert_eq!(seen["auth_request"], Value::Null);
}
