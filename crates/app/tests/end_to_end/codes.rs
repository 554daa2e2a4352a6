//! Every reason for which a connector is disconnected, brought about.

use std::collections::BTreeSet;

use connectors_domain::DisconnectCode;
use connectors_testkit::authorization_server::{
    AuthMethod, AuthorizationServer, Client, Consent, Ending, Endpoint, Reply, visit,
};
use connectors_testkit::mcp_server::{Auth, Behaviour, McpServer};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use serde_json::{Value, json};

use crate::postgres::Schema;
use crate::support::{Service, keys, protected};

/// Brought about by the tests of the use cases, in `tests/use_cases/codes.rs` of the application crate: they take a
/// minute and more on a real clock.
const ELSEWHERE: [DisconnectCode; 2] =
    [DisconnectCode::AuthorizationExpired, DisconnectCode::AuthorizationServerTimeout];

/// Each in a test of its own, below.
const ALONE: [DisconnectCode; 2] = [DisconnectCode::AddressRefused, DisconnectCode::CredentialUnreadable];

/// An address of this machine at which no other test listens: a port that was given up there stays free.
const ASIDE: ([u8; 4], u16) = ([127, 0, 0, 2], 0);

#[tokio::test(flavor = "multi_thread")]
async fn every_code_is_brought_about_by_what_it_stands_for() {
    use DisconnectCode as Code;
    let directory = tempfile::tempdir().unwrap();
    let environment = [("PROBE__TIMEOUT", "1"), ("BACKGROUND__INTERVAL", "60")];
    let service = &Service::start_with(directory.path(), &environment);
    let cases: Vec<(Code, BoxFuture<'_, Value>)> = vec![
        (Code::ClientRequest, client_request(service).boxed()),
        (Code::AuthorizationRequired, no_authorization_server(service).boxed()),
        (Code::AuthorizationRefused, refused(service).boxed()),
        (Code::AuthorizationServerUnreachable, no_longer_there(service).boxed()),
        (Code::AuthorizationMetadataInvalid, metadata(service, "issuer", Some(json!("https://evil.example"))).boxed()),
        (Code::PkceUnsupported, metadata(service, "code_challenge_methods_supported", None).boxed()),
        (Code::ClientRequired, no_registration(service).boxed()),
        (Code::ClientRejected, wrong_secret(service).boxed()),
        (Code::RegistrationFailed, failed_connect(service, Endpoint::Registration, Behaviour::text(500, "no")).boxed()),
        (Code::TokenExchangeFailed, failed_exchange(service, refusal("invalid_grant")).boxed()),
        (Code::TokenResponseInvalid, failed_exchange(service, Reply::json("{}")).boxed()),
        (Code::AuthorizationRevoked, revoked(service).boxed()),
        (Code::RefreshOutcomeUnknown, lost(service).boxed()),
        (Code::CredentialRejected, wrong_token(service).boxed()),
        (Code::ServerUnreachable, nobody_there(service).boxed()),
        (Code::ServerTimeout, probe(service, Behaviour::hang()).boxed()),
        (Code::ServerError, probe(service, Behaviour::text(500, "no")).boxed()),
        (Code::NotMcp, probe(service, Behaviour::html("<h1>Hello</h1>")).boxed()),
        (Code::UnsupportedVersion, probe(service, of_the_future()).boxed()),
    ];
    let (codes, brought_about): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    for (code, read) in codes.iter().zip(join_all(brought_about).await) {
        assert_eq!((&read["state"], &read["lifecycle"]), (&json!("disconnected"), &json!("disconnected")), "{code}");
        assert_eq!(read["disconnect_code"], code.as_str(), "{read}");
        assert!(read["disconnect_reason"].as_str().is_some_and(|reason| reason.len() > 10), "{read}");
        assert_eq!(read["auth_request"], Value::Null, "{code}");
    }
    let covered = codes.iter().chain(&ELSEWHERE).chain(&ALONE).map(|code| code.as_str());
    let all = DisconnectCode::ALL.iter().map(|code| code.as_str());
    assert_eq!(covered.collect::<BTreeSet<_>>(), all.collect(), "a code has no case");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_at_an_address_that_is_no_longer_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path());
    let server = McpServer::builder().start().await.unwrap();
    let id = service.connected(&server).await;
    service.counts(&id).await;
    service.stop().await;
    let service = Service::start_with(directory.path(), &[("EGRESS__ALLOW", r#"["203.0.113.7"]"#)]);
    server.clear_requests();
    assert_eq!(service.count(&id).await.0, 502);
    assert_eq!(service.connect(&id, json!({})).await.1["disconnect_code"], "address_refused");
    assert_eq!(service.read(&id).await["disconnect_code"], "address_refused");
    assert_eq!(server.request_count(), 0);
}

/// Whoever writes to the database cannot make one connector use another one's tokens.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_moved_from_row_to_row() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (database, keys) = (schema.url(), keys(&["1"]));
    let environment = [("DATABASE__URL", database.as_str()), ("ENCRYPTION__KEYS", &keys)];
    let mut service = Service::start_with(directory.path(), &environment);
    let servers = [protected().await, protected().await];
    let ids = [service.authorized(&servers[0].1).await, service.authorized(&servers[1].1).await];
    service.stop().await;
    schema.execute(
        "UPDATE connectors SET sealed_grant = other.sealed_grant FROM connectors other WHERE connectors.id <> other.id",
    );
    let service = Service::start_with(directory.path(), &environment);
    assert_eq!(service.call("GET", "/api/v1/connectors", None).await.1["total_count"], 2);
    for ((authorization, server), id) in servers.iter().zip(&ids) {
        server.clear_requests();
        let (_, answer) = service.count(id).await;
        assert_eq!(answer["error"]["data"]["disconnect_code"], "credential_unreadable", "{answer}");
        assert_eq!(server.request_count(), 0, "no token went anywhere");
        assert_eq!(service.read(id).await["disconnect_code"], "credential_unreadable");
        service.authorize(id).await;
        service.counts(id).await;
        assert_eq!(authorization.counters().refresh_requests, 0);
    }
}

async fn client_request(service: &Service) -> Value {
    let server = McpServer::builder().start().await.unwrap();
    let id = service.connected(&server).await;
    service.disconnect(&id).await;
    service.read(&id).await
}

async fn no_authorization_server(service: &Service) -> Value {
    let server = McpServer::builder().auth(Auth::bearer("t").challenge("Basic")).start().await.unwrap();
    connected_to(service, &server).await
}

async fn refused(service: &Service) -> Value {
    let (authorization, server) = protected().await;
    authorization.change(|settings| settings.consent = Consent::Refuse("access_denied".into(), String::new()));
    consented(service, &server, json!({})).await
}

async fn no_longer_there(service: &Service) -> Value {
    let authorization = AuthorizationServer::builder().address(ASIDE.into()).start().await.unwrap();
    let server = McpServer::builder().start().await.unwrap();
    authorization.protect(&server);
    authorization.stop().await;
    connected_to(service, &server).await
}

async fn metadata(service: &Service, member: &str, value: Option<Value>) -> Value {
    let (authorization, server) = protected().await;
    authorization.change(|settings| {
        settings.metadata.insert(member.into(), value);
    });
    connected_to(service, &server).await
}

async fn no_registration(service: &Service) -> Value {
    let (authorization, server) = protected().await;
    authorization.change(|settings| settings.registration = false);
    connected_to(service, &server).await
}

async fn wrong_secret(service: &Service) -> Value {
    let (authorization, server) = protected().await;
    let callback = format!("{}/api/v1/connectors/oauth/callback", service.url);
    authorization.add_client(Client::confidential("known", "right", AuthMethod::Basic, callback));
    consented(service, &server, json!({ "client_id": "known", "client_secret": "wrong" })).await
}

async fn failed_connect(service: &Service, endpoint: Endpoint, behaviour: Behaviour) -> Value {
    let (authorization, server) = protected().await;
    authorization.script(authorization.on(endpoint, behaviour));
    connected_to(service, &server).await
}

async fn failed_exchange(service: &Service, reply: Reply) -> Value {
    let (authorization, server) = protected().await;
    authorization.script(authorization.on(Endpoint::Exchange, reply));
    consented(service, &server, json!({})).await
}

async fn revoked(service: &Service) -> Value {
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.revoke_grants();
    service.count(&id).await;
    service.read(&id).await
}

async fn lost(service: &Service) -> Value {
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.script(authorization.once(Endpoint::Refresh, Behaviour::lost(Ending::Close)));
    authorization.expire_access_tokens();
    while service.count(&id).await.0 == 503 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    service.read(&id).await
}

async fn wrong_token(service: &Service) -> Value {
    let server = McpServer::builder().auth(Auth::bearer("right")).start().await.unwrap();
    let id = service.create(&server.url()).await;
    service.connect(&id, json!({ "access_token": "wrong" })).await;
    service.read(&id).await
}

async fn nobody_there(service: &Service) -> Value {
    let server = McpServer::builder().address(ASIDE.into()).start().await.unwrap();
    let id = service.create(&server.url()).await;
    server.stop().await;
    service.connect(&id, json!({})).await;
    service.read(&id).await
}

async fn probe(service: &Service, behaviour: Behaviour) -> Value {
    let server = McpServer::builder().script(behaviour).start().await.unwrap();
    connected_to(service, &server).await
}

fn of_the_future() -> Behaviour {
    Behaviour::rpc_error(400, -32_022, "Unsupported protocol version", &json!({ "supported": ["2999-01-01"] }))
}

fn refusal(error: &str) -> Reply {
    Reply::json(json!({ "error": error }).to_string()).status(400)
}

/// A new connector after its connect has failed.
async fn connected_to(service: &Service, server: &McpServer) -> Value {
    let id = service.create(&server.url()).await;
    let (status, told) = service.connect(&id, json!({})).await;
    assert!(matches!(status, 502 | 504), "{status} {told}");
    let read = service.read(&id).await;
    assert_eq!(told["disconnect_code"], read["disconnect_code"]);
    read
}

/// A new connector, with a client of its own where `given` names one, after its user was at the authorization server.
async fn consented(service: &Service, server: &McpServer, given: Value) -> Value {
    let mut body = given;
    body["url"] = json!(server.url());
    let (_, created) = service.call("POST", "/api/v1/connectors", Some(body)).await;
    let id = created["id"].as_str().unwrap().to_owned();
    let callback = visit(&service.consent_url(&id, json!({})).await).await.unwrap();
    assert_eq!(service.get(&callback).await.0, 400);
    service.read(&id).await
}
