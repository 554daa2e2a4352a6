//! The files of a SQLite database: who may read them, who may use them, and what is said when they cannot be used.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use connectors_storage::{DatabaseUrl, OpenError, Store, StoreSettings};

use crate::common::Database;

async fn refused(path: &std::path::Path) -> String {
    let error = Store::open(StoreSettings::new(DatabaseUrl::sqlite(path))).await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_are_their_owners_alone() {
    let database = Database::sqlite();
    let _store = Store::open(StoreSettings { keys: None, ..database.settings() }).await.unwrap();
    let directory = database.path().parent().unwrap().to_owned();
    let mut names = Vec::new();
    for file in fs::read_dir(directory).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    let expected = ["connectors.db", "connectors.db-shm", "connectors.db-wal", "connectors.db.lock", "connectors.key"];
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_served_by_one_store_at_a_time_under_any_name() {
    let database = Database::sqlite();
    let store = database.open().await;
    let link = database.path().with_file_name("link.db");
    symlink(database.path(), &link).unwrap();
    for path in [database.path(), link] {
        let settings = StoreSettings { url: DatabaseUrl::sqlite(path), ..database.settings() };
        let error = Store::open(settings).await.unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
        assert!(error.to_string().contains("in use by another process"));
    }
    let clone = store.clone();
    drop(store);
    assert!(Store::open(database.settings()).await.is_err());
    drop(clone);
    database.open().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_may_run_beside_a_serving_store() {
    let database = Database::sqlite();
    let _store = database.open().await;
    assert_eq!(Store::migrate(database.settings()).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);

    assert!(refused(&path("none/x.db")).await.contains("none/x.db cannot be made, because its directory"));
    assert!(refused(directory.path()).await.contains("is a directory"));

    fs::write(path("text.db"), "this is no database, but long enough to have a header of one hundred bytes".repeat(3))
        .unwrap();
    assert!(refused(&path("text.db")).await.contains("file is not a database"));

    fs::write(path("sealed.db"), "").unwrap();
    fs::set_permissions(path("sealed.db"), fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read anything.
    if fs::read(path("sealed.db")).is_err() {
        assert!(refused(&path("sealed.db")).await.contains("may not be read and written"));
    }
}

#[test]
fn a_runtime_of_one_thread_is_refused() {
    let database = Database::sqlite();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Store::open(database.settings())).unwrap_err();
    assert!(matches!(error, OpenError::Runtime));
}
