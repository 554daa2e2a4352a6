//! Every place that takes a URL from outside, with every spelling of an address that must not be reached, through the
//! whole program. Its policy is that of a network: nothing is allowed but the test's own servers.

use std::sync::Arc;

use connectors_domain::ServerUrl;
use connectors_testkit::authorization_server::{AuthorizationServer, Endpoint, visit};
use connectors_testkit::mcp_server::{McpServer, Reply, Rule};
use connectors_testkit::spellings::{Canary, table};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{Service, protected, until};

const PRM: &str = "/.well-known/oauth-protected-resource";
const AS: &str = "/.well-known/oauth-authorization-server";
/// A connect takes the program some milliseconds. So each place gets a share of the table here, one in so many, and all of
/// it in the tests of the adapters that take it: `tests/spellings.rs` of the crate for MCP, `tests/oauth/spellings.rs` of
/// that for OAuth.
const SHARES: usize = 4;
/// How many connects are under way at once.
const AT_ONCE: usize = 16;
/// The statuses of redirects, those included that nobody should follow.
const REDIRECTS: [u16; 8] = [300, 301, 302, 303, 305, 306, 307, 308];
/// What is told where something was dialled that was not there, or waited for.
const DIALLED: [&str; 4] =
    ["server_unreachable", "server_timeout", "authorization_server_unreachable", "authorization_server_timeout"];

/// The places in which a hostile server can name an address before its user is asked.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The `Location` of a redirect of the MCP endpoint itself.
    Probe,
    /// `resource_metadata` of the challenge.
    Challenge,
    /// `authorization_servers` of the resource metadata.
    AuthorizationServer,
    /// A member of the authorization server's metadata.
    Member(&'static str),
    /// The `Location` of a redirect of the resource metadata.
    ResourceMetadata,
    /// The `Location` of a redirect of the authorization server's metadata.
    ServerMetadata,
    /// The `Location` of a redirect of the registration endpoint.
    Registration,
}

const PLACES: [Place; 10] = [
    Place::Probe,
    Place::Challenge,
    Place::AuthorizationServer,
    Place::Member("issuer"),
    Place::Member("authorization_endpoint"),
    Place::Member("token_endpoint"),
    Place::Member("registration_endpoint"),
    Place::ResourceMetadata,
    Place::ServerMetadata,
    Place::Registration,
];

impl Place {
    /// Makes a hostile MCP server of a path, and returns its URL.
    fn set(self, server: &McpServer, number: usize, spelling: &str) -> String {
        let (origin, name) = (server.origin(), format!("{self:?}{number}").replace(['(', ')', '"'], ""));
        let (url, issuer) = (format!("{origin}/{name}"), format!("{origin}/as/{name}"));
        let json = |value: &Value| Reply::json(value.to_string());
        let redirect = redirect(number, spelling);
        let challenge = match self {
            Self::Challenge => format!("Bearer resource_metadata=\"{}\"", spelling.replace('\\', "\\\\")),
            _ => "Bearer".to_owned(),
        };
        let mcp = match self {
            Self::Probe => redirect.clone(),
            _ => Reply::json("{}").status(401).header("www-authenticate", challenge),
        };
        let named = if matches!(self, Self::AuthorizationServer) { spelling } else { &issuer };
        let mut metadata = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "registration_endpoint": format!("{issuer}/register"),
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        });
        if let Self::Member(member) = self {
            metadata[member] = spelling.into();
        }
        let resource = match self {
            // One that cannot be read as the header field that it is leaves the search to the well-known places.
            Self::Challenge => Reply::new(404),
            Self::ResourceMetadata => redirect.clone(),
            _ => json(&json!({ "resource": url, "authorization_servers": [named] })),
        };
        let authority = if matches!(self, Self::ServerMetadata) { redirect.clone() } else { json(&metadata) };
        let registration =
            if matches!(self, Self::Registration) { redirect } else { Reply::json(r#"{"client_id":"c"}"#).status(201) };
        server.route(format!("/{name}"), mcp);
        server.route(format!("{PRM}/{name}"), resource);
        server.route(format!("{AS}/as/{name}"), authority);
        server.route(format!("/as/{name}/register"), registration);
        url
    }
}

fn redirect(number: usize, to: &str) -> Reply {
    Reply::text(REDIRECTS[number % REDIRECTS.len()], "moved").header("location", to)
}

/// The program with a policy under which `servers` alone are open, beside what is public.
fn start(directory: &TempDir, servers: &[&str]) -> Service {
    let allow = json!(servers).to_string();
    let environment = [("EGRESS__ALLOW", allow.as_str()), ("CONNECTOR__PER_USER", "100000"), ("LOG__FILTER", "warn")];
    Service::start_with(directory.path(), &environment)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_connector_and_no_preset_leads_inside() {
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::start().await.unwrap();
    let table = table(canary.port());
    let presets: Vec<_> = table.iter().filter(|url| ServerUrl::parse(url).is_ok()).collect();
    assert!(presets.len() >= 150, "{}", presets.len());
    let presets = presets.iter().map(|url| json!({ "url": url, "client_id": "c" })).collect::<Value>().to_string();
    let allow = json!([format!("127.0.0.1:{}", canary.port() ^ 1)]).to_string();
    let environment = [("EGRESS__ALLOW", allow.as_str()), ("CONNECTOR__PRESETS", &presets)];
    let service = Service::start_with(directory.path(), &environment);
    for spelling in &table {
        let (status, problem) = service.call("POST", "/api/v1/connectors", Some(json!({ "url": spelling }))).await;
        let wanted = if ServerUrl::parse(spelling).is_ok() { &[400][..] } else { &[400, 422] };
        assert!(wanted.contains(&status), "{spelling:?}: {status} {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{spelling:?}: {problem}");
    }
    let (_, listed) = service.call("GET", "/api/v1/connectors", None).await;
    assert_eq!(listed["items"], json!([]));
    assert_eq!(canary.connections().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_server_leads_a_connect_inside() {
    let directory = tempfile::tempdir().unwrap();
    let (server, canary) =
        (McpServer::builder().without_recording().start().await.unwrap(), Canary::start().await.unwrap());
    let service = Arc::new(start(&directory, &[&server.address().to_string()]));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut connects = JoinSet::new();
    for (offset, place) in PLACES.into_iter().enumerate() {
        for (number, spelling) in table(canary.port()).into_iter().enumerate().skip(offset % SHARES).step_by(SHARES) {
            let url = place.set(&server, number, &spelling);
            let (service, turns) = (Arc::clone(&service), Arc::clone(&turns));
            connects.spawn(async move {
                let _turn = turns.acquire().await.unwrap();
                let id = service.create(&url).await;
                let (status, problem) = service.connect(&id, json!({})).await;
                let code = problem["disconnect_code"].as_str().unwrap_or_default();
                assert!(status >= 400 && !code.is_empty(), "{place:?} {spelling:?}: {status} {problem}");
                assert!(!DIALLED.contains(&code), "{place:?} {spelling:?}: {problem}");
                let told = problem["detail"].as_str().unwrap_or_default();
                assert!(told.len() > 20, "{place:?} {spelling:?}: {problem}");
                assert!(spelling.len() < 8 || !told.contains(&spelling), "{place:?} {spelling:?}: {problem}");
            });
        }
    }
    connects.join_all().await;
    assert_eq!(canary.connections().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_of_a_call_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (server, canary) = (McpServer::builder().start().await.unwrap(), Canary::start().await.unwrap());
    let service = start(&directory, &[&server.address().to_string()]);
    let id = service.connected(&server).await;
    let table = table(canary.port());
    let rules = table.iter().enumerate().map(|(number, spelling)| {
        let name = number.to_string();
        Rule::new(redirect(number, spelling)).when(move |request| request.header("mcp-param-n") == Some(&name))
    });
    server.script(rules.collect::<Vec<_>>());
    for (number, spelling) in table.iter().enumerate() {
        for method in ["POST", "GET", "DELETE"] {
            let request = service.client.request(method.parse().unwrap(), service.mcp(&id));
            let request = request.header("mcp-param-n", number).header("accept", "application/json, text/event-stream");
            let request = if method == "POST" { request.json(&json!({ "jsonrpc": "2.0" })) } else { request };
            let answer = request.send().await.unwrap();
            assert_eq!(
                (answer.status().as_u16(), answer.headers().get("location")),
                (502, None),
                "{method} {spelling:?}"
            );
        }
    }
    assert_eq!(server.request_count(), 3 * table.len());
    assert_eq!(service.read(&id).await["state"], "connected");
    assert_eq!(canary.connections().await.unwrap(), 0);
}

/// Less of the table still, for each needs servers of its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_of_a_code_or_a_token_is_followed() {
    const EVERY: usize = 40;
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::start().await.unwrap();
    let mut peers = Vec::new();
    for (number, spelling) in table(canary.port()).into_iter().enumerate().step_by(EVERY) {
        peers.push((number, spelling, protected().await));
    }
    let addresses: Vec<_> =
        peers.iter().flat_map(|(.., (one, other))| [one.address(), other.address()]).map(|it| it.to_string()).collect();
    let service = start(&directory, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    for (number, spelling, (authorization, server)) in &peers {
        let astray = |endpoint| {
            authorization.clear();
            authorization.script(authorization.on(endpoint, redirect(*number, spelling)));
        };
        let id = service.create(&server.url()).await;
        astray(Endpoint::Exchange);
        let callback = visit(&service.consent_url(&id, json!({})).await).await.unwrap();
        assert_ne!(service.get(&callback).await.0, 200, "{spelling:?}");
        let read = service.read(&id).await;
        assert_eq!(read["disconnect_code"], "token_response_invalid", "{spelling:?} {read}");
        assert_eq!(asked(authorization, Endpoint::Exchange), 1);

        authorization.behave();
        service.authorize(&id).await;
        astray(Endpoint::Refresh);
        authorization.expire_access_tokens();
        let (status, answer) = service.count(&id).await;
        assert_eq!(status, 503, "{spelling:?} {answer}");
        assert!(asked(authorization, Endpoint::Refresh) >= 1);

        astray(Endpoint::Revocation);
        assert_eq!(service.disconnect(&id).await.0, 200);
        until("a revocation", || asked(authorization, Endpoint::Revocation) >= 1).await;
    }
    assert_eq!(canary.connections().await.unwrap(), 0);
}

fn asked(server: &AuthorizationServer, endpoint: Endpoint) -> usize {
    server.requests_to(endpoint).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_was_connected_is_not_called_once_the_policy_closes_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let (authorization, server) = protected().await;
    let mut service = Service::start(directory.path());
    let id = service.authorized(&server).await;
    service.counts(&id).await;
    service.stop().await;
    server.close_connections();
    authorization.clear();
    server.clear_requests();

    let service = start(&directory, &["127.0.0.1:1"]);
    let (status, problem) = service.count(&id).await;
    assert_eq!(status, 502, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`egress.allow`")), "{problem}");
    let (_, problem) = service.connect(&id, json!({})).await;
    assert_eq!(problem["disconnect_code"], "address_refused", "{problem}");
    assert_eq!((server.request_count(), server.connections(), authorization.requests().len()), (0, 0, 0));
}
