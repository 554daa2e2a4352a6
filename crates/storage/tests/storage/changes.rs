//! What replicas tell each other, beyond the contract: lost connections, slow followers, the end, and SQLite.

use std::time::Duration;

use connectors_application::ports::{ChangeStream, Changes, Connectors, Noted};
use connectors_storage::{Store, StoreSettings};
use futures_util::StreamExt;
use tokio::time::timeout;

use crate::common::{Database, PLENTY, connect, connected, created, owner};

const SOON: Duration = Duration::from_secs(5);

/// A store whose connections can be told from others, and that name.
async fn named(database: &Database, name: &str) -> Store {
    let url = format!("{}&application_name={name}", database.url());
    Store::open(StoreSettings { url: url.parse().unwrap(), ..database.settings() }).await.unwrap()
}

/// Follows, and waits until changes are heard of.
async fn follow(store: &Store) -> ChangeStream {
    let mut changes = store.follow();
    assert_eq!(next(&mut changes).await, Noted::Everything);
    changes
}

async fn next(changes: &mut ChangeStream) -> Noted {
    timeout(SOON, changes.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_comes_from_one_replica_to_another() {
    let Some(database) = Database::postgres().await else { return };
    let (here, there) = (database.open().await, database.open().await);
    let mut changes = follow(&here).await;
    there.insert(connected(1), PLENTY).await.unwrap();
    assert_eq!(next(&mut changes).await, Noted::Connector(connected(1).id));
    there.remove(owner(), connected(1).id).await.unwrap();
    assert_eq!(next(&mut changes).await, Noted::Connector(connected(1).id));
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_of_one_database_do_not_hear_each_other() {
    let (Some(first), Some(second)) = (Database::postgres().await, Database::postgres().await) else { return };
    let (here, there) = (first.open().await, second.open().await);
    let mut changes = follow(&here).await;
    there.insert(created(1), PLENTY).await.unwrap();
    here.insert(created(2), PLENTY).await.unwrap();
    assert_eq!(next(&mut changes).await, Noted::Connector(created(2).id));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_everything_may_have_changed() {
    let Some(database) = Database::postgres().await else { return };
    let store = named(&database, "connectors-test-lost").await;
    let mut changes = follow(&store).await;
    let admin = connect(&database.url()).await;
    for number in 1..=3 {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'connectors-test-lost' AND query LIKE '%LISTEN%'";
        assert_eq!(admin.query(cut, &[]).await.unwrap().len(), 1);
        assert_eq!(next(&mut changes).await, Noted::Everything);
        store.insert(created(number), PLENTY).await.unwrap();
        assert_eq!(next(&mut changes).await, Noted::Connector(created(number).id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_too_slow_is_told_that_it_missed_something() {
    let Some(database) = Database::postgres().await else { return };
    let store = database.open().await;
    let mut slow = follow(&store).await;
    let mut quick = store.follow();
    let admin = connect(&database.url()).await;
    let flood = "SELECT pg_notify('connectors_' || 'connectors'::regclass::oid, gen_random_uuid()::text) \
                 FROM generate_series(1, 500)";
    for _ in 0..6 {
        admin.query(flood, &[]).await.unwrap();
        for _ in 0..500 {
            assert!(matches!(next(&mut quick).await, Noted::Connector(_)));
        }
    }
    assert_eq!(next(&mut slow).await, Noted::Everything);
    // From then on it hears what comes, and not what was.
    store.insert(created(1), PLENTY).await.unwrap();
    assert_eq!(next(&mut slow).await, Noted::Connector(created(1).id));
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_begins_with_the_first_follower_and_ends_with_the_store() {
    let Some(database) = Database::postgres().await else { return };
    let name = "connectors-test-listener";
    let admin = connect(&database.url()).await;
    let listeners = async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND query LIKE '%LISTEN%'";
        admin.query_one(count, &[&name]).await.unwrap().get::<_, i64>(0)
    };
    let store = named(&database, name).await;
    assert_eq!(listeners().await, 0);
    let mut changes = follow(&store).await;
    let clone = store.clone();
    drop((store.follow(), clone.follow()));
    assert_eq!(listeners().await, 1, "one for all");
    drop(store);
    clone.insert(created(1), PLENTY).await.unwrap();
    assert_eq!(next(&mut changes).await, Noted::Connector(created(1).id));
    drop(clone);
    let gone = async {
        while listeners().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    assert!(timeout(Duration::from_millis(50), changes.next()).await.is_err(), "it never ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_tells_anything_of_sqlite() {
    let database = Database::sqlite();
    let store = database.open().await;
    let mut changes = store.follow();
    store.insert(created(1), PLENTY).await.unwrap();
    assert!(timeout(Duration::from_millis(50), changes.next()).await.is_err());
}
