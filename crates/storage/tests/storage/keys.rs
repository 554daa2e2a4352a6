//! Keys: rotation, wrong ones, lost ones, and the key file of SQLite.

use std::fs;

use connectors_application::ports::Connectors;
use connectors_storage::{KeyRing, OpenError, Store, StoreSettings};

use crate::common::{Database, PLENTY, awaiting, connected, created, on_both, owner, ring};

on_both!(
    old_keys_open_and_the_newest_seals,
    a_wrong_key_is_refused,
    a_missing_key_is_refused_while_something_needs_it,
    a_missing_key_is_forgotten_when_nothing_needs_it,
);

async fn open(database: &Database, keys: &[&str]) -> Result<Store, OpenError> {
    Store::open(StoreSettings { keys: Some(ring(keys)), ..database.settings() }).await
}

async fn old_keys_open_and_the_newest_seals(database: Database) {
    let store = open(&database, &["a"]).await.unwrap();
    let (old, new) = (connected(1), awaiting(2));
    store.insert(old.clone(), PLENTY).await.unwrap();
    drop(store);

    let store = open(&database, &["b", "a"]).await.unwrap();
    store.insert(new.clone(), PLENTY).await.unwrap();
    assert_eq!(store.find(owner(), old.id).await.unwrap().as_ref(), Some(&old));
    drop(store);
    let missing = open(&database, &["b"]).await.unwrap_err();
    assert!(matches!(&missing, OpenError::KeyMissing { id, values: 1 } if id == "a"), "{missing:?}");

    // Stored once more, the connector is sealed with the new key, and the old one can go.
    let store = open(&database, &["b", "a"]).await.unwrap();
    let old = store.update(old).await.unwrap();
    drop(store);
    let store = open(&database, &["b"]).await.unwrap();
    assert_eq!(store.find(owner(), old.id).await.unwrap(), Some(old));
    assert_eq!(store.find(owner(), new.id).await.unwrap(), Some(new));
    let ids = match &database {
        Database::Sqlite(_) => "SELECT group_concat(id) FROM sealing_keys",
        Database::Postgres(_) => "SELECT string_agg(id, ',') FROM sealing_keys",
    };
    assert_eq!(database.texts(ids).await, ["b"]);
}

async fn a_wrong_key_is_refused(database: Database) {
    drop(open(&database, &["a"]).await.unwrap());
    for keys in [&["a/2"][..], &["b", "a/2"]] {
        let error = open(&database, keys).await.unwrap_err();
        assert!(matches!(&error, OpenError::WrongKey { id } if id == "a"), "{error:?}");
    }
    open(&database, &["a"]).await.unwrap();
}

async fn a_missing_key_is_refused_while_something_needs_it(database: Database) {
    let store = open(&database, &["a"]).await.unwrap();
    for connector in [connected(1), created(2), awaiting(3)] {
        store.insert(connector, PLENTY).await.unwrap();
    }
    drop(store);
    let error = open(&database, &["b"]).await.unwrap_err();
    assert!(matches!(&error, OpenError::KeyMissing { id, values: 2 } if id == "a"), "{error:?}");
    assert!(error.to_string().contains("add that key again"), "{error}");
    open(&database, &["a"]).await.unwrap();
}

async fn a_missing_key_is_forgotten_when_nothing_needs_it(database: Database) {
    let store = open(&database, &["a"]).await.unwrap();
    store.insert(created(1), PLENTY).await.unwrap();
    drop(store);
    drop(open(&database, &["b"]).await.unwrap());
    // Even another key of the same id is welcome then.
    open(&database, &["a/2", "b"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_does_not_open_without_keys() {
    let Some(database) = Database::postgres().await else { return };
    let error = Store::open(StoreSettings { keys: None, ..database.settings() }).await.unwrap_err();
    assert!(matches!(error, OpenError::KeysRequired));
    assert!(error.to_string().contains("openssl rand -base64 32"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_makes_its_own_key_file_and_never_replaces_one_that_is_needed() {
    let database = Database::sqlite();
    let settings = || StoreSettings { keys: None, ..database.settings() };
    let file = database.path().with_extension("key");
    let store = Store::open(settings()).await.unwrap();
    let first = fs::read(&file).unwrap();
    drop(store);

    // Nothing is sealed yet, so a lost key is no loss.
    fs::remove_file(&file).unwrap();
    let store = Store::open(settings()).await.unwrap();
    let second = fs::read(&file).unwrap();
    assert_ne!(first, second);
    store.insert(connected(1), PLENTY).await.unwrap();
    drop(store);

    fs::remove_file(&file).unwrap();
    let error = Store::open(settings()).await.unwrap_err();
    assert!(matches!(error, OpenError::KeyFileMissing { values: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("connectors.key") && error.to_string().contains("restore"), "{error}");
    assert!(!file.exists());

    // The key of another database is no help.
    KeyRing::load_or_create(&file).unwrap();
    assert!(matches!(Store::open(settings()).await.unwrap_err(), OpenError::KeyMissing { .. }));
    fs::write(&file, &second).unwrap();
    let store = Store::open(settings()).await.unwrap();
    assert_eq!(store.find(owner(), connected(1).id).await.unwrap(), Some(connected(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_file_is_refused() {
    let database = Database::sqlite();
    let settings = || StoreSettings { keys: None, ..database.settings() };
    drop(Store::open(settings()).await.unwrap());
    let file = database.path().with_extension("key");
    fs::write(&file, "").unwrap();
    let error = Store::open(settings()).await.unwrap_err();
    assert!(error.to_string().contains("damaged"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"");
}
