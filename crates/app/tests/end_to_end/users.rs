//! Many users: who is let in, and that none of them gets at what is another's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use connectors_app::settings::{Settings, SettingsFile};
use connectors_app::{SystemClock, SystemEntropy};
use connectors_application::{ApiTokenService, NewApiToken};
use connectors_domain::{AccountName, OwnerId, Permissions, Principal};
use connectors_storage::{Store, StoreSettings};
use connectors_testkit::authorization_server::{AuthorizationServer, Endpoint, parameter, visit};
use connectors_testkit::http::client;
use connectors_testkit::identity_provider::{Behaviour, IdentityProvider, Key, KeyKind};
use connectors_testkit::mcp_server::{Auth, Eras, McpServer, Rule};
use futures_util::future::join_all;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::postgres::Schema;
use crate::step_up::{demand, server_of_scopes};
use crate::support::{Service, answer, free_address, keys, protected, run};

const CONNECTORS: &str = "/api/v1/connectors";
const TOKENS: (&str, &str) = ("AUTH__MODE", "tokens");
/// What is on this machine may be reached: with users to tell apart, nothing is by itself.
const HERE: (&str, &str) = ("EGRESS__ALLOW", r#"["127.0.0.1"]"#);

fn with_tokens(directory: &Path) -> Service {
    Service::start_with(directory, &[TOKENS, HERE])
}

/// A token that the command line makes, while the service runs.
fn token(directory: &Path, user: &str) -> String {
    token_with(directory, &["--user", user], &[TOKENS])
}

fn token_with(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let made = run(directory, &[&["token", "new"], arguments].concat(), environment);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim_end().to_owned()
}

impl Service {
    async fn call_as(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        answer(self.request(method, path, body).bearer_auth(token)).await
    }

    async fn create_as(&self, token: &str, url: &str) -> String {
        let (status, created) = self.call_as(token, "POST", CONNECTORS, Some(json!({ "url": url }))).await;
        assert_eq!(status, 201, "{created}");
        created["id"].as_str().unwrap().to_owned()
    }

    async fn connected_as(&self, token: &str, server: &McpServer) -> String {
        let id = self.create_as(token, &server.url()).await;
        let (status, connector) = self.connect_as(token, &id, json!({})).await;
        assert_eq!((status, &connector["state"]), (200, &json!("connected")), "{connector}");
        id
    }

    async fn connect_as(&self, token: &str, id: &str, body: Value) -> (u16, Value) {
        self.call_as(token, "POST", &format!("{CONNECTORS}/{id}/connect"), Some(body)).await
    }

    async fn state_as(&self, token: &str, id: &str) -> Value {
        self.call_as(token, "GET", &format!("{CONNECTORS}/{id}"), None).await.1["state"].clone()
    }

    async fn count_as(&self, token: &str, id: &str) -> (u16, Value) {
        answer(self.tool(id, "count", &json!({})).bearer_auth(token)).await
    }

    /// Where the user must go after a connect.
    async fn start_url(&self, token: &str, id: &str, body: Value) -> String {
        let (status, connector) = self.connect_as(token, id, body).await;
        assert_eq!(status, 200, "{connector}");
        let url = connector["auth_request"]["authorization_endpoint"].as_str().unwrap();
        assert!(url.starts_with(&format!("{}{CONNECTORS}/{id}/oauth/start?ticket=", self.url)), "{url}");
        url.to_owned()
    }

    /// What a call is refused with: the status, the challenge, and the body without what tells one call from another.
    async fn refusal(&self, request: reqwest::RequestBuilder) -> (u16, String, Value) {
        let response = request.send().await.unwrap();
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let mut body: Value = response.json().await.unwrap();
        for name in ["request_id", "instance"] {
            body.as_object_mut().unwrap().remove(name).unwrap();
        }
        (status, challenge.unwrap_or_default(), body)
    }
}

/// A browser: it keeps cookies, and follows nothing by itself.
struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

/// What a browser was answered.
struct Page {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Page {
    fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{}", self.text);
        self.headers["location"].to_str().unwrap()
    }
}

impl Browser {
    fn new() -> Self {
        Self { client: client(), cookies: BTreeMap::new() }
    }

    async fn get(&mut self, url: &str) -> Page {
        self.send(self.client.get(url)).await
    }

    /// Sends the form of a start page, as if it stood on a page of `origin`.
    async fn set_out_from(&mut self, origin: Option<&str>, start_url: &str) -> Page {
        let (action, ticket) = start_url.split_once('?').unwrap();
        let form = self.client.post(action).header("content-type", "application/x-www-form-urlencoded");
        let form = form.body(ticket.to_owned());
        self.send(origin.into_iter().fold(form, |form, origin| form.header("origin", origin))).await
    }

    /// Sees the start page and goes on from it; tells where to.
    async fn set_out(&mut self, start_url: &str) -> String {
        let page = self.get(start_url).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let origin = start_url.split("/api/").next().unwrap();
        self.set_out_from(Some(origin), start_url).await.location().to_owned()
    }

    /// From the start page to the connector.
    async fn consent(&mut self, start_url: &str) -> Page {
        let callback = visit(&self.set_out(start_url).await).await.unwrap();
        self.get(&callback).await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ").into_bytes()) };
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for set in headers.get_all("set-cookie") {
            let (name, value) = set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Page { status, headers, text: response.text().await.unwrap() }
    }
}

/// The tokens of the service in `directory`, beside it.
async fn tokens(directory: &Path) -> ApiTokenService {
    let url = format!("sqlite:{}", directory.join("connectors.db").display());
    let environment = [("DATABASE__URL".into(), url.into())];
    let settings = Settings::load(&SettingsFile::IfPresent(directory.join("none.toml")), environment).unwrap();
    let database = settings.database;
    let settings = StoreSettings {
        url: database.url,
        keys: database.keys,
        migrations: database.migrations,
        limits: database.limits,
    };
    let store = Arc::new(Store::open_beside(settings).await.unwrap());
    ApiTokenService::new(store, Arc::new(SystemClock), Arc::new(SystemEntropy))
}

fn alice(scopes: &[&str], lifetime: Option<Duration>) -> NewApiToken {
    let principal = Principal {
        owner: OwnerId::derive("urn:test", "alice"),
        account: AccountName::new("alice"),
        permissions: Permissions::from_scopes(scopes.iter().copied()),
    };
    NewApiToken { label: "test".to_owned(), principal, lifetime }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_allows_what_its_scopes_say_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let service = with_tokens(directory.path());
    let tokens = tokens(directory.path()).await;
    let missing = format!("{CONNECTORS}/00000000-0000-0000-0000-000000000000");
    let calls = [
        ("GET", CONNECTORS.to_owned(), "connectors:read", 200),
        ("GET", format!("{CONNECTORS}/presets"), "connectors:read", 200),
        ("GET", missing.clone(), "connectors:read", 404),
        ("POST", CONNECTORS.to_owned(), "connectors:write", 422),
        ("DELETE", missing.clone(), "connectors:write", 404),
        ("POST", format!("{missing}/connect"), "connectors:write", 404),
        ("POST", format!("{missing}/disconnect"), "connectors:write", 404),
        ("POST", format!("{missing}/mcp"), "connectors:proxy", 404),
        ("GET", format!("{missing}/mcp"), "connectors:proxy", 404),
        ("DELETE", format!("{missing}/mcp"), "connectors:proxy", 404),
        ("GET", "/api/v1/admin/connectors".to_owned(), "connectors:admin", 200),
        ("DELETE", "/api/v1/admin/connectors/00000000-0000-0000-0000-000000000000".to_owned(), "connectors:admin", 404),
    ];
    for held in ["connectors:read", "connectors:write", "connectors:proxy", "connectors:admin"] {
        let (bearer, _) = tokens.create(alice(&[held], None)).await.unwrap();
        for (method, path, scope, status) in &calls {
            let call = || service.request(method, path, Some(json!({})));
            let (refused, challenge, _) = service.refusal(call()).await;
            assert!(refused == 401 && challenge.contains(&format!("scope=\"{scope}\"")), "{method} {path} {challenge}");
            assert!(!challenge.contains("error="), "{challenge}");
            let response = call().bearer_auth(bearer.expose()).send().await.unwrap();
            if held == *scope {
                assert_eq!(response.status(), *status, "{method} {path}");
            } else {
                let challenge = response.headers()["www-authenticate"].to_str().unwrap();
                let named = format!("scope=\"{scope}\", error=\"insufficient_scope\"");
                assert!(response.status() == 403 && challenge.contains(&named), "{method} {path} {challenge}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_time_and_ten_seconds_after_it_was_taken_back() {
    let directory = tempfile::tempdir().unwrap();
    let service = with_tokens(directory.path());
    let tokens = tokens(directory.path()).await;
    let scopes = ["connectors:read"];
    let status = |bearer: &str| {
        let request = service.request("GET", CONNECTORS, None).bearer_auth(bearer);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    let (short, _) = tokens.create(alice(&scopes, Some(Duration::from_millis(1500)))).await.unwrap();
    let (used, revoked) = tokens.create(alice(&scopes, None)).await.unwrap();
    let (unused, unseen) = tokens.create(alice(&scopes, None)).await.unwrap();
    assert_eq!((status(short.expose()).await, status(used.expose()).await), (200, 200));
    assert!(tokens.revoke(revoked.id).await.unwrap() && tokens.revoke(unseen.id).await.unwrap());
    assert!(!tokens.revoke(revoked.id).await.unwrap());
    let begun = Instant::now();
    assert_eq!(status(unused.expose()).await, 401, "nobody has seen it before");
    tokio::time::sleep(Duration::from_millis(1600)).await;
    assert_eq!(status(short.expose()).await, 401, "although it was good a moment ago");
    while status(used.expose()).await != 401 {
        assert!(begun.elapsed() < Duration::from_secs(11), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A service that takes the tokens of a provider.
async fn with_issuer(directory: &Path) -> (IdentityProvider, Service) {
    let provider = IdentityProvider::builder().start().await.unwrap();
    let issuers = json!([provider.issuer()]).to_string();
    let service = Service::start_with(
        directory,
        &[("AUTH__MODE", "oidc"), ("AUTH__ISSUERS", &issuers), ("AUTH__ADMIN_SCOPE", "true"), HERE],
    );
    (provider, service)
}

/// The token of `subject` for `audience`.
fn issued(provider: &IdentityProvider, subject: &str, audience: &str) -> String {
    let mut claims = provider.claims(audience);
    claims["sub"] = json!(subject);
    provider.issue(&claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_issuer_is_good_for_the_audience_that_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let (provider, service) = with_issuer(directory.path()).await;
    let servers = [McpServer::builder().start().await.unwrap(), McpServer::builder().start().await.unwrap()];
    let whole = issued(&provider, "alice", &service.url);
    let one = service.connected_as(&whole, &servers[0]).await;
    let other = service.connected_as(&issued(&provider, "alice", &format!("{}/", service.url)), &servers[1]).await;
    assert_eq!(service.count_as(&whole, &one).await.0, 200);

    // What a client is told that knows the URL alone leads to a token for just that.
    let (status, challenge, _) = service.refusal(service.tool(&one, "count", &json!({}))).await;
    let metadata = challenge.split('"').nth(1).unwrap();
    assert_eq!(status, 401);
    let metadata: Value = serde_json::from_str(&service.get(metadata).await.2).unwrap();
    assert_eq!(metadata["resource"], service.mcp(&one));
    assert_eq!(metadata["authorization_servers"], json!([provider.issuer()]));
    let narrow = issued(&provider, "alice", metadata["resource"].as_str().unwrap());
    for _ in 0..2 {
        assert_eq!(service.count_as(&narrow, &one).await.0, 200);
        assert_eq!(service.count_as(&narrow, &other).await.0, 401);
        assert_eq!(service.count_as(&narrow, &one.to_uppercase()).await.0, 200, "the same one");
        for path in [CONNECTORS.to_owned(), format!("{CONNECTORS}/{one}"), "/api/v1/admin/connectors".to_owned()] {
            assert_eq!(service.call_as(&narrow, "GET", &path, None).await.0, 401, "{path}");
        }
    }
    assert_eq!(service.call_as(&narrow, "GET", "/auth/session", None).await.1["account"], Value::Null);
    let signs_in = Some(json!({ "token": narrow }));
    assert_eq!(service.call("POST", "/auth/session", signs_in).await.0, 401);

    for audience in [format!("{}.evil.example", service.url), format!("{}/api", service.url), "client".to_owned()] {
        let token = issued(&provider, "alice", &audience);
        assert_eq!(service.call_as(&token, "GET", CONNECTORS, None).await.0, 401, "{audience}");
        assert_eq!(service.count_as(&token, &one).await.0, 401, "{audience}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forgeries_are_refused_and_nobody_is_told_what_is_wrong_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let (provider, service) = with_issuer(directory.path()).await;
    let claims = provider.claims(&service.url);
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        provider.issue(&claims)
    };
    let good = provider.issue(&claims);
    let key = provider.key();
    let header = |alg: &str| json!({ "alg": alg, "kid": key.id(), "typ": "at+jwt" });
    let (begin, signature) = good.rsplit_once('.').unwrap();
    let now = claims["iat"].as_i64().unwrap();
    let forgeries = [
        "x".to_owned(),
        "connectors_0000000000000000000000000000000000000000000000000000000000000000".to_owned(),
        format!("{begin}."),
        format!("{begin}x.{signature}"),
        key.token(&header("none"), &claims),
        key.token(&header("HS256"), &claims),
        Key::of_somebody_else(key.kind(), key.id()).token(&header("ES256"), &claims),
        Key::new(KeyKind::P256, "unknown").token(&json!({ "alg": "ES256", "kid": "unknown" }), &claims),
        key.token(&json!({ "alg": "ES256", "kid": key.id(), "typ": "logout+jwt" }), &claims),
        with("iss", json!("http://127.0.0.1:1")),
        with("iss", json!(format!("{}/", provider.issuer()))),
        with("aud", json!("https://other.example")),
        with("aud", json!([])),
        with("exp", json!(now - 60)),
        with("exp", Value::Null),
        with("nbf", json!(now + 60)),
        with("sub", json!("")),
        with("nonce", json!("n")),
    ];
    let call = |token: &str| service.request("GET", CONNECTORS, None).bearer_auth(token);
    assert_eq!(call(&good).send().await.unwrap().status(), 200);
    let first = service.refusal(call("~")).await;
    assert_eq!((first.0, first.2["type"].as_str()), (401, Some("urn:connectors:problem:unauthorized")));
    for forgery in &forgeries {
        assert_eq!(service.refusal(call(forgery)).await, first, "{forgery}");
    }
    let twice = call(&good).header("authorization", format!("Bearer {good}"));
    assert_eq!(service.refusal(twice).await, first);
    let in_query = service.request("GET", &format!("{CONNECTORS}?access_token={good}"), None);
    assert_eq!(service.refusal(in_query).await.0, 401);
    // What it has not seen before, but whose key it knows, needs no issuer.
    provider.script(Rule::new(Behaviour::status(503)));
    for subject in ["carol", "dave"] {
        let token = issued(&provider, subject, &service.url);
        assert_eq!(call(&token).send().await.unwrap().status(), 200);
    }
    let asked = provider.requests().len();
    for number in 0..50 {
        let id = format!("unknown-{number}");
        let token = Key::new(KeyKind::P256, &id).token(&json!({ "alg": "ES256", "kid": id }), &claims);
        assert_eq!(service.refusal(call(&token)).await, first);
    }
    assert!(provider.requests().len() <= asked + 2, "strangers do not make it ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_an_issuer_see_nothing_of_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let (provider, service) = with_issuer(directory.path()).await;
    let server = McpServer::builder().start().await.unwrap();
    let [alice, bob] = ["alice", "bob"].map(|user| issued(&provider, user, &service.url));
    let id = service.connected_as(&alice, &server).await;
    assert_eq!(service.count_as(&alice, &id).await.0, 200, "it is in memory now");
    server.clear_requests();
    let bobs = |method: &str, id: &str, rest: &str| {
        service.refusal(service.request(method, &format!("{CONNECTORS}/{id}{rest}"), Some(json!({}))).bearer_auth(&bob))
    };
    for (method, rest) in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/connect"),
        ("POST", "/disconnect"),
        ("POST", "/mcp"),
        ("GET", "/mcp"),
        ("DELETE", "/mcp"),
    ] {
        let foreign = bobs(method, &id, rest).await;
        assert_eq!(foreign.0, 404, "{method} {rest}");
        assert_eq!(foreign, bobs(method, "00000000-0000-0000-0000-000000000000", rest).await, "{method} {rest}");
    }
    let (_, list) = service.call_as(&bob, "GET", CONNECTORS, None).await;
    assert_eq!((&list["items"], &list["total_count"]), (&json!([]), &json!(0)));
    let bytes: Vec<_> =
        (0..32).step_by(2).map(|at| u8::from_str_radix(&id.replace('-', "")[at..at + 2], 16).unwrap()).collect();
    let page = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let (_, list) = service.call_as(&bob, "GET", &format!("{CONNECTORS}?page_token={page}"), None).await;
    assert_eq!(list["items"], json!([]));
    for path in ["", &format!("/{id}")] {
        assert_eq!(service.call_as(&bob, "GET", &format!("/api/v1/admin/connectors{path}"), None).await.0, 403);
    }
    // The same server may be his as well.
    let own = service.connected_as(&bob, &server).await;
    assert_ne!(own, id);
    assert_eq!(service.call_as(&bob, "DELETE", &format!("{CONNECTORS}/{own}"), None).await.0, 204);
    assert_eq!(service.count_as(&alice, &id).await.0, 200);

    // Who administers sees and ends it, and cannot use it.
    let mut claims = provider.claims(&service.url);
    claims["scope"] = json!("connectors:admin");
    claims["sub"] = json!("carol");
    let carol = provider.issue(&claims);
    let admin = format!("/api/v1/admin/connectors/{id}");
    assert_eq!(service.call_as(&carol, "GET", &admin, None).await.1["url"], server.url());
    assert_eq!(service.count_as(&carol, &id).await.0, 403);
    assert_eq!(service.call_as(&carol, "DELETE", &admin, None).await.0, 204);
    assert_eq!(service.count_as(&alice, &id).await.0, 404);
}

fn code_requests(authorization: &AuthorizationServer) -> usize {
    authorization.requests_to(Endpoint::Token).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_s_consent_ends_up_in_another_user_s_connector() {
    for redirect_url in [None, Some("http://localhost:3000/done")] {
        let directory = tempfile::tempdir().unwrap();
        let service = with_tokens(directory.path());
        let (authorization, server) = protected().await;
        let token = token(directory.path(), "alice");
        let id = service.create_as(&token, &server.url()).await;
        let start = service.start_url(&token, &id, json!({ "redirect_url": redirect_url })).await;
        let (mut alice, mut bob) = (Browser::new(), Browser::new());
        let page = alice.get(&start).await;
        assert!(page.text.contains("<strong>alice</strong>") && page.text.contains(&server.url()), "{}", page.text);
        assert!(!page.text.contains("<script") && page.headers["cache-control"] == "no-store");
        for origin in [None, Some("null"), Some("http://evil.example"), Some("http://127.0.0.1:1")] {
            assert_eq!(bob.set_out_from(origin, &start).await.status, 403, "{origin:?}");
        }
        assert_eq!(bob.get(&format!("{start}0")).await.status, 400);

        // Alice sets out, and has Bob go on from where she is.
        let consent = alice.set_out(&start).await;
        assert!(consent.starts_with(authorization.url()), "{consent}");
        let callback = visit(&consent).await.unwrap();
        for cookie in [
            None,
            Some("0".repeat(64)),
            Some(String::new()),
            alice.cookies["connectors-browser"].get(1..).map(str::to_owned),
        ] {
            bob.cookies = cookie.into_iter().map(|value| ("connectors-browser".to_owned(), value)).collect();
            let page = bob.get(&callback).await;
            assert_eq!((page.status, page.headers.get("location"), page.headers.get("set-cookie")), (403, None, None));
            let page = bob.get(&format!("{callback}&error=access_denied")).await;
            assert_eq!(page.status, 403);
        }
        // Another host may have left a cookie in his browser whose name looks like ours.
        for name in ["\u{2000}connectors-browser", "\u{a0}connectors-browser", "connectors-browser\u{3000}"] {
            bob.cookies = BTreeMap::from([(name.to_owned(), alice.cookies["connectors-browser"].clone())]);
            assert_eq!(bob.get(&callback).await.status, 403, "{name:?}");
        }
        bob.cookies.clear();
        assert_eq!(service.state_as(&token, &id).await, "auth_required");
        assert_eq!(code_requests(&authorization), 0);
        let origin = service.url.clone();
        assert_eq!(bob.set_out_from(Some(&origin), &start).await.status, 403, "she was the first");

        // Whoever began it finishes it.
        let page = alice.get(&callback).await;
        match redirect_url {
            None => assert_eq!(page.status, 200, "{}", page.text),
            Some(url) => assert_eq!(page.location(), url),
        }
        assert_eq!(service.state_as(&token, &id).await, "connected");
        assert_eq!((service.count_as(&token, &id).await.0, code_requests(&authorization)), (200, 1));
        assert_eq!(alice.get(&callback).await.status, 400);
        assert_eq!(alice.get(&start).await.status, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_the_browser_disconnects_connects_anew_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let service = with_tokens(directory.path());
    let (_authorization, server) = protected().await;
    let token = token(directory.path(), "alice");
    let id = service.create_as(&token, &server.url()).await;
    let first = service.start_url(&token, &id, json!({})).await;
    assert_eq!(service.start_url(&token, &id, json!({})).await, first, "nobody has set out yet");
    let old = visit(&Browser::new().set_out(&first).await).await.unwrap();
    assert_eq!(
        service.start_url(&token, &id, json!({})).await,
        first,
        "whoever has set out is not hindered by a connect"
    );
    service.call_as(&token, "POST", &format!("{CONNECTORS}/{id}/disconnect"), None).await;
    let second = service.start_url(&token, &id, json!({})).await;
    assert_ne!(second, first);
    let mut browser = Browser::new();
    assert_eq!(browser.get(&first).await.status, 400);
    assert_eq!(browser.consent(&second).await.status, 200);
    assert_eq!(browser.get(&old).await.status, 400);
    assert_eq!(service.state_as(&token, &id).await, "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_consent_stays_in_the_browser_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let service = with_tokens(directory.path());
    let (authorization, server) = server_of_scopes().await;
    for handshake in ["server/discover", "\"initialize\""] {
        demand(&authorization, &server, handshake, "connect");
    }
    let token = token(directory.path(), "alice");
    let id = service.create_as(&token, &server.url()).await;
    let start = service.start_url(&token, &id, json!({})).await;
    let (mut alice, mut bob) = (Browser::new(), Browser::new());
    let further = alice.consent(&start).await.location().to_owned();
    assert!(further.starts_with(authorization.url()), "{further}");
    let callback = visit(&further).await.unwrap();
    let before = code_requests(&authorization);
    assert_eq!(bob.get(&callback).await.status, 403);
    assert_eq!((service.state_as(&token, &id).await, code_requests(&authorization)), (json!("auth_required"), before));
    assert_eq!(alice.get(&callback).await.status, 200);

    // And one that a call asks for later begins at the page again.
    demand(&authorization, &server, "\"count\"", "write");
    let (_, answer) = service.count_as(&token, &id).await;
    let start = answer["error"]["data"]["url"].as_str().unwrap();
    let consent = alice.set_out(start).await;
    let callback = visit(&consent).await.unwrap();
    let before = code_requests(&authorization);
    assert_eq!(bob.get(&callback).await.status, 403);
    assert_eq!(code_requests(&authorization), before);
    assert_eq!(alice.get(&callback).await.status, 200);
    assert!(service.count_as(&token, &id).await.1["result"].is_object());
}

/// Begins a session with a legacy server; tells the id that the client gets.
async fn session(service: &Service, token: &str, id: &str) -> String {
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } },
    });
    let answer = in_session(service, token, id, None, &initialize).send().await.unwrap();
    answer.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

fn in_session(
    service: &Service,
    token: &str,
    id: &str,
    session: Option<&str>,
    body: &Value,
) -> reqwest::RequestBuilder {
    let request = service.client.post(service.mcp(id)).bearer_auth(token).json(body);
    let request = request.header("accept", "application/json, text/event-stream");
    session.into_iter().fold(request, |request, session| request.header("mcp-session-id", session))
}

fn listing() -> Value {
    json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_a_credential_are_good_for_their_own_user_and_connector_alone() {
    let directory = tempfile::tempdir().unwrap();
    let service = with_tokens(directory.path());
    let upstream = Auth::bearer("upstream-token");
    let server = McpServer::builder().eras(Eras::Legacy).auth(upstream).start().await.unwrap();
    let users = ["alice", "bob"].map(|user| token(directory.path(), user));
    let mut ids = Vec::new();
    for user in &users {
        let id = service.create_as(user, &server.url()).await;
        let (status, told) = service.connect_as(user, &id, json!({ "access_token": "upstream-token" })).await;
        assert_eq!(status, 200, "{told}");
        ids.push(id);
    }
    let [alice, bob] = &users;
    let of_alice = session(&service, alice, &ids[0]).await;
    let call = in_session(&service, alice, &ids[0], Some(&of_alice), &listing());
    let call = call.header("cookie", "connectors-session=canary").header("x-connectors-console", "1");
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let own = server.requests_for("tools/list").last().unwrap().header("mcp-session-id").unwrap().to_owned();
    assert_ne!(own, of_alice);
    assert!(!of_alice.contains(&own));

    let before = server.request_count();
    let spoilt = format!("{}A", &of_alice[..of_alice.len() - 1]);
    for session in [of_alice.as_str(), &own, "x", "", &spoilt] {
        let posted = in_session(&service, bob, &ids[1], Some(session), &listing()).send().await.unwrap();
        assert_eq!(posted.status(), 404, "{session:?}");
        for method in ["GET", "DELETE"] {
            let request = service.request(method, &format!("{CONNECTORS}/{}/mcp", ids[1]), None).bearer_auth(bob);
            let request = request.header("mcp-session-id", session).header("accept", "text/event-stream");
            assert_eq!(request.send().await.unwrap().status(), 404);
        }
    }
    let twice = in_session(&service, alice, &ids[0], Some(&of_alice), &listing()).header("mcp-session-id", &own);
    assert_eq!(twice.send().await.unwrap().status(), 404);
    assert_eq!(server.request_count(), before, "the server has seen nothing of it");
    let still = in_session(&service, alice, &ids[0], Some(&of_alice), &listing()).send().await.unwrap();
    assert_eq!(still.status(), 200);

    for request in server.requests() {
        assert!(users.iter().all(|user| !request.contains(user)) && !request.contains("canary"));
        assert!(request.bearer().is_none_or(|bearer| bearer == "upstream-token"));
        assert!(!request.contains(&of_alice));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_one_process_has_sealed_goes_on_at_another() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (listen, database, keys) = ([free_address(), free_address()], schema.url(), keys(&["1"]));
    let public = format!("http://{}", listen[0]);
    let shared =
        [TOKENS, HERE, ("DATABASE__URL", &database), ("ENCRYPTION__KEYS", &keys), ("SERVER__PUBLIC_URL", &public)];
    let start = |number: usize| {
        let environment = [&shared[..], &[("SERVER__LISTEN", listen[number].as_str())]].concat();
        Service::start_with(directory.path(), &environment)
    };
    let [first, second] = [start(0), start(1)];
    let server = McpServer::builder().eras(Eras::Legacy).start().await.unwrap();
    let token = token_with(directory.path(), &["--user", "alice"], &shared);
    let id = first.connected_as(&token, &server).await;
    let sealed = session(&first, &token, &id).await;
    for service in [&second, &first] {
        let answer = in_session(service, &token, &id, Some(&sealed), &listing()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
}

/// The lines of an audit log.
fn audited(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_do_is_audited_and_no_secret_of_theirs_is_seen_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let audit = ("LOG__AUDIT_FILE", file.to_str().unwrap());
    let environment = [TOKENS, HERE, audit, ("LOG__FILTER", "trace")];
    let mut service = Service::start_logging(directory.path(), &environment, log);
    let (authorization, server) = protected().await;
    let token = token_with(directory.path(), &["--user", "alice"], &environment);
    let forged = format!("connectors_{}", "f".repeat(64));
    let refused = service.call_as(&forged, "GET", CONNECTORS, None).await.1;
    assert_eq!(service.call_as(&token, "GET", "/api/v1/admin/connectors", None).await.0, 403);

    let mut browser = Browser::new();
    let signs_in = service.request("POST", "/auth/session", Some(json!({ "token": token })));
    assert_eq!(browser.send(signs_in).await.status, 200);
    let url = format!("{}?key=key-in-the-url", server.url());
    let id = service.create_as(&token, &url).await;
    let start = service.start_url(&token, &id, json!({})).await;
    let consent = browser.set_out(&start).await;
    let callback = visit(&consent).await.unwrap();
    assert_eq!(Browser::new().get(&callback).await.status, 403);
    let page = browser.get(&callback).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(service.count_as(&token, &id).await.0, 200);
    assert_eq!(service.call_as(&token, "DELETE", &format!("{CONNECTORS}/{id}"), None).await.0, 204);
    service.stop().await;

    let lines = audited(&file);
    let events = |name: &str| lines.iter().filter(|line| line["event"] == name).collect::<Vec<_>>();
    let owner = events("token.created")[0]["owner"].as_str().unwrap();
    for (event, by_alice) in [
        ("credential.refused", false),
        ("permission.refused", true),
        ("login", true),
        ("connector.created", true),
        ("authorization.refused", false),
        ("connector.deleted", true),
    ] {
        let found = events(event);
        assert_eq!(found.len(), 1, "{event}");
        assert!(found[0]["span"]["id"].is_string(), "{}", found[0]);
        assert_eq!(found[0]["span"]["owner"].as_str(), by_alice.then_some(owner), "{}", found[0]);
    }
    assert_eq!(events("credential.refused")[0]["span"]["id"], refused["request_id"]);
    let changes: Vec<_> = events("connector.changed").iter().map(|line| line["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["connecting", "auth_required", "authorization_started", "connecting", "connected"]);
    for line in events("connector.changed") {
        assert_eq!((&line["connector"], &line["owner"]), (&json!(id), &json!(owner)));
    }

    let mut secrets = vec![token, forged, "key-in-the-url".to_owned()];
    secrets.extend(
        ["ticket", "state", "code"]
            .iter()
            .filter_map(|name| [&start, &consent, &callback].iter().find_map(|url| parameter(url, name))),
    );
    secrets.extend(browser.cookies.into_values());
    secrets.extend(server.requests().iter().filter_map(|request| request.bearer().map(str::to_owned)));
    assert!(secrets.len() >= 9 && code_requests(&authorization) == 1, "{}", secrets.len());
    for name in ["audit.jsonl", "log"] {
        let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(text.contains(&id), "{name}");
        for secret in &secrets {
            assert!(!text.contains(secret), "{name} holds {secret}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_lists_and_takes_back_tokens_while_the_service_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = with_tokens(directory.path());
    let command = |arguments: &[&str]| {
        let output = run(directory.path(), &[&["token"], arguments].concat(), &[TOKENS, ("LOG__FILTER", "off")]);
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code(), out, err)
    };
    let (status, out, err) = command(&["list"]);
    assert_eq!((status, out.as_str(), err.as_str()), (Some(0), "", "there are no tokens\n"));
    let (status, out, err) = command(&["new", "--user", "alice", "--label", "laptop", "--days", "30"]);
    let token = out.trim_end();
    assert_eq!((status, out.lines().count(), token.len()), (Some(0), 1, "connectors_".len() + 64), "{out}{err}");
    assert!(err.contains("for alice ends at ") && !err.contains(token), "{err}");
    let agent = token_with(directory.path(), &["--user", "alice", "--scope", "connectors:proxy"], &[TOKENS]);
    let local = token_with(directory.path(), &["--local", "--no-expiry"], &[TOKENS]);
    for (token, status) in [(token, 200), (&agent, 403), (&local, 200)] {
        assert_eq!(service.call_as(token, "GET", CONNECTORS, None).await.0, status);
    }

    let (status, list, err) = command(&["list"]);
    assert_eq!((status, list.lines().count(), err.as_str()), (Some(0), 3, ""));
    let lines: Vec<Vec<_>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][1..4], ["alice", "laptop", "connectors:read connectors:write connectors:proxy"]);
    assert_eq!((lines[1][3], lines[2][1], lines[2][4]), ("connectors:proxy", "local", "never"));
    assert!([token, &agent, &local].iter().all(|token| !list.contains(&token["connectors_".len()..])));

    let (status, out, err) = command(&["revoke", lines[0][0]]);
    assert_eq!((status, out.as_str()), (Some(0), ""), "{err}");
    assert!(err.contains("is taken back"), "{err}");
    let (status, out, err) = command(&["revoke", lines[0][0]]);
    assert!(status == Some(1) && out.is_empty() && err.contains("there is no token with the id"), "{err}");
    service.stop().await;
    let service = with_tokens(directory.path());
    assert_eq!(service.call_as(token, "GET", CONNECTORS, None).await.0, 401);
    assert_eq!(service.call_as(&local, "GET", CONNECTORS, None).await.0, 200);

    for wrong in [
        &["new"] as &[&str],
        &["new", "--user", "alice", "--local"],
        &["new", "--user", " alice"],
        &["new", "--user", "al\u{202e}ice"],
        &["new", "--user", "alice", "--scope", "connectors:all"],
        &["new", "--user", "alice", "--days", "0"],
        &["revoke", "x"],
    ] {
        let (status, out, err) = command(wrong);
        assert!(status == Some(2) && out.is_empty() && !err.is_empty(), "{wrong:?} {err}");
    }
}

#[test]
fn a_service_that_asks_who_calls_starts_only_where_nobody_can_listen_in() {
    let directory = tempfile::tempdir().unwrap();
    let wide = ("SERVER__LISTEN", "0.0.0.0:0");
    for environment in [
        &[TOKENS, wide] as &[_],
        &[TOKENS, wide, ("SERVER__PUBLIC_URL", "http://connectors.example.com")],
        &[TOKENS, ("SERVER__LISTEN", "127.0.0.1:0"), ("SERVER__PUBLIC_URL", "http://connectors.example.com")],
        &[wide],
    ] {
        let refused = run(directory.path(), &["serve"], environment);
        assert_eq!(refused.status.code(), Some(2), "{environment:?}");
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains("server.public_url is not https") || told.contains("auth.mode is none"), "{told}");
        assert!(!directory.path().join("connectors.db").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_makes_so_many_calls_in_a_second_and_another_one_as_many() {
    let directory = tempfile::tempdir().unwrap();
    let service = with_tokens(directory.path());
    let [alice, bob] = ["alice", "bob"].map(|user| token(directory.path(), user));
    let call = |token: &str| service.request("GET", CONNECTORS, None).bearer_auth(token).send();
    assert_eq!(call(&alice).await.unwrap().status(), 200);
    let begun = Instant::now();
    let answers = join_all((0..600).map(|_| call(&alice))).await;
    let took = begun.elapsed();
    let (good, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().map(Result::unwrap).partition(|answer| answer.status() == 200);
    assert!(good.len() >= 99 && good.len() as u128 <= 102 + took.as_millis() / 10, "{} in {took:?}", good.len());
    assert!(!refused.is_empty());
    for answer in refused {
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    }
    assert_eq!(call(&bob).await.unwrap().status(), 200);
    let anonymous = service.request("GET", CONNECTORS, None).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connects_of_one_user_do_not_keep_another_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let service = Arc::new(with_tokens(directory.path()));
    let [alice, bob] = ["alice", "bob"].map(|user| token(directory.path(), user));
    let slow = McpServer::builder().script(Rule::new(Behaviour::hang())).start().await.unwrap();
    let quick = McpServer::builder().start().await.unwrap();
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(service.create_as(&alice, &format!("{}?{number}", slow.url())).await);
    }
    let of_bob = service.create_as(&bob, &quick.url()).await;
    let flood = (0..1000).map(|number: usize| {
        let (service, alice, id) = (Arc::clone(&service), alice.clone(), ids[number % ids.len()].clone());
        tokio::spawn(async move { service.connect_as(&alice, &id, json!({})).await.0 })
    });
    let flood: Vec<_> = flood.collect();
    slow.wait_until_requests(1, Duration::from_secs(10)).await.unwrap();
    let begun = Instant::now();
    let (status, told) = service.connect_as(&bob, &of_bob, json!({})).await;
    assert_eq!((status, &told["state"]), (200, &json!("connected")), "{told}");
    // Alone it takes a few milliseconds; what hangs takes twenty seconds.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    let waiting = flood.iter().filter(|call| !call.is_finished()).count();
    assert!(waiting > 0, "the flood is still there");
    for call in flood {
        call.abort();
    }
}
