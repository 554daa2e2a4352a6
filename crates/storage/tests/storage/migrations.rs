//! Migrations: at once, beforehand, and older than the database.

use std::time::{Duration, Instant};

use connectors_application::ports::Connectors;
use connectors_storage::{Limits, Migrations, OpenError, Store, StoreSettings};

use crate::common::{Database, PLENTY, connect, connected, on_both, owner};

on_both!(
    migrating_at_once_from_many_places_succeeds_once,
    a_database_that_lacks_migrations_can_be_refused,
    a_database_of_a_newer_program_is_served,
);

async fn migrating_at_once_from_many_places_succeeds_once(database: Database) {
    let migrate = || Store::migrate(database.settings());
    let (first, second, third, fourth) = tokio::join!(migrate(), migrate(), migrate(), migrate());
    let names: Vec<_> = [first, second, third, fourth].into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(names, ["0001_connectors", "0002_authorization", "0003_renewal", "0004_access"]);
    database.open().await.ready().await.unwrap();
}

async fn a_database_that_lacks_migrations_can_be_refused(database: Database) {
    let check = || StoreSettings { migrations: Migrations::Check, ..database.settings() };
    let error = Store::open(check()).await.unwrap_err();
    let OpenError::MigrationsPending(names) = &error else { panic!("{error:?}") };
    assert_eq!(names, &["0001_connectors", "0002_authorization", "0003_renewal", "0004_access"]);
    assert!(error.to_string().contains("connectors migrate"));
    Store::migrate(database.settings()).await.unwrap();
    Store::open(check()).await.unwrap().ready().await.unwrap();
}

async fn a_database_of_a_newer_program_is_served(database: Database) {
    let older = database.open().await;
    older.insert(connected(1), PLENTY).await.unwrap();
    // While the older one serves.
    database
        .execute(
            "ALTER TABLE connectors ADD COLUMN of_tomorrow TEXT;
             CREATE TABLE tomorrow (id TEXT PRIMARY KEY);
             INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')",
        )
        .await;
    assert_eq!(older.find(owner(), connected(1).id).await.unwrap(), Some(connected(1)));
    older.insert(connected(2), PLENTY).await.unwrap();
    drop(older);
    for migrations in [Migrations::Run, Migrations::Check] {
        let store = Store::open(StoreSettings { migrations, ..database.settings() }).await.unwrap();
        assert_eq!(store.find(owner(), connected(2).id).await.unwrap(), Some(connected(2)));
        store.ready().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_another_one_keeps_waiting_gives_up() {
    let Some(database) = Database::postgres().await else { return };
    // The lock is one for all schemas, so other tests may have it for a moment.
    let other = connect(&database.url()).await;
    other.batch_execute("SELECT pg_advisory_lock(7165066952596223087)").await.unwrap();
    let limits = Limits { migration_wait: Duration::from_millis(200), ..Limits::default() };
    let start = Instant::now();
    let error = Store::migrate(StoreSettings { limits, ..database.settings() }).await.unwrap_err();
    assert!(matches!(error, OpenError::MigrationLocked), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    other.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    Store::migrate(database.settings()).await.unwrap();
}
