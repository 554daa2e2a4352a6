//! What clients hold, beyond the contract: good on every replica, and for as long as its key is in the ring.

use connectors_application::ports::{Connectors, Seal, SealPurpose, Sealer};
use connectors_storage::{Store, StoreSettings};

use crate::common::{Database, PLENTY, connected, on_both, ring};

on_both!(what_one_process_has_sealed_another_opens, what_clients_hold_keeps_no_key_in_the_ring);

fn seal() -> Seal {
    Seal { purpose: SealPurpose::McpSession, bound_to: vec!["owner".into(), "connector".into()] }
}

async fn open(database: &Database, keys: &[&str]) -> Store {
    Store::open(StoreSettings { keys: Some(ring(keys)), ..database.settings() }).await.unwrap()
}

fn opened(store: &Store, sealed: &str) -> Option<String> {
    Sealer::open(store, &seal(), sealed).map(|text| text.expose().to_owned())
}

async fn what_one_process_has_sealed_another_opens(database: Database) {
    let store = open(&database, &["a"]).await;
    let sealed = store.seal(&seal(), "session").unwrap();
    drop(store);
    // While the key is being changed, some seal under the one and some under the other.
    for keys in [&["a"][..], &["a", "b"], &["b", "a"]] {
        assert_eq!(opened(&open(&database, keys).await, &sealed).as_deref(), Some("session"), "{keys:?}");
    }
    let other = Database::sqlite();
    assert_eq!(opened(&open(&other, &["a"]).await, &sealed).as_deref(), Some("session"), "the keys are all it takes");
}

/// Neither does anything seal it anew: with its key it has ended.
async fn what_clients_hold_keeps_no_key_in_the_ring(database: Database) {
    let store = open(&database, &["a"]).await;
    let sealed = store.seal(&seal(), "session").unwrap();
    assert_eq!(store.keys_in_use().await.unwrap(), []);
    drop(store);
    let store = open(&database, &["b"]).await;
    assert_eq!(opened(&store, &sealed), None);
    store.insert(connected(1), PLENTY).await.unwrap();
    drop(store);
    // Another key of the same id is another key.
    assert_eq!(opened(&open(&database, &["a/2", "b"]).await, &sealed), None);
}
