//! Another encryption key, while the service serves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::postgres::Schema;
use crate::support::{Service, free_address, keys, protected, run};

/// What `connectors keys` prints: the ids, with how many rows need each.
fn in_use(directory: &Path, environment: &[(&str, &str)]) -> String {
    let output = run(directory, &["keys"], environment);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_move_to_the_first_key_and_the_old_one_can_go() {
    let directory = tempfile::tempdir().unwrap();
    let [old, both, new, wrong] = [&["1"][..], &["2", "1"], &["2"], &["2/other"]].map(keys);
    let listen = free_address();
    let start =
        |keys: &str| Service::start_with(directory.path(), &[("SERVER__LISTEN", &listen), ("ENCRYPTION__KEYS", keys)]);
    let (authorization, server) = protected().await;
    let mut service = start(&old);
    let id = service.authorized(&server).await;
    service.stop().await;
    assert!(in_use(directory.path(), &[("ENCRYPTION__KEYS", &old)]).starts_with("1\t"));

    // Before anything is sealed anew, the old key is missed.
    let refused = run(directory.path(), &[], &[("ENCRYPTION__KEYS", &new), ("SERVER__LISTEN", "127.0.0.1:0")]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).lines().last().unwrap().to_owned();
    assert!(told.starts_with("connectors: ") && told.contains("\"1\""), "{told}");

    let mut service = start(&both);
    service.counts(&id).await;
    loop {
        service.stop().await;
        let told = in_use(directory.path(), &[("ENCRYPTION__KEYS", &both)]);
        service = start(&both);
        if told.lines().all(|line| line.starts_with("2\t")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    service.stop().await;

    let mut service = start(&new);
    service.counts(&id).await;
    authorization.expire_access_tokens();
    service.counts(&id).await;
    assert_eq!((authorization.counters().refreshes, authorization.counters().registrations), (1, 1));
    assert_eq!(service.disconnect(&id).await.0, 200);
    service.authorize(&id).await;
    assert_eq!(authorization.counters().registrations, 1, "the registration was sealed anew as well");
    service.stop().await;

    let refused = run(directory.path(), &[], &[("ENCRYPTION__KEYS", &wrong), ("SERVER__LISTEN", "127.0.0.1:0")]);
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).lines().last().unwrap().to_owned();
    assert!(told.starts_with("connectors: the encryption key \"2\" is not the key"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_change_their_keys_one_after_the_other_and_no_call_fails() {
    let Some(schema) = Schema::create() else { return };
    let directory = tempfile::tempdir().unwrap();
    let database = schema.url();
    let start =
        |keys: &str| Service::start_with(directory.path(), &[("DATABASE__URL", &database), ("ENCRYPTION__KEYS", keys)]);
    let (authorization, server) = protected().await;
    let mut replicas = [start(&keys(&["1"])), start(&keys(&["1"]))];
    let mut ids = Vec::new();
    for number in 0..20 {
        let id = replicas[0].create(&format!("{}?{number}", server.url())).await;
        ids.push(id);
    }
    let id = replicas[0].authorized(&server).await;
    for (round, ring) in [&["1", "2"][..], &["2", "1"], &["2"]].into_iter().enumerate() {
        let ring = keys(ring);
        for number in [0, 1] {
            // The other one is busy meanwhile.
            let load = Load::on(&replicas[1 - number], &id);
            replicas[number].stop().await;
            replicas[number] = start(&ring);
            authorization.expire_access_tokens();
            replicas[number].counts(&id).await;
            if round == 1 && number == 1 {
                let environment = [("DATABASE__URL", database.as_str()), ("ENCRYPTION__KEYS", &ring)];
                while !in_use(directory.path(), &environment).lines().all(|line| line.starts_with("2\t")) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            assert!(load.ended().await > 0);
        }
    }
    assert_eq!(authorization.counters().reuses, 0);
}

/// Calls, one after the other, none of which may fail.
struct Load {
    over: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<u32>,
}

impl Load {
    fn on(service: &Service, id: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let call = service.tool(id, "count", &serde_json::json!({}));
        let stop = Arc::clone(&over);
        let calls = tokio::spawn(async move {
            let mut calls = 0;
            while !stop.load(Ordering::SeqCst) || calls == 0 {
                let answer = call.try_clone().unwrap().send().await.unwrap();
                let (status, text) = (answer.status(), answer.text().await.unwrap());
                assert!(status == 200 && text.contains("\"result\""), "{status} {text}");
                calls += 1;
            }
            calls
        });
        Self { over, calls }
    }

    async fn ended(self) -> u32 {
        self.over.store(true, Ordering::SeqCst);
        self.calls.await.unwrap()
    }
}
