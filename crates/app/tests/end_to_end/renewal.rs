//! Tokens that end, authorization servers that do not renew them, and calls that go on all the same.

use std::time::{Duration, Instant};

use connectors_testkit::authorization_server::{AuthorizationServer, Behaviour, Endpoint, Reply, visit};
use connectors_testkit::mcp_server::{McpServer, Rule};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Service, protected, until};

const SECOND: Duration = Duration::from_secs(1);

/// Nothing happens but by calls.
const IDLE: (&str, &str) = ("BACKGROUND__INTERVAL", "60");

/// A server whose tokens live for so many seconds.
async fn protected_for(seconds: u64) -> (AuthorizationServer, McpServer) {
    let (authorization, server) = protected().await;
    authorization.change(|settings| settings.token_lifetime = Duration::from_secs(seconds));
    (authorization, server)
}

/// Waits until so much time has gone by since the last request for a token: its life began then, or a little later.
async fn since_token(authorization: &AuthorizationServer, seconds: f64) {
    let asked = authorization.requests_to(Endpoint::Exchange).last().unwrap().arrived;
    tokio::time::sleep_until((asked + Duration::from_secs_f64(seconds)).into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_use_is_renewed_before_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected_for(5).await;
    let id = service.authorized(&server).await;
    service.counts(&id).await;
    assert_eq!(authorization.counters().refresh_requests, 0);
    since_token(&authorization, 4.3).await;
    join_all((0..20).map(|_| service.counts(&id))).await;
    assert_eq!(authorization.counters().refresh_requests, 1);
    assert_eq!(authorization.counters().reuses, 0);
    assert_eq!(server.count(), 21);
    assert_eq!(server.requests_for("tools/call").len(), 21, "no call met a refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_nobody_uses_is_renewed_at_about_four_fifths_of_its_life_and_streams_stay_open() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[("BACKGROUND__INTERVAL", "0.1")]);
    let (authorization, server) = protected_for(4).await;
    let id = service.authorized(&server).await;
    server.script(Rule::new(Behaviour::endless_sse(SECOND / 20)).on_method("tools/call"));
    let mut stream = service.tool(&id, "echo", &json!({ "text": "x" })).send().await.unwrap().bytes_stream();
    stream.next().await.unwrap().unwrap();

    until("it is renewed", || authorization.counters().refreshes > 0).await;
    let (asked, renewed) =
        (&authorization.requests_to(Endpoint::Exchange)[0], &authorization.requests_to(Endpoint::Refresh)[0]);
    let after = renewed.arrived - asked.arrived;
    assert!(after > SECOND * 27 / 10 && after < SECOND * 4, "{after:?}");

    // Well beyond the end of the first token.
    while asked.arrived.elapsed() < SECOND * 9 / 2 {
        stream.next().await.unwrap().unwrap();
    }
    server.behave();
    service.counts(&id).await;
    let bearers: Vec<_> =
        server.requests_for("tools/call").iter().map(|call| call.bearer().unwrap().to_owned()).collect();
    assert_eq!(bearers.len(), 2);
    assert_ne!(bearers[0], bearers[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_is_sent_once_more_with_a_new_token_and_takes_effect_once() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.expire_access_tokens();
    service.counts(&id).await;
    assert_eq!((server.count(), server.requests_for("tools/call").len()), (1, 2));
    assert_eq!(authorization.counters().refreshes, 1);

    authorization.expire_access_tokens();
    join_all((0..100).map(|_| service.counts(&id))).await;
    assert_eq!(server.count(), 101);
    let counters = authorization.counters();
    assert_eq!((counters.refresh_requests, counters.reuses), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_revoked_disconnects_with_its_reason_and_consent_helps() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.revoke_grants();
    let (status, answer) = service.count(&id).await;
    assert_eq!(status, 200);
    let error = &answer["error"];
    assert_eq!(error["data"]["disconnect_code"], "authorization_revoked", "{answer}");
    assert!(error["message"].as_str().unwrap().contains("revoked"), "{answer}");
    let read = service.read(&id).await;
    assert_eq!((&read["state"], &read["disconnect_code"]), (&json!("disconnected"), &json!("authorization_revoked")));

    // A dead token is not shown again.
    service.count(&id).await;
    assert_eq!(authorization.counters().refresh_requests, 1);
    service.authorize(&id).await;
    service.counts(&id).await;
    assert_eq!(authorization.counters().registrations, 1, "the registration is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_forgotten_registers_anew_at_the_next_connect() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.forget_clients();
    authorization.expire_access_tokens();
    let (_, answer) = service.count(&id).await;
    assert_eq!(answer["error"]["data"]["disconnect_code"], "client_rejected", "{answer}");
    service.authorize(&id).await;
    service.counts(&id).await;
    assert_eq!(authorization.counters().registrations, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_disconnects_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let page = Reply::html("<h1>Forbidden</h1>").status(403);
    let failures = [(Behaviour::text(503, "away"), 0), (Behaviour::too_many_requests(3), 2), (page.into(), 0)];
    join_all(failures.map(|(failure, pause)| survives(&service, failure, pause))).await;
}

/// `pause` is the least that callers are told to wait.
async fn survives(service: &Service, failure: Behaviour, pause: u64) {
    let (authorization, server) = protected_for(5).await;
    let id = service.authorized(&server).await;
    authorization.script(authorization.on(Endpoint::Refresh, failure));
    since_token(&authorization, 4.2).await;
    service.counts(&id).await;
    assert_eq!(authorization.requests_to(Endpoint::Refresh).len(), 1);

    since_token(&authorization, 5.1).await;
    let answer = service.tool(&id, "count", &json!({})).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    let told: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((pause.max(1)..=4).contains(&told), "{told}");
    assert_eq!(service.read(&id).await["state"], "connected");
    assert_eq!(server.count(), 1, "the server was not asked");

    authorization.behave();
    tokio::time::sleep(Duration::from_secs(told)).await;
    service.counts(&id).await;
    assert_eq!(authorization.counters().refreshes, 1);
    assert_eq!(authorization.counters().authorizations, 1, "nobody had to consent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_whose_answer_is_lost_and_refused_then_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    let lost = Behaviour::lost(connectors_testkit::authorization_server::Ending::Close);
    authorization.script(authorization.once(Endpoint::Refresh, lost));
    authorization.expire_access_tokens();
    let (status, _) = service.count(&id).await;
    assert_eq!((status, service.read(&id).await["state"].as_str()), (503, Some("connected")));
    let begun = Instant::now();
    while service.count(&id).await.0 == 503 {
        assert!(begun.elapsed() < 10 * SECOND);
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(service.read(&id).await["disconnect_code"], "refresh_outcome_unknown");
    service.authorize(&id).await;
    service.counts(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_grant_is_renewed_by_the_connect_after_its_server_was_away() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    server.script(Behaviour::text(500, "away"));
    assert_eq!(service.connect(&id, json!({})).await.1["disconnect_code"], "server_error");
    authorization.expire_access_tokens();
    server.behave();
    let (status, connector) = service.connect(&id, json!({})).await;
    assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
    assert_eq!((authorization.counters().authorizations, authorization.counters().refreshes), (1, 1));

    // And where the grant is gone as well, the user is asked.
    assert_eq!(service.disconnect(&id).await.0, 200);
    service.get(&visit(&service.consent_url(&id, json!({})).await).await.unwrap()).await;
    service.counts(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_a_renewal_holds_nobody_up_after_the_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start_with(directory.path(), &[IDLE]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.script(authorization.on(Endpoint::Refresh, Behaviour::hang()));
    authorization.expire_access_tokens();
    let call = tokio::spawn(service.tool(&id, "count", &json!({})).send());
    until("a renewal is under way", || authorization.requests_to(Endpoint::Refresh).len() == 1).await;
    service.kill();
    call.await.unwrap().unwrap_err();
    authorization.behave();
    let service = Service::start_with(directory.path(), &[IDLE]);
    let begun = Instant::now();
    service.counts(&id).await;
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
    assert_eq!((authorization.counters().refreshes, authorization.counters().reuses), (1, 0));
}
