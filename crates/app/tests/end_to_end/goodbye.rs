//! What is left at the authorization server when a connector goes.

use std::time::{Duration, Instant};

use connectors_application::ports::{RevocationKey, Revocations};
use connectors_domain::ConnectorId;
use connectors_storage::{Store, StoreSettings};
use connectors_testkit::authorization_server::{AuthorizationServer, Behaviour, Endpoint, Hold, parameter};
use jiff::Timestamp;

use crate::support::{Service, free_address, protected, until};

const SECOND: Duration = Duration::from_secs(1);

/// The tokens whose revocation was asked for, in order, with their kinds.
fn revoked(authorization: &AuthorizationServer) -> Vec<(String, String)> {
    let requests = authorization.requests_to(Endpoint::Revocation);
    let form = |body: &[u8], name| parameter(&format!("http://x/?{}", String::from_utf8_lossy(body)), name).unwrap();
    requests.iter().map(|request| (form(&request.body, "token_type_hint"), form(&request.body, "token"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_and_delete_revoke_the_refresh_token_and_then_the_access_token() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    for delete in [false, true] {
        let (authorization, server) = protected().await;
        let id = service.authorized(&server).await;
        service.counts(&id).await;
        let access = server.requests_for("tools/call")[0].bearer().unwrap().to_owned();
        if delete {
            assert_eq!(service.delete(&id).await, 204);
            assert_eq!(service.count(&id).await.0, 404);
        } else {
            assert_eq!(service.disconnect(&id).await.1["disconnect_code"], "client_request");
        }
        until("both are revoked", || revoked(&authorization).len() == 2).await;
        let tokens = revoked(&authorization);
        assert_eq!((tokens[0].0.as_str(), tokens[1].0.as_str()), ("refresh_token", "access_token"));
        assert!(tokens[0].1.starts_with("refresh-"));
        assert_eq!(tokens[1].1, access);
        assert!(authorization.grants().iter().all(|grant| grant.revoked));
        assert_eq!(authorization.token_info(&access), None);
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn goodbye_does_not_wait_for_a_server_that_hangs_and_is_said_again_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_address();
    let environment = [("SERVER__LISTEN", listen.as_str()), ("BACKGROUND__INTERVAL", "0.1")];
    let mut service = Service::start_with(directory.path(), &environment);
    let (authorization, server) = protected().await;
    let id = service.authorized(&server).await;
    authorization.script(authorization.on(Endpoint::Revocation, Behaviour::hang()));
    let begun = Instant::now();
    assert_eq!(service.delete(&id).await, 204);
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    until("it is asked", || revoked(&authorization).len() == 1).await;
    assert_eq!(service.read(&id).await["status"], 404);

    // It dies meanwhile. What it had in hand is put off; here the time is brought forward.
    service.kill();
    authorization.behave();
    assert!(!authorization.grants()[0].revoked);
    let store = format!("sqlite:{}", directory.path().join("connectors.db").display()).parse().unwrap();
    let store = Store::open(StoreSettings::new(store)).await.unwrap();
    let connector = ConnectorId::from_uuid(id.parse().unwrap());
    for generation in 1..10 {
        store.postpone(RevocationKey { connector, generation }, Timestamp::UNIX_EPOCH).await.unwrap();
    }
    drop(store);
    let _service = Service::start_with(directory.path(), &environment);
    until("it is revoked", || revoked(&authorization).len() == 3).await;
    assert!(authorization.grants()[0].revoked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_ends_after_the_delete_is_revoked_and_stored_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &[("BACKGROUND__INTERVAL", "0.1")]);
    for delete in [true, false] {
        let (authorization, server) = protected().await;
        let id = service.authorized(&server).await;
        let hold = Hold::new();
        authorization.script(authorization.once(Endpoint::Refresh, Behaviour::held(&hold)));
        authorization.expire_access_tokens();
        let call = tokio::spawn(service.tool(&id, "count", &serde_json::json!({})).send());
        until("a renewal is under way", || authorization.counters().refreshes == 1).await;
        if delete {
            assert_eq!(service.delete(&id).await, 204);
        } else {
            assert_eq!(service.disconnect(&id).await.0, 200);
        }
        hold.release();
        let answer = call.await.unwrap().unwrap();
        assert!(answer.status() == if delete { 404 } else { 200 }, "{}", answer.status());
        assert!(!answer.text().await.unwrap().contains("\"result\""));
        assert_eq!(server.count(), 0);

        // The old pair, spent, and the new one.
        until("all is revoked", || revoked(&authorization).len() == 4).await;
        let tokens: std::collections::BTreeSet<_> = revoked(&authorization).into_iter().collect();
        assert_eq!(tokens.len(), 4, "{tokens:?}");
        assert!(authorization.grants()[0].revoked);
        let read = service.read(&id).await;
        assert!(read["status"] == 404 || read["disconnect_code"] == "client_request", "{read}");
    }
}
