//! Stops in the middle of things. What the command line promises of them is in `tests/cli.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use connectors_testkit::authorization_server::{Behaviour, Endpoint, Hold};
use connectors_testkit::mcp_server::Rule;
use futures_util::StreamExt;
use serde_json::json;

use crate::support::{Service, free_address, protected, until};

const SECOND: Duration = Duration::from_secs(1);

/// What a new connection is told of whether the service is ready; `None` where nobody takes it any more.
fn readiness(service: &Service) -> Option<u16> {
    let mut stream = TcpStream::connect(service.url.strip_prefix("http://")?).ok()?;
    stream.set_read_timeout(Some(SECOND / 2)).unwrap();
    let host = stream.peer_addr().ok()?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {host}\r\n\r\n").ok()?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).ok().filter(|read| *read > 0)?;
    std::str::from_utf8(&answer[..read]).unwrap().split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_streams_at_once_and_stores_the_renewal_that_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_address();
    let mut service = Service::start_with(directory.path(), &[("SERVER__LISTEN", &listen)]);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    let other = protected().await;
    let streaming = service.authorized(&other.1).await;
    other.1.script(Rule::new(Behaviour::endless_sse(SECOND / 20)).on_method("tools/call"));
    let answer = service.tool(&streaming, "echo", &json!({ "text": "x" })).send().await.unwrap();
    let mut stream = answer.bytes_stream();
    stream.next().await.unwrap().unwrap();

    let hold = Hold::new();
    authorization.script(authorization.once(Endpoint::Refresh, Behaviour::held(&hold)));
    authorization.expire_access_tokens();
    let call = tokio::spawn(service.tool(&id, "count", &json!({})).send());
    until("a renewal is under way", || authorization.counters().refreshes == 1).await;

    assert_eq!(readiness(&service), Some(200));
    let begun = Instant::now();
    service.signal("TERM");
    while let Some(Ok(_)) = stream.next().await {}
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    // Most often nobody takes the connection any more, and that says the same.
    assert!(matches!(readiness(&service), Some(503) | None));
    assert!(service.child.try_wait().unwrap().is_none(), "it waits for the renewal");
    hold.release();
    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("\"result\""));
    let status = service.ended().await;
    assert!(status.success() && begun.elapsed() < 10 * SECOND, "{status}");

    let service = Service::start_with(directory.path(), &[("SERVER__LISTEN", &listen)]);
    service.counts(&id).await;
    let counters = authorization.counters();
    assert_eq!((counters.refresh_requests, counters.reuses), (1, 0));
    assert_eq!(server.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_a_renewal_that_nobody_waits_for_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path());
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    let hold = Hold::new();
    authorization.script(authorization.once(Endpoint::Refresh, Behaviour::held(&hold)));
    authorization.expire_access_tokens();
    let call = tokio::spawn(service.tool(&id, "count", &json!({})).send());
    until("a renewal is under way", || authorization.counters().refreshes == 1).await;
    call.abort();
    service.signal("TERM");
    tokio::time::sleep(SECOND / 2).await;
    assert!(service.child.try_wait().unwrap().is_none(), "it waits for the renewal");
    hold.release();
    assert!(service.ended().await.success());
    let service = Service::start(directory.path());
    service.counts(&id).await;
    let counters = authorization.counters();
    assert_eq!((counters.refresh_requests, counters.reuses), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_does_not_end_holds_a_stop_up_no_longer_than_the_limit_or_a_second_signal() {
    for (timeout, code) in [("1.5", 0), ("600", 1)] {
        let directory = tempfile::tempdir().unwrap();
        let mut service = Service::start_with(directory.path(), &[("SERVER__SHUTDOWN_TIMEOUT", timeout)]);
        let (authorization, server) = protected().await;
        let id = service.authorized(&server).await;
        authorization.script(authorization.on(Endpoint::Refresh, Behaviour::hang()));
        authorization.expire_access_tokens();
        let call = tokio::spawn(service.tool(&id, "count", &json!({})).send());
        until("a renewal is under way", || authorization.requests_to(Endpoint::Refresh).len() == 1).await;
        let begun = Instant::now();
        service.signal("TERM");
        if code == 1 {
            // Two equal signals that come at once are one.
            tokio::time::sleep(SECOND / 5).await;
            service.signal("TERM");
        }
        assert_eq!(service.ended().await.code(), Some(code));
        assert!(begun.elapsed() < 3 * SECOND, "{:?}", begun.elapsed());
        call.abort();
    }
}
