//! The calls under `/api/v1/connectors`, over real HTTP.

use crate::support::start;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_lives_from_create_to_delete() {
    let server = start();
    let body = json!({"url": "HTTPS://UP.example.com:443/mcp", "metadata": {"name": "Up"}});
    let created = server.call("POST", "/api/v1/connectors", Some(body)).await;
    assert_eq!(created.status, 201);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/connectors/{id}");
    assert_eq!(created.header("location"), path);
    insta::assert_json_snapshot!(created.settled(), @r#"
    {
      "auth_request": null,
      "created_at": "2027-01-15T08:00:00Z",
      "created_by": "450795bb-5dbd-550e-97ff-a41db5934e50",
      "disconnect_code": null,
      "disconnect_reason": null,
      "id": "[id]",
      "lifecycle": "created",
      "metadata": {
        "name": "Up"
      },
      "state": "created",
      "updated_at": "2027-01-15T08:00:00Z",
      "url": "https://up.example.com/mcp"
    }
    "#);

    let connected = server.call("POST", &format!("{path}/connect"), None).await;
    assert_eq!((connected.status, &connected.json()["state"]), (200, &json!("connected")));
    let read = server.call("GET", &path, None).await;
    assert_eq!(read.json(), connected.json());

    let relayed = server.call("POST", &format!("{path}/mcp"), Some(json!({"jsonrpc": "2.0", "id": 1}))).await;
    assert_eq!(relayed.status, 200);
    // The server's own id of the session stays here.
    assert!(!["", "s-1"].contains(&relayed.header("mcp-session-id")));
    assert_eq!(relayed.json(), json!({"jsonrpc": "2.0", "id": 1}));

    let disconnected = server.call("POST", &format!("{path}/disconnect"), None).await.json();
    assert_eq!(disconnected["state"], "disconnected");
    assert_eq!(disconnected["disconnect_reason"], "Client request");
    assert_eq!(disconnected["disconnect_code"], "client_request");
    assert_eq!(server.call("POST", &format!("{path}/connect"), Some(json!({}))).await.json()["state"], "connected");

    assert_eq!(server.call("DELETE", &path, None).await.status, 204);
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/mcp"))] {
        assert_eq!(server.call(method, &path, None).await.status, 404, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_create_has_its_status_and_leaves_nothing() {
    let server = start();
    let long = "x".repeat(513);
    let many: Value = (0..17).map(|n| (n.to_string(), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    for (body, status, detail) in [
        (json!({"url": "ftp://up.example.com/"}), 400, "scheme"),
        (json!({"url": "https://u:p@up.example.com/"}), 400, "user name"),
        (json!({"url": "https://up.example.com/#x"}), 400, "fragment"),
        (json!({"url": "http://10.0.0.1/"}), 400, "egress.allow"),
        (json!({"url": "https://up.example.com/", "client_secret": "s"}), 400, "client_id"),
        (json!({"url": "up.example.com"}), 422, "url: "),
        (json!({"url": 1}), 422, "url: expected a string"),
        (json!({}), 422, "the field url is missing"),
        (json!([]), 422, ""),
        (json!({"url": "https://up.example.com/", "client_id": ""}), 422, "client_id: "),
        (json!({"url": "https://up.example.com/", "client_id": "i", "client_secret": "\r\n"}), 422, "client_secret: "),
        (json!({"url": "https://up.example.com/", "metadata": {"k": 1}}), 422, "metadata.k: expected a string"),
        (json!({"url": "https://up.example.com/", "metadata": {"k": long}}), 422, "metadata: "),
        (json!({"url": "https://up.example.com/", "metadata": many}), 422, "metadata: "),
        (json!({"url": "https://up.example.com/", "match_preset": "yes"}), 422, "match_preset: expected a boolean"),
    ] {
        let answer = server.call("POST", "/api/v1/connectors", Some(body.clone())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem = answer.json();
        assert_eq!(problem["status"], status);
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{body}: {problem}");
        assert_eq!(problem["instance"], "/api/v1/connectors");
        assert!(problem["request_id"].as_str().unwrap().starts_with("00000001-"));
    }
    let post = || server.request("POST", "/api/v1/connectors");
    for (request, status) in [
        (post().header("content-type", "application/json").body("{"), 400),
        (post().header("content-type", "application/json").body("{} {}"), 422),
        (post().header("content-type", "application/json").body(r#"{"url":"https://up.example.com/"} x"#), 400),
        (post().header("content-type", "application/json").body("\u{0}"), 400),
        (post().header("content-type", "application/json").body("["), 400),
        (post().header("content-type", "application/json").body(r#"["https://up.example.com/"]"#), 422),
        (post().header("content-type", "application/json").body(""), 400),
        (post().header("content-type", "text/plain").body("{}"), 415),
        (post().header("content-type", "application/jsonx").body("{}"), 415),
        (post().body("{}"), 415),
        (post().header("content-type", "application/json").body(" ".repeat(64 * 1024 + 1)), 413),
    ] {
        let answer = server.send(request).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.json()["status"], status);
    }
    assert_eq!(server.call("GET", "/api/v1/connectors", None).await.json()["total_count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_the_wrong_place_are_not_echoed() {
    let server = start();
    for body in [
        json!({"url": "https://up.example.com/", "match_preset": "canary-1"}),
        json!({"url": ["canary-2"]}),
        json!("canary-3"),
        json!({"url": "https://canary-4 .example/", "client_secret": "canary-5"}),
    ] {
        let answer = server.call("POST", "/api/v1/connectors", Some(body)).await;
        assert!(answer.status >= 400 && !answer.text.contains("canary"), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_the_largest_size_is_read() {
    let server = start();
    let mut body = json!({"url": "https://up.example.com/"}).to_string();
    body.push_str(&" ".repeat(64 * 1024 - body.len()));
    let request =
        server.request("POST", "/api/v1/connectors").header("content-type", "application/json; charset=utf-8");
    assert_eq!(server.send(request.body(body)).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_url_makes_one_connector_and_a_user_has_a_limit() {
    let server = start();
    let create = |url: &str| server.call("POST", "/api/v1/connectors", Some(json!({ "url": url })));
    assert_eq!(create("https://up.example.com/mcp").await.status, 201);
    let twice = create("https://UP.example.com/mcp/").await;
    assert_eq!((twice.status, twice.json()["type"].as_str().unwrap()), (409, "urn:connectors:problem:duplicate"));
    for n in 0..4 {
        assert_eq!(create(&format!("https://up.example.com/{n}")).await.status, 201);
    }
    let sixth = create("https://up.example.com/5").await;
    assert_eq!((sixth.status, sixth.header("retry-after")), (429, "60"));
    assert_eq!(server.call("GET", "/api/v1/connectors", None).await.json()["total_count"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_comes_in_pages_and_by_state() {
    let server = start();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(server.create(&format!("https://up.example.com/{n}")).await);
    }
    server.call("POST", &format!("/api/v1/connectors/{}/connect", ids[3]), None).await;

    let mut seen = Vec::new();
    let mut path = "/api/v1/connectors?limit=2".to_owned();
    loop {
        let page = server.call("GET", &path, None).await.json();
        assert_eq!(page["total_count"], 5);
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        assert_eq!(page["has_more"], !page["next_page_token"].is_null());
        let Some(token) = page["next_page_token"].as_str() else { break };
        path = format!("/api/v1/connectors?limit=2&page_token={token}");
    }
    ids.sort();
    seen.sort();
    assert_eq!(seen, ids);

    let connected = server.call("GET", "/api/v1/connectors?state=connected", None).await.json();
    assert_eq!((&connected["total_count"], &connected["items"].as_array().unwrap().len()), (&json!(1), &1));
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "page_token=x",
        "page_token=",
        "state=connecting",
        "limit=1&limit=2",
    ] {
        let answer = server.call("GET", &format!("/api/v1/connectors?{query}"), None).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.text);
    }
    for query in ["limit=1", "limit=1000", "unknown=1"] {
        assert_eq!(server.call("GET", &format!("/api/v1/connectors?{query}"), None).await.status, 200, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presets_are_matched_and_never_tell_their_credentials() {
    let server = start();
    let presets = server.call("GET", "/api/v1/connectors/presets", None).await;
    assert_eq!(
        presets.json(),
        json!({
            "items": [{"url": "https://preset.example.com/", "metadata": {"name": "Preset"}}],
            "total_count": 1, "has_more": false, "next_page_token": null,
        })
    );
    let created = server.call("POST", "/api/v1/connectors", Some(json!({"url": "https://preset.example.com"}))).await;
    assert_eq!(created.json()["metadata"]["name"], "Preset");
    assert!(!created.text.contains("preset-"));
    let body = json!({"url": "https://preset.example.com/other", "match_preset": false});
    assert_eq!(server.call("POST", "/api/v1/connectors", Some(body)).await.json()["metadata"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_connect_says_why_and_can_be_left() {
    let server = start();
    for (url, status, code) in [
        ("https://down.example.com/", 504, "server_unreachable"),
        ("https://broken.example.com/", 502, "server_error"),
        ("https://locked.example.com/", 502, "authorization_required"),
    ] {
        let id = server.create(url).await;
        let path = format!("/api/v1/connectors/{id}");
        for _ in 0..2 {
            let failed = server.call("POST", &format!("{path}/connect"), None).await;
            let problem = failed.json();
            assert_eq!((failed.status, problem["disconnect_code"].as_str()), (status, Some(code)));
            let read = server.call("GET", &path, None).await.json();
            assert_eq!(read["state"], "disconnected");
            assert_eq!(read["disconnect_reason"], problem["detail"]);
            assert_eq!(read["disconnect_code"], code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_takes_a_token_and_checks_what_it_is_given() {
    let server = start();
    let id = server.create("https://locked.example.com/").await;
    let path = format!("/api/v1/connectors/{id}/connect");
    let rejected = server.call("POST", &path, Some(json!({"access_token": "bad"}))).await;
    assert_eq!((rejected.status, rejected.json()["disconnect_code"].as_str()), (502, Some("credential_rejected")));
    for (body, status) in [
        (json!({"access_token": ""}), 422),
        (json!({"access_token": "a b"}), 422),
        (json!({"access_token": 7}), 422),
        (json!({"redirect_url": "https://evil.example/"}), 400),
        (json!({"redirect_url": "javascript:alert(1)"}), 400),
        (json!([1]), 422),
    ] {
        let answer = server.call("POST", &path, Some(body.clone())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    let body = json!({"access_token": "good", "redirect_url": "http://localhost:3000/done"});
    let connected = server.call("POST", &path, Some(body)).await;
    assert_eq!(connected.json()["state"], "connected");
    assert!(!connected.text.contains("good"));
    // The token is kept: the next connect needs none.
    assert_eq!(server.call("POST", &path, Some(Value::Null)).await.json()["state"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_was_never_connected_is_not_disconnected() {
    let server = start();
    let id = server.create("https://up.example.com/").await;
    let answer = server.call("POST", &format!("/api/v1/connectors/{id}/disconnect"), None).await;
    assert_eq!((answer.status, answer.json()["status"].as_u64()), (400, Some(400)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_does_not_exist_is_the_same_everywhere() {
    let server = start();
    let mut bodies = Vec::new();
    for id in ["019f0000-0000-7000-8000-000000000000", "x", "..%2f", "0"] {
        for (method, path) in [
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/connect"),
            ("POST", "/disconnect"),
            ("POST", "/mcp"),
            ("GET", "/mcp"),
            ("DELETE", "/mcp"),
        ] {
            let answer = server.call(method, &format!("/api/v1/connectors/{id}{path}"), None).await;
            assert_eq!(answer.status, 404, "{method} {id}{path}");
            bodies.push(answer.settled());
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}
