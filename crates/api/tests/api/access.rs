//! Who is let in, to what, in which order that is found out, and that nothing can be learned from being refused.

use std::num::NonZeroU32;
use std::time::Duration;

use connectors_application::ports::{Audience, Authenticated};
use connectors_domain::{Permission, Permissions};
use serde_json::{Value, json};

use crate::support::{Answer, Stage, TestServer, user, with};

const NOBODY: &str = "019f0000-0000-7000-8000-000000000000";

/// Every call that demands a permission.
const CALLS: [(&str, &str, Permission); 14] = [
    ("GET", "/api/v1/connectors", Permission::Read),
    ("POST", "/api/v1/connectors", Permission::Write),
    ("GET", "/api/v1/connectors/presets", Permission::Read),
    ("GET", "/api/v1/connectors/{id}", Permission::Read),
    ("DELETE", "/api/v1/connectors/{id}", Permission::Write),
    ("POST", "/api/v1/connectors/{id}/connect", Permission::Write),
    ("POST", "/api/v1/connectors/{id}/disconnect", Permission::Write),
    ("POST", "/api/v1/connectors/{id}/mcp", Permission::Proxy),
    ("GET", "/api/v1/connectors/{id}/mcp", Permission::Proxy),
    ("DELETE", "/api/v1/connectors/{id}/mcp", Permission::Proxy),
    ("GET", "/api/v1/admin/connectors", Permission::Admin),
    ("GET", "/api/v1/admin/connectors/{id}", Permission::Admin),
    ("POST", "/api/v1/admin/connectors/{id}/disconnect", Permission::Admin),
    ("DELETE", "/api/v1/admin/connectors/{id}", Permission::Admin),
];

fn at(path: &str, id: &str) -> String {
    path.replace("{id}", id)
}

/// A call with `fields` as its `Authorization` fields, whose body is none that could be taken.
async fn call(server: &TestServer, method: &str, path: &str, fields: &[&[u8]]) -> Answer {
    let mut request = server.request(method, path);
    for field in fields {
        let value = reqwest::header::HeaderValue::from_bytes(field).unwrap();
        request = request.header("authorization", value);
    }
    server.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_demands_a_credential_and_says_where_one_can_be_got() {
    let server = Stage::closed().start();
    for (method, path, permission) in CALLS {
        for id in [NOBODY, "x", "..%2f", "%22%0d%0a"] {
            let path = at(path, id);
            let answer = call(&server, method, &path, &[]).await;
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(answer.json()["type"], "urn:connectors:problem:unauthorized");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let metadata = match permission {
                Permission::Proxy if id == NOBODY => format!("/api/v1/connectors/{NOBODY}/mcp"),
                _ => String::new(),
            };
            let challenge = format!(
                "Bearer resource_metadata=\"https://connectors.example.com/.well-known/oauth-protected-resource{metadata}\", \
                 scope=\"{permission}\""
            );
            assert_eq!(answer.header("www-authenticate"), challenge, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_credential_that_is_not_good_gets_the_same_answer() {
    let stage = Stage::closed();
    let until = Some(stage.now() + jiff::SignedDuration::from_hours(1));
    let expired = Authenticated { principal: user("dave"), audience: Audience::Service, until };
    let elsewhere =
        Audience::Resources(vec!["https://other.example.com".into(), "https://connectors.example.com/".into()]);
    stage.tokens().put("expired", expired);
    stage.tokens().put("elsewhere", Authenticated { principal: user("dave"), audience: elsewhere, until: None });
    let server = stage.start();
    assert_eq!(call(&server, "GET", "/api/v1/connectors", &[b"Bearer expired"]).await.status, 200);
    stage.clock.advance(Duration::from_hours(1));
    let large = [b"Bearer ".as_slice(), &vec![b'a'; 16 * 1024 + 1]].concat();
    let bad: [&[&[u8]]; 26] = [
        &[],
        &[b""],
        &[b"Bearer"],
        &[b"Bearer "],
        &[b"Bearer unknown"],
        &[b"Bearer alice alice"],
        &[b"Bearer alice,"],
        &[b"Bearer \"alice\""],
        &[b"Bearer al\xffice"],
        &[b"Bearer alice=="],
        &[b"Bearer ALICE"],
        &[b"Bearer\talice"],
        &[b"Bearer:alice"],
        &[b"Beareralice"],
        &[b"Bearer Bearer alice"],
        &[b"alice"],
        &[b"Basic YWxpY2U6YWxpY2U="],
        &[b"Token alice"],
        &[b"DPoP alice"],
        &[b"Bearer alice", b"Bearer alice"],
        &[b"Bearer alice", b"Basic x"],
        &[b"Basic x", b"Bearer alice"],
        &[b"Bearer expired"],
        &[b"Bearer elsewhere"],
        &[b"Bearer eyJhbGciOiJub25lIn0.e30."],
        &[&large],
    ];
    for (method, path) in [("GET", "/api/v1/connectors"), ("POST", "/api/v1/connectors/x/mcp")] {
        let mut answers = Vec::new();
        for fields in bad {
            let answer = call(&server, method, path, fields).await;
            assert_eq!(answer.status, 401, "{fields:?}");
            let means_bearer = fields.iter().any(|field| field.starts_with(b"Bearer ") || *field == b"Bearer");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.ends_with(", error=\"invalid_token\""), means_bearer, "{fields:?}: {challenge}");
            answers.push(answer.bytes());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
    }
    assert_eq!(call(&server, "GET", "/api/v1/connectors", &[b"bEaReR  alice "]).await.status, 200);
    let away = call(&server, "GET", "/api/v1/connectors", &[b"Bearer away"]).await;
    assert_eq!((away.status, away.header("retry-after"), away.header("www-authenticate")), (503, "2", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_query_is_not_looked_at() {
    let server = Stage::closed().start();
    let answer = server.call("GET", "/api/v1/connectors?access_token=alice", None).await;
    assert_eq!(answer.status, 401);
    assert!(!answer.text.contains("alice"));
    assert!(!answer.header("www-authenticate").contains("error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_takes_its_own_permission_and_no_other() {
    let mut stage = Stage::closed();
    for permission in Permission::ALL {
        let others = Permission::ALL.into_iter().filter(|other| *other != permission);
        stage = stage
            .give(
                permission.as_str().trim_start_matches("connectors:"),
                with("dave", [permission].into_iter().collect()),
            )
            .give(&permission.as_str().replace("connectors:", "no-"), with("dave", others.collect()));
    }
    let server = stage.give("nothing", with("dave", Permissions::default())).start();
    for (method, path, demanded) in CALLS {
        let path = at(path, NOBODY);
        for permission in Permission::ALL {
            let name = permission.as_str().trim_start_matches("connectors:");
            let only = server.call_as(name, method, &path, None).await;
            assert_eq!(only.status != 403, permission == demanded, "{method} {path} with {name}: {}", only.text);
            let without = server.call_as(&format!("no-{name}"), method, &path, None).await;
            assert_eq!(without.status == 403, permission == demanded, "{method} {path} without {name}");
        }
        let refused = server.call_as("nothing", method, &path, None).await;
        assert_eq!(refused.json()["type"], "urn:connectors:problem:insufficient-scope");
        let challenge = refused.header("www-authenticate");
        assert!(challenge.starts_with("Bearer resource_metadata=\""), "{challenge}");
        assert!(challenge.ends_with(&format!(", scope=\"{demanded}\", error=\"insufficient_scope\"")), "{challenge}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_is_settled_before_anything_else_is_looked_at() {
    let reader = with("dave", [Permission::Read].into_iter().collect());
    let stage = Stage { requests_per_second: NonZeroU32::new(20), ..Stage::closed().give("reader", reader) };
    let server = stage.start();
    let bad_bodies = |path: &str| {
        let post = || server.request("POST", path);
        [
            post().header("content-type", "application/json").body("{"),
            post().header("content-type", "text/plain").body("{}"),
            post().header("content-type", "application/json").body(" ".repeat(300 * 1024)),
        ]
    };
    for (path, scope) in
        [("/api/v1/connectors", 403), ("/api/v1/connectors/x/connect", 403), ("/api/v1/connectors/x/mcp", 403)]
    {
        for request in bad_bodies(path) {
            assert_eq!(server.send(request).await.status, 401, "{path}");
        }
        for request in bad_bodies(path) {
            assert_eq!(server.send(request.bearer_auth("reader")).await.status, scope, "{path}");
        }
    }
    // Refusals for want of a permission count as calls.
    let list = "/api/v1/connectors?limit=0";
    assert_eq!(server.call_as("reader", "GET", list, None).await.status, 422);
    let limited = until_limited(&server, "alice", "POST", "/api/v1/connectors/x/connect").await;
    assert_eq!(limited.json()["type"], "urn:connectors:problem:limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_tells_what_each_call_demands() {
    let document = Stage::closed().start().call("GET", "/openapi.json", None).await.json();
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    // GET and DELETE of `/mcp` are told of in the description of POST.
    for (method, path, permission) in
        CALLS.into_iter().filter(|(method, path, _)| *method == "POST" || !path.ends_with("/mcp"))
    {
        let call = &document["paths"][path][method.to_lowercase()];
        assert_eq!(call["security"], json!([{}, {"bearer": [permission.as_str()]}]), "{method} {path}");
        for status in ["401", "403", "429", "503"] {
            let schema = &call["responses"][status]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
        }
    }
}

/// Calls until it is too often.
async fn until_limited(server: &TestServer, token: &str, method: &str, path: &str) -> Answer {
    for _ in 0..100 {
        let answer = server.call_as(token, method, path, None).await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("there is no limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_calls_and_takes_none_from_others() {
    let stage = Stage { requests_per_second: NonZeroU32::new(5), ..Stage::closed() };
    let server = stage.give("alice-2", user("alice")).start();
    for _ in 0..5 {
        assert_eq!(server.call_as("alice", "GET", "/api/v1/connectors", None).await.status, 200);
    }
    let limited = until_limited(&server, "alice", "GET", "/api/v1/connectors").await;
    assert_eq!(limited.header("retry-after"), "1");
    assert!(limited.text.contains("calls"), "{}", limited.text);
    assert_eq!(limited.header("www-authenticate"), "");
    // Calls are counted by user, not by token.
    until_limited(&server, "alice-2", "GET", "/api/v1/connectors").await;
    assert_eq!(server.call_as("bob", "GET", "/api/v1/connectors", None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn connects_that_come_too_often_are_told_when_to_come_again() {
    let server = Stage { connects_per_minute: NonZeroU32::new(1), ..Stage::closed() }.start();
    let id = server.create_as("alice", "https://up.example.com/").await;
    let path = format!("/api/v1/connectors/{id}/connect");
    assert_eq!(server.call_as("alice", "POST", &path, None).await.status, 200);
    let limited = server.call_as("alice", "POST", &path, None).await;
    assert_eq!(limited.status, 429);
    let seconds: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_of_others_are_not_there() {
    let server = Stage::closed().start();
    let users = ["alice", "bob", "carol"];
    let mut ids = Vec::new();
    for name in users {
        let id = server.create_as(name, "https://up.example.com/").await;
        server.call_as(name, "POST", &format!("/api/v1/connectors/{id}/connect"), None).await;
        ids.push(id);
    }
    let bodies = [None, Some(json!({})), Some(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))];
    for (name, own) in users.iter().zip(&ids) {
        for (method, path, permission) in CALLS.into_iter().filter(|(_, path, _)| path.contains("{id}")) {
            for body in &bodies {
                let nothing = server.call_as(name, method, &at(path, NOBODY), body.clone()).await;
                assert_eq!(nothing.status, if permission == Permission::Admin { 403 } else { 404 });
                for id in ids.iter().filter(|id| *id != own) {
                    let foreign = server.call_as(name, method, &at(path, id), body.clone()).await;
                    assert_eq!(foreign.bytes(), nothing.bytes(), "{method} {path} as {name}");
                }
            }
        }
        for (method, path) in [("PUT", ""), ("POST", ""), ("GET", "/connect"), ("PATCH", "/mcp"), ("GET", "/x")] {
            let answers = [NOBODY, "x", &ids[0], &ids[1], &ids[2]].map(|id| format!("/api/v1/connectors/{id}{path}"));
            let mut told = Vec::new();
            for path in answers {
                told.push(server.call_as(name, method, &path, None).await.bytes());
            }
            told.dedup();
            assert_eq!(told.len(), 1, "{method} {path}: {told:?}");
        }
        let list = server.call_as(name, "GET", "/api/v1/connectors", None).await.json();
        assert_eq!((&list["total_count"], &list["items"][0]["id"]), (&json!(1), &json!(own)));
    }
    // Nothing of it all has changed anything.
    for (name, id) in users.iter().zip(&ids) {
        let read = server.call_as(name, "GET", &format!("/api/v1/connectors/{id}"), None).await;
        assert_eq!(read.json()["state"], "connected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_an_mcp_server_is_good_for_its_user_and_connector_alone() {
    let server = Stage::closed().start();
    let mut paths = Vec::new();
    for (name, url) in [
        ("alice", "https://up.example.com/"),
        ("alice", "https://up.example.com/2"),
        ("bob", "https://up.example.com/"),
    ] {
        let path = format!("/api/v1/connectors/{}", server.create_as(name, url).await);
        server.call_as(name, "POST", &format!("{path}/connect"), None).await;
        paths.push(format!("{path}/mcp"));
    }
    let call = |name: &'static str, path: &str, session: String| {
        let request = server.request("POST", path).bearer_auth(name).header("mcp-session-id", session);
        server.send(request.json(&json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})))
    };
    let begun = server.call_as("alice", "POST", &paths[0], Some(json!({}))).await;
    let session = begun.header("mcp-session-id").to_owned();
    assert_ne!(session, "s-1");
    assert_eq!(call("alice", &paths[0], session.clone()).await.status, 200);
    for (name, path) in [("alice", &paths[1]), ("bob", &paths[2]), ("bob", &paths[0])] {
        let refused = call(name, path, session.clone()).await;
        assert_eq!(
            (refused.status, refused.json()["type"].clone()),
            (404, json!("urn:connectors:problem:session-unknown"))
        );
    }
    assert_eq!(call("alice", &paths[0], "s-1".into()).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_connector_is_good_for_that_one_alone() {
    let stage = Stage::closed();
    let server = stage.start();
    let mut paths = Vec::new();
    for url in ["https://up.example.com/", "https://up.example.com/2"] {
        paths.push(format!("/api/v1/connectors/{}", server.create_as("alice", url).await));
    }
    let audience = Audience::Resources(vec![format!("https://connectors.example.com{}/mcp", paths[0])]);
    stage.tokens().put("narrow", Authenticated { principal: user("alice"), audience, until: None });
    for (path, status) in [
        (format!("{}/mcp", paths[0]), 409),
        (format!("{}/mcp", paths[1]), 401),
        (paths[0].clone(), 401),
        ("/api/v1/connectors".to_owned(), 401),
    ] {
        assert_eq!(server.call_as("narrow", "GET", &path, None).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_nobody_is_asked_and_nothing_that_is_said_matters() {
    let server = Stage::open().start();
    for fields in [&[] as &[&[u8]], &[b"Bearer a", b"Bearer b"], &[b"Basic x"], &[b""], &[b"Bearer away"]] {
        assert_eq!(call(&server, "GET", "/api/v1/connectors", fields).await.status, 200, "{fields:?}");
    }
    let id = server.create("https://consent.example.com/").await;
    let waiting = server.call("POST", &format!("/api/v1/connectors/{id}/connect"), None).await.json();
    assert_eq!(waiting["auth_request"]["authorization_endpoint"], "https://as.example.com/authorize?state=state-0");
    let callback = server.call("GET", "/api/v1/connectors/oauth/callback?state=state-0&code=c", None).await;
    assert_eq!(callback.status, 200);
    let list = server.call("GET", "/api/v1/admin/connectors", None).await.json();
    assert_eq!(list["items"][0]["account"], "local");
    assert_eq!(list["items"][0]["auth_request"], Value::Null);
}
