//! Another program that holds SQLite's write lock.

use std::time::Duration;

use connectors_application::ports::{Connectors, InsertError, StoreError};
use connectors_storage::{Limits, Store, StoreSettings};
use diesel::connection::SimpleConnection;
use tokio::time::Instant;

use crate::common::{Database, PLENTY, connected, created, owner};

/// Holds the write lock for `time`, from when this returns.
async fn hold(database: &Database, time: Duration) -> tokio::task::JoinHandle<()> {
    let mut connection = database.raw();
    let (held, holds) = tokio::sync::oneshot::channel();
    let holder = tokio::task::spawn_blocking(move || {
        connection.batch_execute("BEGIN IMMEDIATE").unwrap();
        held.send(()).unwrap();
        std::thread::sleep(time);
        connection.batch_execute("COMMIT").unwrap();
    });
    holds.await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_and_readers_do_not() {
    let database = Database::sqlite();
    let store = database.open().await;
    for number in 1..=3 {
        store.insert(created(number), PLENTY).await.unwrap();
    }
    let start = Instant::now();
    let held = Duration::from_secs(2);
    let holder = hold(&database, held).await;

    let inserted = store.insert(created(4), PLENTY);
    let updated = store.update(connected(1));
    let removed = store.remove(owner(), created(2).id);
    let read = async {
        for _ in 0..20 {
            assert_eq!(store.find(owner(), created(3).id).await.unwrap(), Some(created(3)));
        }
        start.elapsed()
    };
    let (inserted, updated, removed, read) = tokio::join!(inserted, updated, removed, read);
    inserted.unwrap();
    updated.unwrap();
    assert_eq!(removed.unwrap(), Some(created(2)).into());
    assert!(start.elapsed() >= held);
    assert!(read < held, "{read:?}");
    holder.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_held_too_long_is_an_outage_that_passes() {
    let database = Database::sqlite();
    let limits = Limits { busy_timeout: Duration::from_millis(200), ..Limits::default() };
    let store = Store::open(StoreSettings { limits, ..database.settings() }).await.unwrap();
    store.insert(created(1), PLENTY).await.unwrap();
    let holder = hold(&database, Duration::from_secs(2)).await;
    let insert = store.insert(created(2), PLENTY).await;
    assert!(matches!(insert, Err(InsertError::Store(StoreError::Unavailable(_)))), "{insert:?}");
    let removed = store.remove(owner(), created(1).id).await;
    assert!(matches!(removed, Err(StoreError::Unavailable(_))), "{removed:?}");
    store.ready().await.unwrap();
    holder.await.unwrap();
    store.insert(created(2), PLENTY).await.unwrap();
    assert_eq!(store.remove(owner(), created(1).id).await.unwrap(), Some(created(1)).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_is_an_outage_that_passes() {
    let database = Database::sqlite();
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    // A trigger stands in for the full disk: it fails as one does, in the middle of a transaction.
    database
        .execute(
            "CREATE TRIGGER full BEFORE INSERT ON connectors BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END",
        )
        .await;
    let insert = store.insert(connected(2), PLENTY).await;
    assert!(matches!(insert, Err(InsertError::Store(StoreError::Unavailable(_)))), "{insert:?}");
    assert_eq!(store.find(owner(), connected(1).id).await.unwrap(), Some(connected(1)));
    database.execute("DROP TRIGGER full").await;
    store.insert(connected(2), PLENTY).await.unwrap();
}

#[test]
fn a_caller_on_a_runtime_of_one_thread_may_go_away() {
    let database = Database::sqlite();
    // As with actix: each worker has a runtime of one thread, where the SQLite driver would panic.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let store = runtime.block_on(database.open());
    let worker = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    worker.block_on(async {
        let holder = hold(&database, Duration::from_millis(500)).await;
        let start = Instant::now();
        let insert = tokio::time::timeout(Duration::from_millis(50), store.insert(connected(1), PLENTY)).await;
        assert!(insert.is_err());
        assert!(start.elapsed() < Duration::from_millis(400), "going away does not block");
        // What was begun goes on without its caller.
        holder.await.unwrap();
        assert!(matches!(store.insert(connected(1), PLENTY).await, Err(InsertError::Duplicate)));
        assert_eq!(store.find(owner(), connected(1).id).await.unwrap(), Some(connected(1)));
    });
}
