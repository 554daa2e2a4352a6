//! People sign in to the console: with a token, or at an identity provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    Audience, Authenticated, Login, LoginAnswer, LoginError, LoginRequest, MockSealer,
};
use connectors_domain::{Permission, Principal, Secret};
use serde_json::{Value, json};

use crate::support::{Answer, Stage, TestServer, user, with};

const SESSION: &str = "__Host-connectors-session";
const LOGIN: &str = "__Host-connectors-login";
const LIST: &str = "/api/v1/connectors";

/// An identity provider whose codes are the names of users.
struct Provider;

#[async_trait]
impl Login for Provider {
    async fn begin(&self, redirect_uri: &str) -> Result<LoginRequest, LoginError> {
        assert_eq!(redirect_uri, "https://connectors.example.com/auth/callback");
        Ok(LoginRequest {
            authorization_url: Secret::new("https://idp.example.com/authorize?state=s1"),
            state: Secret::new("s1"),
            nonce: Secret::new("n1"),
            verifier: Secret::new("v1"),
        })
    }

    async fn finish(&self, answer: LoginAnswer) -> Result<Principal, LoginError> {
        assert_eq!((answer.nonce.expose(), answer.verifier.expose()), ("n1", "v1"));
        assert_eq!(answer.redirect_uri, "https://connectors.example.com/auth/callback");
        match answer.code.expose() {
            "away" => Err(LoginError::Unavailable("it is away")),
            "bad" => Err(LoginError::Refused("it proves nothing")),
            _ if answer.iss.as_deref() == Some("https://evil.example") => Err(LoginError::Refused("another issuer")),
            name => Ok(user(name)),
        }
    }
}

fn openid() -> Stage {
    Stage { login: Some(Arc::new(Provider)), ..Stage::closed() }
}

/// A call as the console makes it.
async fn console(server: &TestServer, method: &str, path: &str, cookies: &str) -> Answer {
    server.send(server.request(method, path).header("cookie", cookies).header("x-connectors-console", "1")).await
}

async fn sign_in(server: &TestServer, token: &str) -> Answer {
    server.call("POST", "/auth/session", Some(json!({ "token": token }))).await
}

async fn begin(server: &TestServer, query: &str) -> String {
    let begun = server.call("GET", &format!("/auth/login{query}"), None).await;
    assert_eq!((begun.status, begun.header("location")), (303, "https://idp.example.com/authorize?state=s1"));
    assert_eq!((begun.header("referrer-policy"), begun.header("cache-control")), ("no-referrer", "no-store"));
    let cookie = begun.cookie(LOGIN).unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=600"), "{cookie}");
    begun.cookie_pair(LOGIN)
}

/// What the session of `cookies` says of itself.
async fn told(server: &TestServer, cookies: &str) -> Value {
    let answer = console(server, "GET", "/auth/session", cookies).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_with_a_token_and_out_again() {
    let server = Stage::closed().start();
    assert_eq!(told(&server, "").await, json!({"authentication": "token"}));
    let answer = sign_in(&server, "alice").await;
    let signed_in = json!({
        "authentication": "token",
        "account": "alice@example.com",
        "scopes": ["connectors:read", "connectors:write", "connectors:proxy"],
    });
    assert_eq!((answer.status, answer.json()), (200, signed_in.clone()));
    let cookie = answer.cookie(SESSION).unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=28800"), "{cookie}");
    assert!(!cookie.contains("alice"));
    let pair = answer.cookie_pair(SESSION);
    assert_eq!(told(&server, &pair).await, signed_in);
    assert_eq!(console(&server, "GET", LIST, &pair).await.status, 200);
    let out = console(&server, "POST", "/auth/logout", &pair).await;
    assert_eq!(out.status, 204);
    assert!(out.cookie(SESSION).unwrap().contains("Max-Age=0"), "{:?}", out.cookie(SESSION));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_signs_nobody_in() {
    let server = Stage::closed().start();
    let mut answers = Vec::new();
    for token in ["", "unknown", "alice ", "al ice", "\"alice\"", "Bearer alice", &"a".repeat(16 * 1024 + 1)] {
        let answer = sign_in(&server, token).await;
        assert_eq!((answer.status, answer.cookie(SESSION)), (401, None), "{token}");
        assert!(answer.header("www-authenticate").starts_with("Bearer resource_metadata="));
        answers.push(answer.bytes());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(sign_in(&server, "away").await.status, 503);
    for (body, status) in [(json!({}), 422), (json!({"token": 7}), 422), (json!([]), 422)] {
        assert_eq!(server.call("POST", "/auth/session", Some(body)).await.status, status);
    }
    let form = server.request("POST", "/auth/session").header("content-type", "text/plain");
    assert_eq!(server.send(form.body(r#"{"token":"alice"}"#)).await.status, 415);
    let foreign = server.request("POST", "/auth/session").header("origin", "https://evil.example");
    assert_eq!(server.send(foreign.json(&json!({"token": "alice"}))).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_no_browser_could_keep_is_not_put_into_a_cookie() {
    let mut sealer = MockSealer::new();
    sealer.expect_seal().returning(|_, text| Ok("a".repeat(4096 + text.len())));
    let server = Stage { sealer: Arc::new(sealer), ..Stage::closed() }.start();
    let answer = sign_in(&server, "alice").await;
    assert_eq!((answer.status, answer.cookie(SESSION)), (422, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_alone_carries_no_call() {
    let server = Stage::closed().start();
    let pair = sign_in(&server, "alice").await.cookie_pair(SESSION);
    let call = |header: Option<&'static str>, cookies: String| {
        let mut request = server.request("GET", LIST).header("cookie", cookies);
        if let Some(value) = header {
            request = request.header("x-connectors-console", value);
        }
        server.send(request)
    };
    assert_eq!(call(Some("1"), pair.clone()).await.status, 200);
    for header in [None, Some(""), Some("0"), Some("true"), Some("1, 1")] {
        assert_eq!(call(header, pair.clone()).await.status, 401, "{header:?}");
    }
    let value = pair.split_once('=').unwrap().1;
    for cookies in [
        format!("{pair}; {pair}"),
        format!("connectors-session={value}"),
        format!("{SESSION}={value}x"),
        format!("{SESSION}={}", "a".repeat(8 * 1024 + 1)),
        format!("{SESSION}=alice"),
        format!("{SESSION}="),
    ] {
        assert_eq!(call(Some("1"), cookies.clone()).await.status, 401, "{cookies}");
    }
    // A token that is there is asked, and no other credential after it.
    let both = |token: &str| {
        server.request("GET", LIST).header("cookie", &pair).header("x-connectors-console", "1").bearer_auth(token)
    };
    assert_eq!(server.send(both("unknown")).await.status, 401);
    assert_eq!(server.send(both("bob")).await.status, 200);
    assert_eq!(told(&server, "").await, json!({"authentication": "token"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_origin_is_refused_before_it_can_send_the_header() {
    let server = Stage::closed().start();
    let preflight = |origin: &str| {
        let request = server.request("OPTIONS", LIST).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        server.send(request.header("access-control-request-headers", "x-connectors-console"))
    };
    let refused = preflight("https://evil.example").await;
    assert!(refused.status >= 400 && refused.header("access-control-allow-origin").is_empty());
    // Those that are listed may call, but never with cookies.
    let listed = preflight("https://inspector.example.com").await;
    assert_eq!((listed.status, listed.header("access-control-allow-credentials")), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_known_to_every_replica_and_to_no_other_installation() {
    let stage = Stage::closed();
    let pair = sign_in(&stage.start(), "alice").await.cookie_pair(SESSION);
    assert_eq!(console(&stage.start(), "GET", LIST, &pair).await.status, 200);
    // Other keys.
    assert_eq!(console(&Stage::closed().start(), "GET", LIST, &pair).await.status, 401);
    // The same keys under another public URL.
    let mut other = stage.clone();
    other.config.public_url = "https://other.example.com/".parse().unwrap();
    assert_eq!(console(&other.start(), "GET", LIST, &pair).await.status, 401);
    // People sign in in another way now.
    let changed = Stage { login: Some(Arc::new(Provider)), ..stage };
    assert_eq!(console(&changed.start(), "GET", LIST, &pair).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token_and_with_its_time() {
    let stage = Stage::closed();
    let pair = sign_in(&stage.start(), "alice").await.cookie_pair(SESSION);
    let over = sign_in(&stage.start(), "bob").await.cookie_pair(SESSION);
    let soon = Authenticated {
        principal: user("carol"),
        audience: Audience::Service,
        until: Some(stage.now() + jiff::SignedDuration::from_hours(1)),
    };
    stage.tokens().put("carol", soon);
    let server = stage.start();
    let expiring = sign_in(&server, "carol").await.cookie_pair(SESSION);
    assert_eq!(console(&server, "GET", LIST, &expiring).await.status, 200);
    // Taken back by the operator, of which a replica that has not seen the token lately knows at once.
    stage.tokens().take_back("alice");
    assert_eq!(console(&stage.start(), "GET", LIST, &pair).await.status, 401);
    assert_eq!(told(&stage.start(), &pair).await, json!({"authentication": "token"}));
    stage.clock.advance(Duration::from_hours(1));
    assert_eq!(console(&server, "GET", LIST, &expiring).await.status, 401);
    assert_eq!(console(&server, "GET", LIST, &over).await.status, 200);
    stage.clock.advance(Duration::from_hours(7));
    assert_eq!(console(&server, "GET", LIST, &over).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_do_what_its_token_may() {
    let server = Stage::closed().give("reader", with("alice", [Permission::Read].into_iter().collect())).start();
    let pair = sign_in(&server, "reader").await.cookie_pair(SESSION);
    assert_eq!(console(&server, "GET", LIST, &pair).await.status, 200);
    assert_eq!(console(&server, "POST", LIST, &pair).await.status, 403);
    assert_eq!(told(&server, &pair).await["scopes"], json!(["connectors:read"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_at_the_identity_provider() {
    let server = openid().start();
    assert_eq!(told(&server, "").await, json!({"authentication": "openid"}));
    let login = begin(&server, "?return_to=/docs%3Fa%3Db").await;
    let back = server.visit("/auth/callback?state=s1&code=alice&iss=https://idp.example.com", &login).await;
    assert_eq!(
        (back.status, back.header("location")),
        (303, "https://connectors.example.com/docs?a=b"),
        "{}",
        back.text
    );
    assert!(back.cookie(LOGIN).unwrap().contains("Max-Age=0"));
    let pair = back.cookie_pair(SESSION);
    let session = told(&server, &pair).await;
    assert_eq!((&session["authentication"], &session["account"]), (&json!("openid"), &json!("alice@example.com")));
    assert_eq!(console(&server, "GET", LIST, &pair).await.status, 200);
    assert_eq!(server.visit(LIST, &pair).await.status, 401);
    // Once only: the cookie is gone.
    assert_eq!(server.visit("/auth/callback?state=s1&code=alice", "").await.status, 400);
    // Whoever has a browser here has no token to sign in with.
    assert_eq!(sign_in(&server, "alice").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_not_the_one_that_has_begun_logs_nobody_in() {
    let stage = openid();
    let server = stage.start();
    let login = begin(&server, "").await;
    let session = {
        let back = server.visit("/auth/callback?state=s1&code=alice", &login).await;
        back.cookie_pair(SESSION).replace(SESSION, LOGIN)
    };
    for (query, cookies, status) in [
        ("state=s2&code=alice", login.clone(), 400),
        ("state=s1x&code=alice", login.clone(), 400),
        ("state=&code=alice", login.clone(), 400),
        ("code=alice", login.clone(), 400),
        ("", login.clone(), 400),
        ("state=s1&state=s1&code=alice", login.clone(), 400),
        ("state=s1&code=alice&code=bob", login.clone(), 400),
        ("state=s1&code=alice", String::new(), 400),
        ("state=s1&code=alice", format!("{login}; {login}"), 400),
        ("state=s1&code=alice", format!("{login}x"), 400),
        ("state=s1&code=alice", session, 400),
        ("state=s1", login.clone(), 403),
        ("state=s1&error=access_denied", login.clone(), 403),
        ("state=s1&code=alice&error=canary", login.clone(), 403),
        ("state=s1&code=bad", login.clone(), 403),
        ("state=s1&code=alice&iss=https://evil.example", login.clone(), 403),
        ("state=s1&code=away", login.clone(), 502),
    ] {
        let back = server.visit(&format!("/auth/callback?{query}"), &cookies).await;
        assert_eq!((back.status, back.cookie(SESSION), back.header("location")), (status, None, ""), "{query}");
        assert!(back.header("content-type").starts_with("text/html") && !back.text.contains("canary"));
        assert!(back.cookie(LOGIN).unwrap().contains("Max-Age=0"), "{query}");
    }
    // Of another installation, and too late.
    let elsewhere = openid().start();
    assert_eq!(elsewhere.visit("/auth/callback?state=s1&code=alice", &login).await.status, 400);
    stage.clock.advance(Duration::from_mins(10));
    assert_eq!(server.visit("/auth/callback?state=s1&code=alice", &login).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_of_the_callback_spends_nothing() {
    let server = openid().start();
    let login = begin(&server, "").await;
    let look = server.request("GET", "/auth/callback?state=s1&code=alice").header("cookie", &login);
    let prefetched = server.send(look.header("sec-purpose", "prefetch;prerender")).await;
    assert_eq!((prefetched.status, prefetched.cookie(LOGIN), prefetched.cookie(SESSION)), (204, None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_at_this_service_whatever_a_link_says() {
    let server = openid().start();
    for (given, end) in [
        ("/", "/"),
        ("/docs", "/docs"),
        ("/a?b=%2Fc", "/a?b=%2Fc"),
        ("", "/"),
        ("docs", "/"),
        ("//evil.example", "/"),
        ("///evil.example", "/"),
        ("/\\evil.example", "/"),
        ("\\/evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("/\n/evil.example", "/"),
        ("https://evil.example", "/"),
        ("https:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("@evil.example", "/"),
        (".evil.example", "/"),
        (" //evil.example", "/"),
        ("/x\r\nlocation: https://evil.example", "/"),
        ("/\u{2044}evil.example", "/"),
        ("/x//evil.example", "/"),
    ] {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let login = begin(&server, &format!("?{}", query.append_pair("return_to", given).finish())).await;
        let back = server.visit("/auth/callback?state=s1&code=alice", &login).await;
        assert_eq!(back.header("location"), format!("https://connectors.example.com{end}"), "{given:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_page_leads_by_way_of_the_login() {
    let server = openid().start();
    let id = server.create_as("alice", "https://consent.example.com/").await;
    let answer = server.call_as("alice", "POST", &format!("{LIST}/{id}/connect"), None).await.json();
    let visit = answer["auth_request"]["authorization_endpoint"].as_str().unwrap();
    let start = visit.strip_prefix("https://connectors.example.com").unwrap();
    let led = server.visit(start, "").await;
    assert_eq!(led.status, 303);
    let login = led.header("location").strip_prefix("https://connectors.example.com/auth/login").unwrap();
    for (name, status) in [("alice", 200), ("bob", 403)] {
        let cookie = begin(&server, login).await;
        let back = server.visit(&format!("/auth/callback?state=s1&code={name}"), &cookie).await;
        assert_eq!(back.header("location"), visit);
        assert_eq!(server.visit(start, &back.cookie_pair(SESSION)).await.status, status);
    }
    let form = server.request("POST", start.split('?').next().unwrap()).header("origin", &server.url);
    let form = form.header("content-type", "application/x-www-form-urlencoded");
    let sent = server.send(form.body(start.split_once('?').unwrap().1.to_owned())).await;
    assert_eq!((sent.status, sent.header("location")), (303, led.header("location")));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_need_sign_in_nobody_can() {
    let server = Stage::open().start();
    assert_eq!(told(&server, "").await, json!({"authentication": "none"}));
    assert_eq!(sign_in(&server, "alice").await.status, 404);
    for path in ["/auth/login", "/auth/callback?state=s1&code=c"] {
        assert_eq!(server.call("GET", path, None).await.status, 404, "{path}");
        assert_eq!(Stage::closed().start().call("GET", path, None).await.status, 404, "{path}");
    }
}
