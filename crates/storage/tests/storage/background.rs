//! Leases, due work and revocations where the database is damaged, full, or was left behind.

use std::process::{Command, Stdio};
use std::time::Duration;

use connectors_application::ports::{
    Agenda, Claim, Claimed, Connectors, Removed, RenewalKey, Renewals, Revocation, RevocationKey, Revocations,
    StoreError,
};
use connectors_domain::{Connector, DisconnectCode, Event, OwnerId};
use connectors_storage::{DatabaseUrl, Store, StoreSettings};
use uuid::Uuid;

use crate::common::{Database, PLENTY, code, connected, created, grant, now, on_both, owner, ring};

on_both!(
    a_row_that_makes_no_sense_is_put_off_for_good,
    a_secret_that_does_not_open_is_due_like_any_other,
    a_grant_that_does_not_open_is_not_renewed,
    a_given_up_grant_lies_sealed_in_its_own_row_only,
    a_grant_that_does_not_open_does_not_keep_its_connector_from_going,
    a_grant_in_a_row_that_makes_no_sense_is_revoked,
    a_claim_in_a_full_database_leaves_no_mark,
    clocks_of_processes_do_not_matter,
);

const LONG: Duration = Duration::from_mins(10);

fn due(number: u32) -> Connector {
    Connector { due_at: Some(now()), ..connected(number) }
}

fn claim(number: u32, holder: u128) -> Claim {
    let key = RenewalKey { owner: owner(), connector: connected(number).id, generation: 3 };
    Claim { key, holder: Uuid::from_u128(holder), lease: LONG }
}

/// Whether the generation was marked before; `None` if somebody else has it.
async fn interrupted(store: &Store, claim: Claim) -> Option<bool> {
    match store.claim(claim).await.unwrap() {
        Claimed::Yours { interrupted, .. } => Some(interrupted),
        Claimed::Busy => None,
        Claimed::Outdated => panic!("the generation is there"),
    }
}

async fn a_row_that_makes_no_sense_is_put_off_for_good(database: Database) {
    let store = database.open().await;
    for number in 1..=3 {
        store.insert(due(number), PLENTY).await.unwrap();
    }
    let id = created(2).id;
    database.execute(&format!("UPDATE connectors SET state = 'odd' WHERE id = '{id}'")).await;
    let taken = Agenda::take_due(&store, 10, Duration::ZERO).await.unwrap();
    let mut ids: Vec<_> = taken.iter().map(|due| due.connector.id).collect();
    ids.sort();
    assert_eq!(ids, [created(1).id, created(3).id]);
    let sql = format!("SELECT CAST(coalesce(due_at, -1) AS TEXT) FROM connectors WHERE id = '{id}'");
    assert_eq!(database.texts(&sql).await, ["-1"]);
    assert_eq!(Agenda::take_due(&store, 10, LONG).await.unwrap().len(), 2);
    assert_eq!(store.backlog().await.unwrap(), 0);
}

async fn a_secret_that_does_not_open_is_due_like_any_other(database: Database) {
    let store = database.open().await;
    store.insert(due(1), PLENTY).await.unwrap();
    database.execute("UPDATE connectors SET sealed_grant = substr(sealed_grant, 1, 20)").await;
    let taken = Agenda::take_due(&store, 10, LONG).await.unwrap();
    assert_eq!(code(&taken[0].connector), Some(DisconnectCode::CredentialUnreadable));
}

async fn a_grant_that_does_not_open_is_not_renewed(database: Database) {
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    database
        .execute(
            "CREATE TABLE kept AS SELECT sealed_grant FROM connectors;
             UPDATE connectors SET sealed_grant = substr(sealed_grant, 1, 20)",
        )
        .await;
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Outdated);
    // Should it open again, perhaps because a key is back, nobody was interrupted, and nobody is waited for.
    database.execute("UPDATE connectors SET sealed_grant = (SELECT sealed_grant FROM kept)").await;
    assert_eq!(interrupted(&store, claim(1, 2)).await, Some(false));
}

async fn a_given_up_grant_lies_sealed_in_its_own_row_only(database: Database) {
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    store.remove(owner(), connected(1).id).await.unwrap();
    let retired = connected(2);
    store.insert(retired.clone(), PLENTY).await.unwrap();
    let changed = retired.apply(Event::DisconnectRequested, now()).unwrap().connector;
    store.retire(changed, grant(2)).await.unwrap();
    let key = RevocationKey { connector: created(3).id, generation: 3 };
    store.add(Revocation { key, owner: owner(), grant: grant(3) }).await.unwrap();
    let stored = match &database {
        Database::Sqlite(_) => "SELECT group_concat(lower(hex(sealed_grant))) FROM revocations",
        Database::Postgres(_) => "SELECT string_agg(encode(sealed_grant, 'hex'), ',') FROM revocations",
    };
    let text = database.texts(stored).await.concat();
    assert!(text.len() > 600 && !text.contains("63616e617279"), "`canary` in hexadecimal");

    // Each of the three is moved or claimed by another, and one is left.
    let thief = OwnerId::from_uuid(Uuid::from_u128(2));
    let (first, second) = (created(1).id, created(2).id);
    database
        .execute(&format!(
            "UPDATE revocations SET owner = '{thief}' WHERE connector = '{first}';
             UPDATE revocations SET generation = 4 WHERE connector = '{second}'"
        ))
        .await;
    let due = Revocations::take_due(&store, 10, Duration::ZERO).await.unwrap();
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].revocation.key, &due[0].revocation.grant), (key, &grant(3)));
    // What does not open is dropped.
    assert_eq!(database.texts("SELECT CAST(count(*) AS TEXT) FROM revocations").await, ["1"]);
}

async fn a_grant_that_does_not_open_does_not_keep_its_connector_from_going(database: Database) {
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    database.execute("UPDATE connectors SET sealed_grant = substr(sealed_grant, 1, 20)").await;
    assert!(matches!(store.remove(owner(), connected(1).id).await.unwrap(), Removed::Connector(_)));
    assert_eq!(store.find(owner(), connected(1).id).await.unwrap(), None);
    assert_eq!(Revocations::take_due(&store, 10, LONG).await.unwrap(), []);
}

async fn a_grant_in_a_row_that_makes_no_sense_is_revoked(database: Database) {
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    database.execute("UPDATE connectors SET state = 'odd'").await;
    assert_eq!(store.remove(owner(), connected(1).id).await.unwrap(), Removed::Inconsistent);
    let due = Revocations::take_due(&store, 10, LONG).await.unwrap();
    assert_eq!(due.iter().map(|due| &due.revocation.grant).collect::<Vec<_>>(), [&grant(1)]);
}

async fn a_claim_in_a_full_database_leaves_no_mark(database: Database) {
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    // A trigger stands in for the full disk: it fails as one does, after the row was changed.
    let (fail, mend) = match &database {
        Database::Sqlite(_) => (
            "CREATE TRIGGER full AFTER UPDATE ON connectors BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END",
            "DROP TRIGGER \"full\"",
        ),
        Database::Postgres(_) => (
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER disk AFTER UPDATE ON connectors FOR EACH ROW EXECUTE FUNCTION fail()",
            "DROP TRIGGER disk ON connectors",
        ),
    };
    database.execute(fail).await;
    let claimed = store.claim(claim(1, 1)).await;
    assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
    assert_eq!(store.find(owner(), connected(1).id).await.unwrap(), Some(connected(1)));
    database.execute(mend).await;
    assert_eq!(interrupted(&store, claim(1, 2)).await, Some(false));
}

/// All that a lease and a due time are held against is in the database.
async fn clocks_of_processes_do_not_matter(database: Database) {
    let store = database.open().await;
    store.insert(due(1), PLENTY).await.unwrap();
    assert_eq!(interrupted(&store, claim(1, 1)).await, Some(false));
    Agenda::take_due(&store, 1, LONG).await.unwrap();
    let (now, difference) = match &database {
        Database::Sqlite(_) => ("unixepoch('subsec') * 1000000", "CAST(CAST({} AS INTEGER) AS TEXT)"),
        Database::Postgres(_) => {
            ("extract(epoch FROM clock_timestamp()) * 1000000", "CAST(CAST({} AS BIGINT) AS TEXT)")
        }
    };
    for column in ["renewal_until", "due_at"] {
        let value = difference.replace("{}", &format!("{column} - {now}"));
        let left = database.texts(&format!("SELECT {value} FROM connectors")).await;
        let left: i64 = left[0].parse().unwrap();
        assert!((590_000_000..=600_000_000).contains(&left), "{column}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_a_process_that_is_gone_end_when_sqlite_is_opened() {
    let database = Database::sqlite();
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    assert_eq!(interrupted(&store, claim(1, 1)).await, Some(false));
    assert_eq!(interrupted(&store, claim(1, 2)).await, None);
    drop(store);
    let store = database.open().await;
    assert_eq!(interrupted(&store, claim(1, 2)).await, Some(true), "the mark stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_other_replicas_go_on_when_postgres_is_opened() {
    let Some(database) = Database::postgres().await else { return };
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    assert_eq!(interrupted(&store, claim(1, 1)).await, Some(false));
    assert_eq!(interrupted(&database.open().await, claim(1, 2)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_keeps_no_due_one_waiting() {
    let Some(database) = Database::postgres().await else { return };
    let store = database.open().await;
    for number in 1..=3 {
        store.insert(due(number), PLENTY).await.unwrap();
    }
    let other = crate::common::connect(&database.url()).await;
    let lock = format!("BEGIN; SELECT * FROM connectors WHERE id = '{}' FOR UPDATE", created(2).id);
    other.batch_execute(&lock).await.unwrap();
    let taken = Agenda::take_due(&store, 10, LONG);
    assert_eq!(tokio::time::timeout(Duration::from_secs(2), taken).await.unwrap().unwrap().len(), 2);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(Agenda::take_due(&store, 10, LONG).await.unwrap().len(), 1);
}

const FULL: &str = "CONNECTORS_TEST_FULL_DATABASE";

/// Not a test of its own: what runs where no file may grow.
#[tokio::test(flavor = "multi_thread")]
async fn claims_where_no_file_may_grow() {
    let Ok(path) = std::env::var(FULL) else { return };
    let settings = StoreSettings { keys: Some(ring(&["a"])), ..StoreSettings::new(DatabaseUrl::sqlite(path)) };
    let store = Store::open(settings).await.unwrap();
    // The log of the database takes a few more writes.
    for round in 0.. {
        assert!(round < 1_000, "the disk is not full");
        match store.claim(claim(1, 1)).await {
            Ok(_) => {}
            Err(StoreError::Unavailable(_)) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    let claimed = store.claim(claim(2, 1)).await;
    assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
    assert_eq!(store.find(owner(), connected(2).id).await.unwrap(), Some(connected(2)), "reads go on");
    println!("full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_on_a_full_disk_leaves_no_mark() {
    let database = Database::sqlite();
    let store = database.open().await;
    for number in 1..=2 {
        store.insert(connected(number), PLENTY).await.unwrap();
    }
    drop(store);
    // A file that may not grow is a disk that is full. Blocks have 512 bytes; some shells take 1024.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 128; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "background::claims_where_no_file_may_grow", "--nocapture", "--test-threads=1"])
        .env(FULL, database.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && told.contains("full"), "{told}");
    let store = database.open().await;
    assert_eq!(interrupted(&store, claim(1, 1)).await, Some(true));
    assert_eq!(interrupted(&store, claim(2, 1)).await, Some(false), "nothing was spent");
}
