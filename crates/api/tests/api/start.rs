//! From the start page to the callback: whoever finishes an authorization is the one who began it.

use std::time::Duration;

use connectors_domain::{AccountName, Permission, Principal};
use serde_json::json;

use crate::support::{Answer, Stage, TestServer, user, with};

const COOKIE: &str = "__Host-connectors-browser";
const CALLBACK: &str = "/api/v1/connectors/oauth/callback";

/// An authorization that waits for its user.
struct Waiting {
    id: String,
    path: String,
    ticket: String,
    state: String,
}

impl Waiting {
    /// The `number`th of a server.
    async fn begun(server: &TestServer, name: &str, url: &str, number: u8) -> Self {
        let id = server.create_as(name, url).await;
        let answer = server.call_as(name, "POST", &format!("/api/v1/connectors/{id}/connect"), None).await.json();
        let visit = answer["auth_request"]["authorization_endpoint"].as_str().unwrap();
        let path = format!("/api/v1/connectors/{id}/oauth/start");
        let ticket = visit.strip_prefix(&format!("https://connectors.example.com{path}?ticket=")).unwrap().to_owned();
        Self { id, path, ticket, state: format!("state-{number}") }
    }

    async fn first(server: &TestServer) -> Self {
        Self::begun(server, "alice", "https://consent.example.com/mcp", 0).await
    }

    async fn page(&self, server: &TestServer, cookies: &str) -> Answer {
        server.visit(&format!("{}?ticket={}", self.path, self.ticket), cookies).await
    }

    /// The form, as the page sends it.
    async fn set_out(&self, server: &TestServer, cookies: &str) -> Answer {
        let request = server.request("POST", &self.path).header("origin", &server.url).header("cookie", cookies);
        server.send(form(request, &self.ticket)).await
    }

    async fn come_back(&self, server: &TestServer, cookies: &str) -> Answer {
        server.visit(&format!("{CALLBACK}?state={}&code=code", self.state), cookies).await
    }

    async fn state(&self, server: &TestServer, name: &str) -> String {
        let read = server.call_as(name, "GET", &format!("/api/v1/connectors/{}", self.id), None).await;
        read.json()["state"].as_str().unwrap().to_owned()
    }
}

fn form(request: reqwest::RequestBuilder, ticket: &str) -> reqwest::RequestBuilder {
    request.header("content-type", "application/x-www-form-urlencoded").body(format!("ticket={ticket}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_whose_connector_it_is_and_changes_nothing() {
    let server = Stage::closed().start();
    let waiting = Waiting::first(&server).await;
    for _ in 0..3 {
        let page = waiting.page(&server, "").await;
        assert_eq!(page.status, 200);
        for shown in ["consent.example.com", "https://consent.example.com/mcp", "alice@example.com", "as.example.com"] {
            assert!(page.text.contains(shown), "{shown}: {}", page.text);
        }
        assert!(page.text.contains("if you began this yourself") && page.text.contains(r#"method="post""#));
        assert!(!page.text.contains("state-0") && !page.text.contains("<script"));
        assert_eq!(page.header("cache-control"), "no-store");
        // With `no-referrer` the browser would not say where the form comes from.
        assert_eq!(page.header("referrer-policy"), "same-origin");
        assert_eq!(
            page.header("content-security-policy"),
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' https: http:"
        );
        assert_eq!(page.cookie(COOKIE), None);
        let path = format!("{}?ticket={}", waiting.path, waiting.ticket);
        assert_eq!(server.call("HEAD", &path, None).await.status, 200);
        let prefetch = server.request("GET", &path).header("sec-purpose", "prefetch");
        assert_eq!(server.send(prefetch).await.status, 200);
    }
    assert_eq!(waiting.set_out(&server, "").await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_on_the_page_is_text() {
    let principal = Principal { account: AccountName::new("<b>\"&'alice</b>"), ..user("alice") };
    let server = Stage::closed().give("markup", principal).start();
    let waiting = Waiting::begun(&server, "markup", "https://consent.example.com/", 0).await;
    let page = waiting.page(&server, "").await;
    assert!(page.text.contains("&#60;b&#62;&#34;&#38;&#39;alice&#60;/b&#62;"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_that_sets_out_finishes() {
    let stage = Stage::closed();
    let server = stage.start();
    let waiting = Waiting::first(&server).await;
    let on = waiting.set_out(&server, "").await;
    assert_eq!((on.status, on.header("location")), (303, "https://as.example.com/authorize?state=state-0"));
    assert_eq!((on.header("referrer-policy"), on.header("cache-control")), ("no-referrer", "no-store"));
    let cookie = on.cookie(COOKIE).unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "HttpOnly; SameSite=Lax; Secure; Path=/");
    assert_eq!(pair.len(), COOKIE.len() + 1 + 64);
    // The way back is kept open in the same browser.
    assert_eq!(waiting.set_out(&server, pair).await.status, 303);
    let back = waiting.come_back(&server, &format!("other=1; {pair}")).await;
    assert_eq!(back.status, 200, "{}", back.text);
    assert_eq!((stage.exchanged(), waiting.state(&server, "alice").await), (1, "connected".to_owned()));
    // It is over.
    assert_eq!(waiting.page(&server, pair).await.status, 400);
    assert_eq!(waiting.set_out(&server, pair).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_browser_neither_sets_out_nor_finishes() {
    let stage = Stage::closed();
    let server = stage.start();
    let waiting = Waiting::begun(&server, "alice", "https://consent.example.com/", 0).await;
    // Nobody has set out yet: a victim who was sent straight to the authorization server.
    assert_eq!(waiting.come_back(&server, "").await.status, 403);
    let own = waiting.set_out(&server, "").await.cookie_pair(COOKIE);
    let foreign = format!("{COOKIE}={}", "0".repeat(64));
    for cookies in ["", &foreign, &own.to_uppercase(), &format!("{own}; {foreign}"), &own[..own.len() - 1]] {
        let second = waiting.set_out(&server, cookies).await;
        assert_eq!((second.status, second.header("location")), (403, ""), "{cookies}");
        let back = waiting.come_back(&server, cookies).await;
        assert_eq!((back.status, back.header("location")), (403, ""), "{cookies}");
        assert!(back.text.contains("another browser") && back.header("content-type").starts_with("text/html"));
    }
    assert_eq!((stage.exchanged(), waiting.state(&server, "alice").await), (0, "auth_required".to_owned()));
    // None of it has taken anything away from the user.
    assert_eq!(waiting.come_back(&server, &own).await.status, 200);
    assert_eq!(stage.exchanged(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_to_the_redirect_url_of_somebody_else() {
    let stage = Stage::closed();
    let server = stage.start();
    let id = server.create_as("alice", "https://consent.example.com/").await;
    let body = json!({"redirect_url": "http://localhost:3000/done"});
    server.call_as("alice", "POST", &format!("/api/v1/connectors/{id}/connect"), Some(body)).await;
    for query in ["state=state-0&code=c", "state=state-0&error=access_denied"] {
        let back = server.visit(&format!("{CALLBACK}?{query}"), "").await;
        assert_eq!((back.status, back.header("location")), (403, ""));
    }
    assert_eq!(stage.exchanged(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_authorizations_go_on_in_one_browser() {
    let stage = Stage::closed();
    let server = stage.start();
    let one = Waiting::begun(&server, "alice", "https://consent.example.com/1", 0).await;
    let two = Waiting::begun(&server, "alice", "https://consent.example.com/2", 1).await;
    let pair = one.set_out(&server, "").await.cookie_pair(COOKIE);
    assert_eq!(two.set_out(&server, &pair).await.cookie_pair(COOKIE), pair);
    for waiting in [two, one] {
        assert_eq!(waiting.come_back(&server, &pair).await.status, 200);
        assert_eq!(waiting.state(&server, "alice").await, "connected");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_not_the_right_one_leads_nowhere() {
    let stage = Stage::closed();
    let server = stage.start();
    let waiting = Waiting::begun(&server, "alice", "https://consent.example.com/", 0).await;
    let other = Waiting::begun(&server, "bob", "https://consent.example.com/", 1).await;
    let nobody = "/api/v1/connectors/019f0000-0000-7000-8000-000000000000/oauth/start";
    let mut bodies = Vec::new();
    for (path, ticket) in [
        (waiting.path.as_str(), other.ticket.as_str()),
        (&waiting.path, ""),
        (&waiting.path, "0"),
        (&waiting.path, &waiting.ticket[1..]),
        (&waiting.path, &waiting.ticket.to_uppercase()),
        (&waiting.path, &format!("{0}&ticket={0}", waiting.ticket)),
        (nobody, &waiting.ticket),
        ("/api/v1/connectors/x/oauth/start", &waiting.ticket),
    ] {
        let page = server.visit(&format!("{path}?ticket={ticket}"), "").await;
        let request = server.request("POST", path).header("origin", &server.url);
        let sent = server.send(form(request, ticket)).await;
        assert_eq!((page.status, sent.status), (400, 400), "{path} {ticket}");
        assert_eq!(sent.cookie(COOKIE), None);
        bodies.extend([page.text, sent.text]);
    }
    assert_eq!(server.visit(&waiting.path, "").await.status, 400);
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    stage.clock.advance(Duration::from_mins(10));
    assert_eq!(waiting.page(&server, "").await.status, 400);
    assert_eq!(waiting.set_out(&server, "").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_page_itself_sends_its_form() {
    let server = Stage::closed().start();
    let waiting = Waiting::first(&server).await;
    let send = |headers: &[(&str, &str)]| {
        let mut request = server.request("POST", &waiting.path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        server.send(form(request, &waiting.ticket))
    };
    for headers in [
        &[] as &[(&str, &str)],
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        // Allowed to call the API, and still another site.
        &[("origin", "https://inspector.example.com")],
        &[("origin", "https://inspector.example.com"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
    ] {
        let refused = send(headers).await;
        assert_eq!((refused.status, refused.cookie(COOKIE)), (403, None), "{headers:?}");
    }
    assert_eq!(waiting.state(&server, "alice").await, "auth_required");
    // Nobody has set out by that: two browsers may still try, and the first wins.
    assert_eq!(send(&[("sec-fetch-site", "same-origin")]).await.status, 303);
    assert_eq!(send(&[("origin", "https://connectors.example.com")]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_signed_in_as_somebody_else_is_stopped() {
    let server = Stage::closed().give("bob-2", with("bob", [Permission::Read].into_iter().collect())).start();
    let waiting = Waiting::first(&server).await;
    let mut sessions = Vec::new();
    for token in ["alice", "bob-2"] {
        let signed_in = server.call("POST", "/auth/session", Some(json!({ "token": token }))).await;
        sessions.push(signed_in.cookie_pair("__Host-connectors-session"));
    }
    for answer in [waiting.page(&server, &sessions[1]).await, waiting.set_out(&server, &sessions[1]).await] {
        assert_eq!(answer.status, 403);
        assert!(answer.text.contains("bob@example.com") && !answer.text.contains("alice"), "{}", answer.text);
        assert_eq!(answer.cookie(COOKIE), None);
    }
    assert_eq!(waiting.page(&server, &sessions[0]).await.status, 200);
    assert_eq!(waiting.set_out(&server, &sessions[0]).await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_needs_consent_tells_of_the_page() {
    let server = Stage::closed().start();
    let waiting = Waiting::first(&server).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let path = format!("/api/v1/connectors/{}/mcp", waiting.id);
    let answer = server.call_as("alice", "POST", &path, Some(body)).await.json();
    let visit = format!("https://connectors.example.com{}?ticket={}", waiting.path, waiting.ticket);
    assert_eq!(answer["error"]["data"]["url"], visit);
    assert!(answer["error"]["message"].as_str().unwrap().ends_with(&visit));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_plain_http_on_loopback_the_cookie_is_one_that_browsers_keep() {
    let mut stage = Stage::closed();
    stage.config.public_url = "http://127.0.0.1:8333/".parse().unwrap();
    let server = stage.start();
    let id = server.create_as("alice", "https://consent.example.com/").await;
    let answer = server.call_as("alice", "POST", &format!("/api/v1/connectors/{id}/connect"), None).await.json();
    let visit = answer["auth_request"]["authorization_endpoint"].as_str().unwrap();
    let ticket = visit.split_once("?ticket=").unwrap().1;
    let request = server.request("POST", &format!("/api/v1/connectors/{id}/oauth/start"));
    let on = server.send(form(request.header("origin", &server.url), ticket)).await;
    let cookie = on.cookie("connectors-browser").unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Path=/"), "{cookie}");
    let back = server.visit(&format!("{CALLBACK}?state=state-0&code=c"), &on.cookie_pair("connectors-browser")).await;
    assert_eq!(back.status, 200);
}
