//! Checking finds what opening would find, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use connectors_application::ports::Connectors;
use connectors_storage::{Checked, DatabaseUrl, OpenError, Store, StoreSettings};

use crate::common::{Database, PLENTY, connected, created, on_both, ring};

on_both!(keys_are_held_against_the_database, a_database_that_lacks_migrations_is_left_as_it_is);

/// What there is in a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

/// Checks a SQLite database whose keys are in its key file.
async fn check(path: &Path) -> Result<Checked, OpenError> {
    let before = files(path.parent().unwrap());
    let checked = Store::check(StoreSettings::new(DatabaseUrl::sqlite(path))).await;
    assert!(files(path.parent().unwrap()) == before, "{checked:?}");
    checked
}

async fn keys_are_held_against_the_database(database: Database) {
    let check =
        async |keys: &[&str]| Store::check(StoreSettings { keys: Some(ring(keys)), ..database.settings() }).await;
    let stored = match &database {
        Database::Sqlite(_) => "SELECT group_concat(id || hex(canary)) FROM sealing_keys",
        Database::Postgres(_) => "SELECT string_agg(id || encode(canary, 'hex'), ',') FROM sealing_keys",
    };
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    drop(store);
    let before = database.texts(stored).await;
    assert_eq!(check(&["a"]).await.unwrap(), Checked::Ready);
    assert_eq!(check(&["b", "a"]).await.unwrap(), Checked::Ready);
    assert!(matches!(check(&["a/2"]).await, Err(OpenError::WrongKey { id }) if id == "a"));
    assert!(matches!(check(&["b"]).await, Err(OpenError::KeyMissing { id, values: 1 }) if id == "a"));
    database.execute("DELETE FROM connectors").await;
    // Opening would forget the one key and leave a canary for the other.
    assert_eq!(check(&["b"]).await.unwrap(), Checked::Ready);
    assert_eq!(database.texts(stored).await, before);
    database.open().await;
}

async fn a_database_that_lacks_migrations_is_left_as_it_is(database: Database) {
    let tables = match &database {
        Database::Sqlite(_) => "SELECT group_concat(name) FROM sqlite_master",
        Database::Postgres(_) => "SELECT string_agg(tablename, ',') FROM pg_tables WHERE schemaname = current_schema()",
    };
    if let Database::Sqlite(_) = database {
        fs::write(database.path(), "").unwrap();
    }
    let error = Store::check(database.settings()).await.unwrap_err();
    let OpenError::MigrationsPending(names) = &error else { panic!("{error:?}") };
    assert_eq!(names, &["0001_connectors", "0002_authorization", "0003_renewal", "0004_access"]);
    assert_eq!(database.texts(tables).await, Vec::<String>::new());
    Store::migrate(database.settings()).await.unwrap();
    assert_eq!(Store::check(database.settings()).await.unwrap(), Checked::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connectors.db");
    assert_eq!(check(&path).await.unwrap(), Checked::NoDatabase);

    // What would stop the start stops the check.
    fs::write(path.with_extension("key"), "").unwrap();
    assert!(matches!(check(&path).await, Err(OpenError::Keys(_))));
    let nowhere = DatabaseUrl::sqlite(directory.path().join("none/connectors.db"));
    for error in [
        Store::check(StoreSettings::new(nowhere.clone())).await.unwrap_err(),
        Store::open(StoreSettings::new(nowhere)).await.unwrap_err(),
    ] {
        assert!(error.to_string().contains("cannot be made, because its directory does not exist"), "{error}");
    }
    let error = Store::check(StoreSettings::new(DatabaseUrl::sqlite(directory.path()))).await.unwrap_err();
    assert!(error.to_string().ends_with("is a directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_database_is_made_or_changed() {
    let directory = tempfile::tempdir().unwrap();
    // A name that has to be escaped.
    let path = directory.path().join("a#b%20c.db");
    let settings = || StoreSettings::new(DatabaseUrl::sqlite(&path));
    Store::migrate(settings()).await.unwrap();
    assert_eq!(check(&path).await.unwrap(), Checked::NoKeyFile);

    let store = Store::open(settings()).await.unwrap();
    assert!(matches!(check(&path).await, Err(OpenError::InUse { .. })));
    store.insert(created(1), PLENTY).await.unwrap();
    drop(store);
    assert_eq!(check(&path).await.unwrap(), Checked::Ready);

    let key = path.with_extension("key");
    let moved = path.with_extension("moved");
    fs::rename(&key, &moved).unwrap();
    assert_eq!(check(&path).await.unwrap(), Checked::NoKeyFile);
    fs::rename(&moved, &key).unwrap();

    let store = Store::open(settings()).await.unwrap();
    store.insert(connected(2), PLENTY).await.unwrap();
    drop(store);
    assert_eq!(check(&path).await.unwrap(), Checked::Ready);
    fs::rename(&key, &moved).unwrap();
    assert!(matches!(check(&path).await, Err(OpenError::KeyFileMissing { values: 1, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_in_the_log_is_read_and_stays_there() {
    let database = Database::sqlite();
    let store = Store::open(StoreSettings { keys: None, ..database.settings() }).await.unwrap();
    store.insert(connected(1), PLENTY).await.unwrap();
    // What a process leaves behind that is killed now.
    let crashed = tempfile::tempdir().unwrap();
    for (name, bytes) in files(database.path().parent().unwrap()) {
        fs::write(crashed.path().join(name), bytes).unwrap();
    }
    drop(store);
    let path = crashed.path().join("connectors.db");
    let key = path.with_extension("key");
    fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(files(crashed.path())["connectors.db-wal"].len() > 32);
    assert_eq!(check(&path).await.unwrap(), Checked::Ready);
    // The secret is in the log alone.
    fs::remove_file(&key).unwrap();
    assert!(matches!(check(&path).await, Err(OpenError::KeyFileMissing { values: 1, .. })));

    fs::remove_file(crashed.path().join("connectors.db-shm")).unwrap();
    let checked = Store::check(StoreSettings::new(DatabaseUrl::sqlite(&path))).await;
    assert!(matches!(checked, Err(OpenError::KeyFileMissing { values: 1, .. })), "{checked:?}");
}
