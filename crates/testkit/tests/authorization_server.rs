//! The strict authorization server, seen by a client that is nothing but a socket.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests are tests, too")]

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use connectors_testkit::{
    authorization_server::{
        AuthMethod, AuthorizationServer, Behaviour, Client, Consent, Counters, Document, Ending, Endpoint, ExpiresIn,
        Hold, Iss, Issued, Page, Reply, Rotation, get, parameter, visit,
    },
    mcp_server::McpServer,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use url::{Url, form_urlencoded};

const SOON: Duration = Duration::from_secs(2);
const CALLBACK: &str = "https://client.example/callback";
const RESOURCE: &str = "https://mcp.example/mcp";
/// The pair in appendix B of RFC 7636.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// Everything that came until the end of the connection.
async fn raw(verb: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let url = Url::parse(url).unwrap();
    let authority = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let mut stream = TcpStream::connect(&authority).await.unwrap();
    let further = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
    let (path, length) = (url.path(), body.len());
    let head = format!(
        "{verb} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{further}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    // A reset ends it, too.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn text(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn is_error(&self, status: u16, error: &str) {
        assert_eq!((self.status, self.text("error").as_str()), (status, error), "{self:?}");
    }
}

async fn send(verb: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let text = String::from_utf8_lossy(&raw(verb, url, headers, body).await).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

async fn post_form(url: &str, pairs: &[(&str, &str)]) -> Response {
    send("POST", url, &[("Content-Type", "application/x-www-form-urlencoded")], &encoded(pairs)).await
}

async fn post_with_basic(url: &str, id: &str, secret: &str, pairs: &[(&str, &str)]) -> Response {
    let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", &basic)];
    send("POST", url, &headers, &encoded(pairs)).await
}

async fn register(server: &AuthorizationServer, document: &Value) -> Response {
    let headers = [("Content-Type", "application/json")];
    send("POST", &server.registration_endpoint(), &headers, &document.to_string()).await
}

/// `pairs` with another value for these names; an empty one leaves the parameter out.
fn changed<'a>(pairs: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = pairs.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    kept.chain(changes.iter().filter(|(_, value)| !value.is_empty())).copied().collect()
}

fn authorization_url(server: &AuthorizationServer, changes: &[(&str, &str)]) -> String {
    let proper = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", CALLBACK),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("resource", RESOURCE),
        ("state", "a state & more"),
    ];
    format!("{}?{}", server.authorization_endpoint(), encoded(&changed(&proper, changes)))
}

async fn code(server: &AuthorizationServer) -> String {
    let callback = visit(&authorization_url(server, &[])).await.unwrap();
    parameter(&callback, "code").unwrap()
}

async fn exchange(server: &AuthorizationServer, code: &str, changes: &[(&str, &str)]) -> Response {
    let proper = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("client_id", "app"),
        ("code_verifier", VERIFIER),
        ("resource", RESOURCE),
    ];
    post_form(&server.token_endpoint(), &changed(&proper, changes)).await
}

async fn refresh(server: &AuthorizationServer, token: &str, changes: &[(&str, &str)]) -> Response {
    let proper =
        [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "app"), ("resource", RESOURCE)];
    post_form(&server.token_endpoint(), &changed(&proper, changes)).await
}

/// A server that knows the public client `app`.
async fn start() -> AuthorizationServer {
    AuthorizationServer::builder().client(Client::public("app", CALLBACK)).start().await.unwrap()
}

fn issued(server: &AuthorizationServer) -> (String, String) {
    let Issued { access_token, refresh_token, .. } = server.issue("app", Some(RESOURCE), &["read", "write"]).unwrap();
    (access_token, refresh_token.unwrap())
}

#[tokio::test]
async fn a_client_that_does_everything_right_gets_tokens_and_into_the_mcp_server() {
    let server = AuthorizationServer::builder().with(|settings| settings.scopes = vec!["read".to_owned()]);
    let server = server.start().await.unwrap();
    let mcp = McpServer::builder().start().await.unwrap();
    server.protect(&mcp);

    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
    let call = call.to_string();
    let json_type = ("Content-Type", "application/json");
    let accept = ("Accept", "application/json, text/event-stream");
    let refused = send("POST", &mcp.url(), &[json_type, accept], &call).await;
    assert_eq!(refused.status, 401);
    let (_, rest) = refused.head.split_once("resource_metadata=\"").unwrap();
    let (metadata_url, _) = rest.split_once('"').unwrap();
    let page = get(metadata_url, &[]).await.unwrap();
    let resource: Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(resource["resource"], mcp.url());
    assert_eq!(resource["scopes_supported"], json!(["read"]));
    assert_eq!(resource["authorization_servers"], json!([server.issuer()]));

    let page = get(&server.metadata_url(Document::OAuth), &[]).await.unwrap();
    let metadata: Value = serde_json::from_str(&page.body).unwrap();
    let document = json!({ "client_name": "test", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"] });
    let registered =
        send("POST", metadata["registration_endpoint"].as_str().unwrap(), &[json_type], &document.to_string()).await;
    assert_eq!(registered.status, 201);
    assert_eq!(registered.json()["client_secret"], Value::Null);
    let client = registered.text("client_id");

    let url = mcp.url();
    let changes = [("client_id", client.as_str()), ("resource", &url), ("scope", "read")];
    let callback = visit(&authorization_url(&server, &changes)).await.unwrap();
    assert!(callback.starts_with(CALLBACK));
    assert_eq!(parameter(&callback, "state").unwrap(), "a state & more");
    assert_eq!(parameter(&callback, "iss").unwrap(), server.issuer());
    let code = parameter(&callback, "code").unwrap();
    let tokens = exchange(&server, &code, &[("client_id", &client), ("resource", &url)]).await;
    assert_eq!(tokens.status, 200);
    assert!(tokens.head.contains("cache-control: no-store"));
    assert_eq!(tokens.json()["token_type"], "Bearer");
    assert_eq!(tokens.json()["expires_in"], 3600);
    assert_eq!(tokens.json()["scope"], "read");

    let bearer = format!("Bearer {}", tokens.text("access_token"));
    let let_in = send("POST", &mcp.url(), &[json_type, accept, ("Authorization", &bearer)], &call).await;
    assert_eq!(let_in.status, 200);
    let changes = [("client_id", client.as_str()), ("resource", &url)];
    let refreshed = refresh(&server, &tokens.text("refresh_token"), &changes).await;
    assert_ne!(refreshed.text("refresh_token"), tokens.text("refresh_token"));

    let counters = server.counters();
    assert_eq!((counters.registrations, counters.authorizations, counters.exchanges), (1, 1, 1));
    assert_eq!((counters.code_requests, counters.refresh_requests, counters.refreshes), (1, 1, 1));
    assert_eq!((counters.refusals, counters.reuses, counters.code_reuses), (0, 0, 0));
}

#[tokio::test]
async fn tokens_are_good_for_their_resource_only_and_until_they_expire() {
    let server = start().await;
    let (access, _) = issued(&server);
    assert!(server.verifier(RESOURCE)(&access));
    assert!(!server.verifier("https://mcp.example/other")(&access));
    assert!(!server.verifier(RESOURCE)("another"));
    assert_eq!(server.token_info(&access).unwrap().scopes, ["read", "write"]);
    server.expire_access_tokens();
    assert!(!server.verifier(RESOURCE)(&access));
    server.change(|settings| settings.token_lifetime = Duration::ZERO);
    let (access, _) = issued(&server);
    assert!(!server.verifier(RESOURCE)(&access));
}

#[tokio::test]
async fn metadata_is_where_the_specifications_say_for_an_issuer_with_a_path() {
    let server = AuthorizationServer::builder().issuer_path("/tenant").host("localhost").start().await.unwrap();
    let origin = format!("http://localhost:{}", server.address().port());
    assert_eq!(server.issuer(), format!("{origin}/tenant"));
    let paths = [
        (Document::OAuth, "/.well-known/oauth-authorization-server/tenant"),
        (Document::OpenIdInserted, "/.well-known/openid-configuration/tenant"),
        (Document::OpenIdAppended, "/tenant/.well-known/openid-configuration"),
    ];
    for (document, path) in paths {
        assert_eq!(server.metadata_url(document), format!("{origin}{path}"));
        server.change(|settings| settings.documents = vec![document]);
        for (other, _) in paths {
            let page = get(&server.metadata_url(other), &[]).await.unwrap();
            assert_eq!(page.status, if other == document { 200 } else { 404 });
        }
        let metadata = server.metadata(document);
        assert_eq!(metadata["issuer"], server.issuer());
        assert_eq!(metadata["token_endpoint"], format!("{origin}/tenant/token"));
        assert_eq!(metadata.get("jwks_uri").is_some(), document != Document::OAuth);
    }
    assert_eq!(server.requests_to(Endpoint::Metadata).len(), 9);
    assert_eq!(get(&format!("{origin}/token"), &[]).await.unwrap().status, 404);
}

#[tokio::test]
async fn any_member_of_the_metadata_can_lie_or_be_missing() {
    let server = start().await;
    server.change(|settings| {
        settings.metadata.insert("issuer".to_owned(), Some("https://other.example".into()));
        settings.metadata.insert("code_challenge_methods_supported".to_owned(), None);
        settings.registration = false;
    });
    let page = get(&server.metadata_url(Document::OAuth), &[]).await.unwrap();
    let metadata: Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(metadata["issuer"], "https://other.example");
    assert!(metadata.get("code_challenge_methods_supported").is_none());
    assert!(metadata.get("registration_endpoint").is_none());
    assert_eq!(register(&server, &json!({})).await.status, 404);
}

#[tokio::test]
async fn registration_refuses_what_it_does_not_know() {
    let server = start().await;
    let proper = json!({ "redirect_uris": [CALLBACK] });
    for (member, value, error) in [
        ("redirect_uris", json!([]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["/relative"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["https://client.example/#fragment"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["http://client.example/"]), "invalid_redirect_uri"),
        ("redirect_uris", json!(["javascript:alert(1)"]), "invalid_redirect_uri"),
        ("redirect_uris", json!([1]), "invalid_client_metadata"),
        ("application_type", json!("toaster"), "invalid_redirect_uri"),
        ("token_endpoint_auth_method", json!("private_key_jwt"), "invalid_client_metadata"),
        ("grant_types", json!(["refresh_token"]), "invalid_client_metadata"),
        ("response_types", json!(["token"]), "invalid_client_metadata"),
    ] {
        let mut document = proper.clone();
        document[member] = value;
        register(&server, &document).await.is_error(400, error);
    }
    let as_text = send("POST", &server.registration_endpoint(), &[("Content-Type", "text/plain")], "{}").await;
    as_text.is_error(400, "invalid_client_metadata");
    for (kind, uri, status) in [
        ("web", "http://127.0.0.1:1/cb", 400),
        ("native", "http://127.0.0.1:1/cb", 201),
        ("native", "https://localhost/cb", 400),
    ] {
        let document = json!({ "redirect_uris": [uri], "application_type": kind });
        assert_eq!(register(&server, &document).await.status, status, "{kind} {uri}");
    }
    assert_eq!(server.counters().registrations, 1);
}

#[tokio::test]
async fn a_registration_answer_can_lie() {
    let server = start().await;
    let document = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_basic" });
    server.add_rules([
        server.once(Endpoint::Registration, Behaviour::without_member("client_secret")),
        server.once(Endpoint::Registration, Behaviour::with_member("token_endpoint_auth_method", "private_key_jwt")),
        server.once(Endpoint::Registration, Behaviour::with_status(200)),
        server.once(Endpoint::Registration, Behaviour::lost(Ending::Close)),
    ]);
    let silent = register(&server, &document).await.json();
    assert!(silent.get("client_id").is_some() && silent.get("client_secret").is_none());
    assert_eq!(register(&server, &document).await.text("token_endpoint_auth_method"), "private_key_jwt");
    assert_eq!(register(&server, &document).await.status, 200);
    let headers = [("Content-Type", "application/json")];
    assert_eq!(raw("POST", &server.registration_endpoint(), &headers, &document.to_string()).await, b"");
    assert_eq!(server.counters().registrations, 4);
    assert_eq!(register(&server, &document).await.status, 201);
}

#[tokio::test]
async fn each_client_authenticates_as_it_is_registered_and_in_no_other_way() {
    let server = start().await;
    let url = server.token_endpoint();
    for (name, works) in [("none", "none"), ("client_secret_basic", "basic"), ("client_secret_post", "post")] {
        let document = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": name,
            "grant_types": ["authorization_code", "refresh_token"] });
        let answer = register(&server, &document).await.json();
        let (id, secret) = (answer["client_id"].as_str().unwrap(), answer["client_secret"].as_str());
        assert_eq!(secret.is_some(), works != "none");
        let tried = secret.unwrap_or("guessed");
        for way in ["none", "basic", "post", "wrong"] {
            let token = server.issue(id, Some(RESOURCE), &[]).unwrap().refresh_token.unwrap();
            let form = [("grant_type", "refresh_token"), ("refresh_token", &token), ("resource", RESOURCE)];
            let answer = match way {
                "none" => post_form(&url, &changed(&form, &[("client_id", id)])).await,
                "basic" => post_with_basic(&url, id, tried, &form).await,
                "post" => post_form(&url, &changed(&form, &[("client_id", id), ("client_secret", tried)])).await,
                _ => post_with_basic(&url, id, "wrong", &form).await,
            };
            if way == works {
                assert_eq!(answer.status, 200, "{name} {way}");
            } else {
                answer.is_error(401, "invalid_client");
                let challenged = answer.head.contains("www-authenticate: basic");
                assert_eq!(challenged, matches!(way, "basic" | "wrong"));
            }
        }
    }
    let both = [("client_id", "app"), ("client_secret", "s"), ("grant_type", "refresh_token")];
    post_with_basic(&url, "app", "s", &both).await.is_error(400, "invalid_request");
    let two = [("client_id", "other"), ("grant_type", "refresh_token")];
    post_with_basic(&url, "app", "s", &two).await.is_error(400, "invalid_request");
}

#[tokio::test]
async fn secrets_expire_and_clients_are_forgotten_and_deregistered() {
    let server = start().await;
    server.change(|settings| settings.secret_lifetime = Some(Duration::from_hours(1)));
    let answer = register(&server, &json!({ "redirect_uris": [CALLBACK] })).await.json();
    let issued_at = answer["client_id_issued_at"].as_u64().unwrap();
    assert!(answer["client_secret_expires_at"].as_u64().unwrap() >= issued_at + 3600);
    let (id, secret) = (answer["client_id"].as_str().unwrap(), answer["client_secret"].as_str().unwrap());
    let url = server.token_endpoint();
    let form = [("grant_type", "authorization_code"), ("code", "none")];
    post_with_basic(&url, id, secret, &form).await.is_error(400, "invalid_grant");
    server.expire_secrets();
    post_with_basic(&url, id, secret, &form).await.is_error(401, "invalid_client");

    let management = answer["registration_client_uri"].as_str().unwrap();
    assert_eq!(send("DELETE", management, &[], "").await.status, 401);
    let bearer = format!("Bearer {}", answer["registration_access_token"].as_str().unwrap());
    assert_eq!(send("DELETE", management, &[("Authorization", &bearer)], "").await.status, 204);
    assert_eq!(server.client_ids(), ["app"]);
    assert_eq!(server.counters().deregistrations, 1);

    let (_, token) = issued(&server);
    server.forget_client("app");
    refresh(&server, &token, &[]).await.is_error(401, "invalid_client");
    let page = get(&authorization_url(&server, &[]), &[]).await.unwrap();
    assert_eq!((page.status, page.header("location")), (400, None));
    server.add_client(Client::confidential("app", "s", AuthMethod::Post, CALLBACK));
    refresh(&server, &token, &[]).await.is_error(401, "invalid_client");
    assert_eq!(refresh(&server, &token, &[("client_secret", "s")]).await.status, 200);
}

#[tokio::test]
async fn an_authorization_request_with_a_fault_gets_no_code() {
    let server = start().await;
    server.change(|settings| settings.scopes = vec!["read".to_owned()]);
    for changes in [
        [("client_id", "")],
        [("client_id", "unknown")],
        [("redirect_uri", "")],
        [("redirect_uri", "https://client.example/callback/")],
        [("redirect_uri", "https://client.example/callback?more")],
    ] {
        let page = get(&authorization_url(&server, &changes), &[]).await.unwrap();
        assert_eq!((page.status, page.header("location")), (400, None), "{changes:?}");
        assert!(visit(&authorization_url(&server, &changes)).await.is_err());
    }
    let twice = format!("{}&state=other", authorization_url(&server, &[]));
    assert_eq!(get(&twice, &[]).await.unwrap().status, 400);
    for (change, error) in [
        (("response_type", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("resource", ""), "invalid_target"),
        (("resource", "/mcp"), "invalid_target"),
        (("resource", "https://mcp.example/#part"), "invalid_target"),
        (("scope", "read admin"), "invalid_scope"),
    ] {
        let callback = visit(&authorization_url(&server, &[change])).await.unwrap();
        assert_eq!(parameter(&callback, "error").unwrap(), error, "{change:?}");
        assert_eq!(parameter(&callback, "state").unwrap(), "a state & more");
        assert_eq!(parameter(&callback, "iss").unwrap(), server.issuer());
        assert_eq!(parameter(&callback, "code"), None);
    }
    server.change(|settings| settings.resources = vec!["https://other.example/".to_owned()]);
    let callback = visit(&authorization_url(&server, &[])).await.unwrap();
    assert_eq!(parameter(&callback, "error").unwrap(), "invalid_target");
    assert_eq!(server.counters().authorizations, 0);
    let posted = send("POST", &authorization_url(&server, &[]), &[], "").await;
    assert_eq!(posted.status, 405);
}

#[tokio::test]
async fn the_response_names_the_issuer_as_it_is_told_and_keeps_the_query_of_the_redirect_uri() {
    let server = start().await;
    let with_query = "https://client.example/callback?tenant=1";
    server.add_client(Client::public("app", with_query));
    for (iss, named, promised) in [
        (Iss::Right, Some(server.issuer().to_owned()), true),
        (Iss::Missing, None, false),
        (Iss::Wrong("https://evil.example".to_owned()), Some("https://evil.example".to_owned()), true),
    ] {
        server.change(|settings| settings.iss = iss);
        let callback = visit(&authorization_url(&server, &[("redirect_uri", with_query)])).await.unwrap();
        assert_eq!(parameter(&callback, "iss"), named);
        assert_eq!(parameter(&callback, "tenant").unwrap(), "1");
        assert!(parameter(&callback, "code").is_some());
        let metadata = server.metadata(Document::OAuth);
        assert_eq!(metadata["authorization_response_iss_parameter_supported"], promised);
    }
    let callback = visit(&authorization_url(&server, &[("redirect_uri", with_query), ("state", "")])).await.unwrap();
    assert_eq!(parameter(&callback, "state"), None);
}

#[tokio::test]
async fn the_person_may_refuse_or_think_about_it() {
    let server = start().await;
    server.change(|settings| settings.consent = Consent::Refuse("access_denied".to_owned(), "<b>no</b>".to_owned()));
    let callback = visit(&authorization_url(&server, &[])).await.unwrap();
    assert_eq!(parameter(&callback, "error").unwrap(), "access_denied");
    assert_eq!(parameter(&callback, "error_description").unwrap(), "<b>no</b>");

    server.change(|settings| settings.consent = Consent::Ask);
    assert_eq!(server.approve(), 0);
    let browser = tokio::spawn({
        let url = authorization_url(&server, &[]);
        async move { visit(&url).await }
    });
    server.wait_until_asked(1, SOON).await.unwrap();
    assert!(!browser.is_finished());
    assert_eq!(server.approve(), 1);
    let callback = browser.await.unwrap().unwrap();
    let tokens = exchange(&server, &parameter(&callback, "code").unwrap(), &[]).await;
    assert_eq!(tokens.status, 200);

    let browser = tokio::spawn({
        let url = authorization_url(&server, &[]);
        async move { visit(&url).await }
    });
    server.wait_until_asked(1, SOON).await.unwrap();
    assert_eq!(server.refuse("access_denied", "no"), 1);
    assert_eq!(parameter(&browser.await.unwrap().unwrap(), "error").unwrap(), "access_denied");

    // A browser that has gone is not waited for.
    let browser = tokio::spawn({
        let url = authorization_url(&server, &[]);
        async move { visit(&url).await }
    });
    server.wait_until_asked(1, SOON).await.unwrap();
    browser.abort();
    server.wait_until_open_requests(0, SOON).await.unwrap();
    assert_eq!(server.approve(), 0);
}

#[tokio::test]
async fn a_code_is_bound_to_its_client_redirect_resource_and_verifier() {
    let server = start().await;
    server.add_client(Client::public("other", CALLBACK));
    let long = "x".repeat(129);
    for (change, error) in [
        (("client_id", "other"), "invalid_grant"),
        (("redirect_uri", ""), "invalid_grant"),
        (("redirect_uri", "https://client.example/other"), "invalid_grant"),
        (("code_verifier", ""), "invalid_grant"),
        (("code_verifier", "0123456789012345678901234567890123456789012"), "invalid_grant"),
        (("code_verifier", &long), "invalid_grant"),
        (("code_verifier", CHALLENGE), "invalid_grant"),
        (("resource", ""), "invalid_target"),
        (("resource", "https://mcp.example/"), "invalid_target"),
        (("code", ""), "invalid_request"),
        (("code", "guessed"), "invalid_grant"),
        (("grant_type", "password"), "unsupported_grant_type"),
        (("grant_type", ""), "invalid_request"),
    ] {
        exchange(&server, &code(&server).await, &[change]).await.is_error(400, error);
    }
    let counters = server.counters();
    assert_eq!((counters.exchanges, counters.refusals, counters.other_token_requests), (0, 13, 2));
    // A fault spends the code: a second try does not help.
    let spent = code(&server).await;
    exchange(&server, &spent, &[("code_verifier", "")]).await.is_error(400, "invalid_grant");
    exchange(&server, &spent, &[]).await.is_error(400, "invalid_grant");

    server.change(|settings| settings.code_lifetime = Duration::ZERO);
    exchange(&server, &code(&server).await, &[]).await.is_error(400, "invalid_grant");
    let form = "grant_type=authorization_code";
    let as_json = send("POST", &server.token_endpoint(), &[("Content-Type", "application/json")], form).await;
    as_json.is_error(400, "invalid_request");
    let twice = [("client_id", "app"), ("client_id", "app")];
    post_form(&server.token_endpoint(), &twice).await.is_error(400, "invalid_request");
}

#[tokio::test]
async fn a_code_that_is_used_twice_ends_what_came_of_it() {
    let server = start().await;
    let code = code(&server).await;
    let tokens = exchange(&server, &code, &[]).await;
    let access = tokens.text("access_token");
    assert!(server.token_info(&access).is_some());
    exchange(&server, &code, &[]).await.is_error(400, "invalid_grant");
    assert_eq!(server.token_info(&access), None);
    refresh(&server, &tokens.text("refresh_token"), &[]).await.is_error(400, "invalid_grant");
    assert_eq!(server.counters().code_reuses, 1);
}

#[tokio::test]
async fn fifty_exchanges_of_one_code_at_once_give_one_token() {
    let server = std::sync::Arc::new(start().await);
    let code = code(&server).await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (server, code) = (server.clone(), code.clone());
            tokio::spawn(async move { exchange(&server, &code, &[]).await.status })
        })
        .collect();
    let mut good = 0;
    for task in tasks {
        good += u32::from(task.await.unwrap() == 200);
    }
    assert_eq!((good, server.counters().code_reuses), (1, 49));
}

#[tokio::test]
async fn a_spent_refresh_token_ends_the_grant_and_is_counted() {
    let server = start().await;
    let (first_access, first) = issued(&server);
    let answer = refresh(&server, &first, &[]).await;
    let (access, second) = (answer.text("access_token"), answer.text("refresh_token"));
    let (other_access, other) = issued(&server);
    refresh(&server, &first, &[]).await.is_error(400, "invalid_grant");
    refresh(&server, &second, &[]).await.is_error(400, "invalid_grant");
    assert_eq!([first_access, access].map(|token| server.token_info(&token)), [None, None]);
    assert_eq!(server.counters().reuses, 1);
    refresh(&server, &first, &[]).await.is_error(400, "invalid_grant");
    assert_eq!(server.counters().reuses, 2);
    assert!(server.token_info(&other_access).is_some());
    assert_eq!(refresh(&server, &other, &[]).await.status, 200);
    assert_eq!(server.counters().refreshes, 2);
}

#[tokio::test]
async fn within_the_grace_window_a_spent_refresh_token_is_still_good() {
    let server = start().await;
    server.change(|settings| settings.grace = Duration::from_mins(1));
    let (_, first) = issued(&server);
    let lost = refresh(&server, &first, &[]).await;
    let second = refresh(&server, &first, &[]).await;
    assert_eq!(second.status, 200);
    assert_ne!(lost.text("refresh_token"), second.text("refresh_token"));
    let counters = server.counters();
    assert_eq!((counters.refreshes, counters.graced, counters.reuses), (2, 1, 0));
    server.change(|settings| settings.grace = Duration::ZERO);
    refresh(&server, &first, &[]).await.is_error(400, "invalid_grant");
    assert_eq!(server.counters().reuses, 1);
}

#[tokio::test]
async fn refresh_tokens_rotate_stay_repeat_or_never_come() {
    let server = start().await;
    for (rotation, answered) in [(Rotation::Keep, false), (Rotation::Repeat, true)] {
        server.change(|settings| settings.rotation = rotation);
        let (_, token) = issued(&server);
        for _ in 0..2 {
            let answer = refresh(&server, &token, &[]).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["refresh_token"] == token, answered);
            assert_eq!(answer.json().get("refresh_token").is_some(), answered);
        }
    }
    server.change(|settings| settings.rotation = Rotation::Never);
    assert!(exchange(&server, &code(&server).await, &[]).await.json().get("refresh_token").is_none());
    server.change(|settings| (settings.rotation, settings.offline_access) = (Rotation::Rotate, true));
    assert!(exchange(&server, &code(&server).await, &[]).await.json().get("refresh_token").is_none());
    let url = authorization_url(&server, &[("scope", "offline_access")]);
    let offline = parameter(&visit(&url).await.unwrap(), "code").unwrap();
    assert!(exchange(&server, &offline, &[]).await.json().get("refresh_token").is_some());
    server.change(|settings| settings.offline_access = false);
    server.add_client(Client { refresh: false, ..Client::public("app", CALLBACK) });
    assert!(exchange(&server, &code(&server).await, &[]).await.json().get("refresh_token").is_none());
    refresh(&server, "any", &[]).await.is_error(400, "unauthorized_client");
}

#[tokio::test]
async fn a_refresh_is_bound_to_its_client_resource_and_scope() {
    let server = start().await;
    server.add_client(Client::public("other", CALLBACK));
    let (_, token) = issued(&server);
    for (change, error) in [
        (("client_id", "other"), "invalid_grant"),
        (("resource", ""), "invalid_target"),
        (("resource", "https://other.example/"), "invalid_target"),
        (("scope", "read admin"), "invalid_scope"),
        (("refresh_token", ""), "invalid_request"),
        (("refresh_token", "guessed"), "invalid_grant"),
    ] {
        refresh(&server, &token, &[change]).await.is_error(400, error);
    }
    let narrower = refresh(&server, &token, &[("scope", "read")]).await;
    assert_eq!(narrower.text("scope"), "read");
    assert_eq!(server.token_info(&narrower.text("access_token")).unwrap().scopes, ["read"]);
    // Narrowing an access token does not narrow the grant.
    let whole = refresh(&server, &narrower.text("refresh_token"), &[]).await;
    assert_eq!(whole.text("scope"), "read write");
    server.revoke_grants();
    assert_eq!(server.token_info(&whole.text("access_token")), None);
    refresh(&server, &whole.text("refresh_token"), &[]).await.is_error(400, "invalid_grant");
    assert_eq!(server.counters().reuses, 0);
}

#[tokio::test]
async fn expires_in_has_any_shape() {
    let server = start().await;
    for (shape, value) in [
        (ExpiresIn::Exact, json!(3600)),
        (ExpiresIn::Text, json!("3600")),
        (ExpiresIn::Float, json!(3599.5)),
        (ExpiresIn::Missing, Value::Null),
        (ExpiresIn::Other(json!(0)), json!(0)),
        (ExpiresIn::Other(json!(-1)), json!(-1)),
        (ExpiresIn::Other(json!(u64::MAX)), json!(u64::MAX)),
        (ExpiresIn::Other(json!(1e30)), json!(1e30)),
        (ExpiresIn::Other(json!("3600abc")), json!("3600abc")),
        (ExpiresIn::Other(json!({})), json!({})),
    ] {
        server.change(|settings| settings.expires_in = shape);
        let answer = exchange(&server, &code(&server).await, &[]).await.json();
        assert_eq!(answer["expires_in"], value);
        // What is said has no effect on what is so.
        assert!(server.token_info(answer["access_token"].as_str().unwrap()).is_some());
    }
}

#[tokio::test]
async fn any_member_of_a_token_answer_can_lie_or_be_missing() {
    let server = start().await;
    server.change(|settings| settings.token_type = "mac".to_owned());
    assert_eq!(exchange(&server, &code(&server).await, &[]).await.json()["token_type"], "mac");
    for token in [String::new(), "line\r\nset-cookie: a=b".to_owned(), "nul\0".to_owned(), "x".repeat(1 << 20)] {
        server.change(|settings| {
            settings.token_members.insert("access_token".to_owned(), Some(token.clone().into()));
            settings.token_members.insert("refresh_token".to_owned(), None);
        });
        let answer = exchange(&server, &code(&server).await, &[]).await.json();
        assert_eq!(answer["access_token"], token);
        assert!(answer.get("refresh_token").is_none());
    }
    server.add_rules(server.once(Endpoint::Exchange, Reply::json(r#"{"error":"invalid_grant"}"#)));
    exchange(&server, &code(&server).await, &[]).await.is_error(200, "invalid_grant");
    server.add_rules(server.once(Endpoint::Exchange, Behaviour::with_status(401)));
    exchange(&server, "guessed", &[]).await.is_error(401, "invalid_grant");
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_the_grant_and_revoking_an_access_token_only_that() {
    let server = start().await;
    server.add_client(Client::public("other", CALLBACK));
    let url = server.revocation_endpoint();
    let (access, token) = issued(&server);
    post_form(&url, &[("client_id", "other"), ("token", &access)]).await.is_error(400, "unauthorized_client");
    post_form(&url, &[("token", &access)]).await.is_error(401, "invalid_client");
    post_form(&url, &[("client_id", "app")]).await.is_error(400, "invalid_request");
    assert!(server.token_info(&access).is_some());
    assert_eq!(post_form(&url, &[("client_id", "app"), ("token", &access)]).await.status, 200);
    assert_eq!(server.token_info(&access), None);
    let next = refresh(&server, &token, &[]).await;
    let (access, token) = (next.text("access_token"), next.text("refresh_token"));
    let form = [("client_id", "app"), ("token", token.as_str()), ("token_type_hint", "refresh_token")];
    for _ in 0..2 {
        assert_eq!(post_form(&url, &form).await.status, 200);
    }
    assert_eq!(post_form(&url, &[("client_id", "app"), ("token", "unknown")]).await.status, 200);
    assert_eq!(server.token_info(&access), None);
    refresh(&server, &token, &[]).await.is_error(400, "invalid_grant");
    let counters = server.counters();
    assert_eq!((counters.revocation_requests, counters.revocations, counters.reuses), (7, 2, 0));
}

#[tokio::test]
async fn a_rule_is_for_one_part_of_the_server_and_what_it_answers_has_no_effect() {
    let server = start().await;
    server.add_rules([
        server.on(Endpoint::Refresh, Behaviour::too_many_requests(7)),
        server.on(Endpoint::Registration, Behaviour::text(500, "out of order")),
        server.on(Endpoint::Revocation, Reply::html("<h1>Forbidden</h1>").status(403)),
        server.on(Endpoint::Metadata, Behaviour::redirect(302, "http://169.254.169.254/")),
    ]);
    let (_, token) = issued(&server);
    let limited = refresh(&server, &token, &[]).await;
    assert_eq!(limited.status, 429);
    assert!(limited.head.contains("retry-after: 7"));
    assert_eq!(register(&server, &json!({ "redirect_uris": [CALLBACK] })).await.status, 500);
    let forbidden = post_form(&server.revocation_endpoint(), &[("client_id", "app"), ("token", &token)]).await;
    assert!(forbidden.status == 403 && forbidden.head.contains("text/html"));
    assert_eq!(visit(&server.metadata_url(Document::OAuth)).await.unwrap(), "http://169.254.169.254/");
    assert_eq!(exchange(&server, &code(&server).await, &[]).await.status, 200);
    let counters = server.counters();
    assert_eq!((counters.refresh_requests, counters.registrations, counters.revocation_requests), (0, 0, 0));
    assert_eq!(server.requests_to(Endpoint::Refresh).len(), 1);
    assert_eq!(server.requests_to(Endpoint::Exchange).len(), 1);
    assert_eq!(server.requests_to(Endpoint::Token).len(), 2);
    server.behave();
    assert_eq!(refresh(&server, &token, &[]).await.status, 200);
    server.clear();
    assert_eq!((server.requests().len(), server.counters()), (0, Counters::default()));
}

#[tokio::test]
async fn an_answer_can_be_lost_after_the_token_was_spent() {
    let server = start().await;
    let (_, token) = issued(&server);
    for ending in [Ending::Reset, Ending::Close] {
        server.change(|settings| settings.grace = Duration::from_mins(1));
        server.add_rules(server.once(Endpoint::Refresh, Behaviour::lost(ending)));
        let form = [("grant_type", "refresh_token"), ("refresh_token", &token), ("client_id", "app")];
        let form = encoded(&changed(&form, &[("resource", RESOURCE)]));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        assert_eq!(raw("POST", &server.token_endpoint(), &headers, &form).await, b"");
    }
    assert_eq!(server.counters().refreshes, 2);
    server.change(|settings| settings.grace = Duration::ZERO);
    refresh(&server, &token, &[]).await.is_error(400, "invalid_grant");
    assert_eq!(server.counters().reuses, 1);
}

#[tokio::test]
async fn an_answer_can_be_held_until_the_test_has_seen_enough() {
    let server = std::sync::Arc::new(start().await);
    let (_, token) = issued(&server);
    let hold = Hold::new();
    server.add_rules(server.on(Endpoint::Refresh, Behaviour::held(&hold)));
    let refreshing = tokio::spawn({
        let server = server.clone();
        async move { refresh(&server, &token, &[]).await.status }
    });
    server.wait_until_requests(1, SOON).await.unwrap();
    assert_eq!(server.open_requests(), 1);
    assert_eq!(server.counters().refreshes, 1);
    assert!(!refreshing.is_finished());
    hold.release();
    assert_eq!(refreshing.await.unwrap(), 200);
}

#[tokio::test]
async fn answers_can_be_compressed_too_long_too_deep_slow_or_never_come() {
    let server = start().await;
    let url = server.metadata_url(Document::OAuth);
    let once = |behaviour: Behaviour| server.add_rules(server.once(Endpoint::Metadata, behaviour));
    let whole = |page: Page| serde_json::from_str::<Value>(&page.body).unwrap();

    once(Behaviour::gzip());
    assert_eq!(get(&url, &[]).await.unwrap().header("content-encoding"), Some("gzip"));
    once(Behaviour::oversized(5 << 20));
    let page = get(&url, &[]).await.unwrap();
    assert!(page.body.len() > 5 << 20);
    assert_eq!(whole(page)["issuer"], server.issuer());
    once(Behaviour::with_deep_member(100_000));
    let page = get(&url, &[]).await.unwrap();
    assert!(page.body.contains(&"[".repeat(100_000)));
    assert!(serde_json::from_str::<Value>(&page.body).is_err());
    once(Behaviour::with_member("issuer", "https://other.example"));
    assert_eq!(whole(get(&url, &[]).await.unwrap())["issuer"], "https://other.example");
    once(Behaviour::without_member("issuer"));
    assert!(whole(get(&url, &[]).await.unwrap()).get("issuer").is_none());
    let start = Instant::now();
    once(Behaviour::delayed(Duration::from_millis(50)));
    get(&url, &[]).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    once(Behaviour::hang());
    let hanging = tokio::spawn(async move { get(&url, &[]).await.is_err() });
    server.wait_until_open_requests(1, SOON).await.unwrap();
    server.close_connections();
    assert!(hanging.await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_less_strict_takes_what_a_strict_one_refuses() {
    let server = start().await;
    server.change(|settings| (settings.pkce, settings.resource) = (false, false));
    let changes = [("code_challenge", ""), ("code_challenge_method", ""), ("resource", "")];
    let callback = visit(&authorization_url(&server, &changes)).await.unwrap();
    let code = parameter(&callback, "code").unwrap();
    let changes = [("code_verifier", ""), ("resource", "")];
    let answer = exchange(&server, &code, &changes).await;
    assert_eq!(server.token_info(&answer.text("access_token")).unwrap().resource, None);
    // A verifier where there was no challenge is a downgrade.
    let changes = [("code_challenge", ""), ("code_challenge_method", "")];
    let callback = visit(&authorization_url(&server, &changes)).await.unwrap();
    exchange(&server, &parameter(&callback, "code").unwrap(), &[]).await.is_error(400, "invalid_grant");
}

#[tokio::test]
async fn a_server_that_stops_leaves_its_port_to_the_next() {
    let server = start().await;
    let address = server.address();
    let url = server.metadata_url(Document::OAuth);
    server.stop().await;
    assert!(get(&url, &[]).await.is_err());
    let server = AuthorizationServer::builder().address(address).start().await.unwrap();
    assert_eq!(get(&url, &[]).await.unwrap().status, 200);
    assert_eq!(server.url(), format!("http://{address}"));
}
