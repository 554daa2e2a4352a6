//! PostgreSQL that goes away, hangs, or never was there.

use std::time::Duration;

use connectors_application::ports::{Connectors, StoreError, UpdateError};
use connectors_storage::{DatabaseUrl, Limits, OpenError, Store, StoreSettings};
use tokio::time::{Instant, timeout};

use crate::common::{Database, PLENTY, connect, connected, created, owner, ring};

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_are_replaced() {
    let Some(database) = Database::postgres().await else { return };
    let url = format!("{}&application_name=connectors-test-cut", database.url());
    let store = Store::open(StoreSettings { url: url.parse().unwrap(), ..database.settings() }).await.unwrap();
    store.insert(connected(1), PLENTY).await.unwrap();
    let admin = connect(&database.url()).await;
    for _ in 0..5 {
        let cut =
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'connectors-test-cut'";
        assert!(!admin.query(cut, &[]).await.unwrap().is_empty());
        // At most the calls that come before the cut is noticed fail, and they say that it passes.
        let found = async {
            loop {
                match store.find(owner(), connected(1).id).await {
                    Ok(found) => return found,
                    Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let found = timeout(Duration::from_secs(5), found).await.unwrap();
        assert_eq!(found, Some(connected(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_locked_for_too_long_is_an_outage_that_passes() {
    let Some(database) = Database::postgres().await else { return };
    let limits = Limits {
        connections: 1,
        statement_timeout: Duration::from_millis(400),
        acquire_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let store = Store::open(StoreSettings { limits, ..database.settings() }).await.unwrap();
    store.insert(connected(1), PLENTY).await.unwrap();
    let other = connect(&database.url()).await;
    other.batch_execute("BEGIN; SELECT * FROM connectors FOR UPDATE").await.unwrap();

    let (updated, found) = tokio::join!(store.update(connected(1)), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The only connection waits for the lock.
        store.find(owner(), connected(1).id).await
    });
    assert!(matches!(updated, Err(UpdateError::Store(StoreError::Unavailable(_)))), "{updated:?}");
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");

    other.batch_execute("ROLLBACK").await.unwrap();
    let settled = async {
        while store.ready().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        store.update(connected(1)).await.unwrap()
    };
    timeout(Duration::from_secs(5), settled).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_refused() {
    let Some(database) = Database::postgres().await else { return };
    let url = format!("{}%20-cdefault_transaction_read_only%3Don", database.url());
    database.open().await;
    let error = Store::open(StoreSettings { url: url.parse().unwrap(), ..database.settings() }).await.unwrap_err();
    assert!(matches!(error, OpenError::Connect { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_or_says_nothing_is_named_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap();
    for address in ["127.0.0.1:1".to_owned(), silent.to_string()] {
        let url: DatabaseUrl = format!("postgres://user:hunter2@{address}/test").parse().unwrap();
        let limits = Limits { connect_timeout: Duration::from_millis(300), ..Limits::default() };
        let start = Instant::now();
        let settings = StoreSettings { limits, keys: Some(ring(&["a"])), ..StoreSettings::new(url) };
        let error = Store::open(settings).await.unwrap_err();
        assert!(matches!(error, OpenError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains(&address), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_vanishes_is_an_error_and_not_an_empty_store() {
    let Some(database) = Database::postgres().await else { return };
    let store = database.open().await;
    database.execute("DROP TABLE connectors").await;
    assert!(store.ready().await.is_err());
    assert!(store.find(owner(), created(1).id).await.is_err());
}
