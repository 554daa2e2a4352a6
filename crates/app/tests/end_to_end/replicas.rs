//! Several processes on one PostgreSQL: what one begins another ends, and what one is told the others know.

use std::path::Path;
use std::time::{Duration, Instant};

use connectors_testkit::authorization_server::{Endpoint, Hold, visit};
use connectors_testkit::mcp_server::{Behaviour, Rule};
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::json;

use crate::postgres::Schema;
use crate::support::{Service, free_address, keys, protected, until};

const SECOND: Duration = Duration::from_secs(1);

/// Two addresses, and what browsers and authorization servers see: the first.
struct Replicas {
    listen: [String; 2],
    public_url: String,
    database: String,
    keys: String,
}

impl Replicas {
    fn on(schema: &Schema) -> Self {
        let listen = [free_address(), free_address()];
        let public_url = format!("http://{}", listen[0]);
        Self { listen, public_url, database: schema.url(), keys: keys(&["1"]) }
    }

    fn start(&self, number: usize, directory: &Path) -> Service {
        let environment = [
            ("SERVER__LISTEN", self.listen[number].as_str()),
            ("SERVER__PUBLIC_URL", &self.public_url),
            ("DATABASE__URL", &self.database),
            ("ENCRYPTION__KEYS", &self.keys),
            ("BACKGROUND__INTERVAL", "60"),
        ];
        Service::start_with(directory, &environment)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_one_process_began_is_finished_by_another() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let replicas = Replicas::on(&schema);
    let mut first = replicas.start(0, directory.path());
    let second = replicas.start(1, directory.path());
    let (authorization, server) = protected().await;
    let id = first.create(&server.url()).await;
    let callback = visit(&first.consent_url(&id, json!({})).await).await.unwrap();
    first.kill();
    let elsewhere = callback.replace(&first.url, &second.url);
    assert_ne!(elsewhere, callback);
    let (status, _, page) = second.get(&elsewhere).await;
    assert_eq!(status, 200, "{page}");
    second.counts(&id).await;

    let first = replicas.start(0, directory.path());
    first.counts(&id).await;
    assert_eq!(first.get(&callback).await.0, 400, "it was used already");
    let counters = authorization.counters();
    assert_eq!((counters.registrations, counters.exchanges, counters.code_reuses), (1, 1, 0));

    // And one that is begun before everything stops is finished by whatever comes after it.
    assert_eq!(first.disconnect(&id).await.0, 200);
    let callback = visit(&first.consent_url(&id, json!({})).await).await.unwrap();
    drop((first, second));
    let first = replicas.start(0, directory.path());
    assert_eq!(first.get(&callback).await.0, 200);
    first.counts(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_through_one_process_ends_streams_and_calls_through_the_other() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let replicas = Replicas::on(&schema);
    let [first, second] = [0, 1].map(|number| replicas.start(number, directory.path()));
    for delete in [false, true] {
        let (_authorization, server) = protected().await;
        let id = first.authorized(&server).await;
        // Both have it in memory for `relay.cache_ttl`.
        first.counts(&id).await;
        second.counts(&id).await;
        server.script(Rule::new(Behaviour::endless_sse(SECOND / 20)).when(|request| request.contains("echo")));
        let answer = second.tool(&id, "echo", &json!({ "text": "x" })).send().await.unwrap();
        let mut stream = answer.bytes_stream();
        stream.next().await.unwrap().unwrap();

        let begun = Instant::now();
        if delete {
            assert_eq!(first.delete(&id).await, 204);
        } else {
            assert_eq!(first.disconnect(&id).await.0, 200);
        }
        while let Some(Ok(_)) = stream.next().await {}
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        server.clear_requests();
        let (status, answer) = second.count(&id).await;
        assert!(status == 404 || answer["error"]["data"]["disconnect_code"] == "client_request", "{status} {answer}");
        assert_eq!(server.request_count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_one_process_renewed_is_used_by_the_other() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let replicas = Replicas::on(&schema);
    let [first, second] = [0, 1].map(|number| replicas.start(number, directory.path()));
    let (authorization, server) = protected().await;
    let id = first.authorized(&server).await;
    second.counts(&id).await;
    server.script(Rule::new(Behaviour::endless_sse(SECOND / 20)).when(|request| request.contains("echo")));
    let answer = second.tool(&id, "echo", &json!({ "text": "x" })).send().await.unwrap();
    let mut stream = answer.bytes_stream();
    stream.next().await.unwrap().unwrap();
    authorization.expire_access_tokens();
    first.counts(&id).await;
    second.counts(&id).await;
    assert_eq!(authorization.counters().refresh_requests, 1);

    for round in 2..5 {
        authorization.expire_access_tokens();
        let both = [&first, &second].map(|service| join_all((0..20).map(|_| service.counts(&id))));
        join_all(both).await;
        let counters = authorization.counters();
        assert_eq!((counters.refresh_requests, counters.reuses), (round, 0));
    }
    let begun = Instant::now();
    while begun.elapsed() < SECOND {
        stream.next().await.expect("a renewal ends no stream").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_one_process_ends_after_a_delete_through_another_is_revoked() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let replicas = Replicas::on(&schema);
    let [first, second] = [0, 1].map(|number| replicas.start(number, directory.path()));
    let (authorization, server) = protected().await;
    let id = first.authorized(&server).await;
    let hold = Hold::new();
    authorization.script(authorization.once(Endpoint::Refresh, Behaviour::held(&hold)));
    authorization.expire_access_tokens();
    let call = tokio::spawn(first.tool(&id, "count", &json!({})).send());
    until("a renewal is under way", || authorization.counters().refreshes == 1).await;
    assert_eq!(second.delete(&id).await, 204);
    hold.release();
    assert_eq!(call.await.unwrap().unwrap().status(), 404);
    // The pair that was given up, and the one that came too late.
    until("all is revoked", || authorization.requests_to(Endpoint::Revocation).len() == 4).await;
    assert!(authorization.grants()[0].revoked);
    assert_eq!((server.count(), authorization.counters().reuses), (0, 0));
}
