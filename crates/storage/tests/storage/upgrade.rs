//! Upgrades: an older replica goes on beside this release, on the schema of this one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use connectors_application::ports::{Agenda, Claim, Claimed, Connectors, ListQuery, RenewalKey, Renewals, UpdateError};
use connectors_domain::{AccountName, Connector, ConnectorState, Event};
use connectors_storage::Store;
use jiff::Timestamp;
use uuid::Uuid;

use crate::common::{Database, PLENTY, awaiting, connected, created, now, on_both, owner};

on_both!(
    a_database_of_an_older_release_is_brought_up_to_date,
    an_older_replica_writes_beside_this_one,
    a_replica_that_knows_no_users_writes_beside_this_one,
    both_write_the_same_rows_at_once,
);

/// The columns that a release without renewal knows, in one order for reading and writing.
const COLUMNS: &str = "id, owner, url, url_key, client_id, sealed_client_secret, metadata, state, client_state, deadline, \
                       attempt_state_hash, sealed_attempt, sealed_grant, grant_expires_at, grant_generation, server, \
                       disconnect_code, disconnect_reason, revision, created_at, updated_at, client_issuer";

/// The columns that came with renewal.
const RENEWAL_COLUMNS: &str = "due_at, due_failures, connected_since, renewal_holder, renewal_until, renewal_marked, \
                               renewal_interrupted, seal_key, noted_revision";

/// An older release: how many of the migrations it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Older {
    WithoutRenewal = 2,
    WithoutUsers = 3,
}

impl Older {
    /// The columns that it knows.
    fn columns(self) -> String {
        match self {
            Self::WithoutRenewal => COLUMNS.to_owned(),
            Self::WithoutUsers => format!("{COLUMNS}, {RENEWAL_COLUMNS}"),
        }
    }

    /// What it does to disconnect a connector: every column that it knows but the unchanging ones, over the revision that
    /// it read.
    fn disconnect(self, id: &str, revision: i64) -> String {
        let next = revision + 1;
        let more = match self {
            Self::WithoutRenewal => String::new(),
            Self::WithoutUsers => format!(
                ", due_at = NULL, due_failures = 0, connected_since = NULL, seal_key = seal_key, noted_revision = {next}"
            ),
        };
        format!(
            "UPDATE connectors SET client_id = client_id, sealed_client_secret = sealed_client_secret, state = 'disconnected', \
             client_state = 'disconnected', deadline = NULL, attempt_state_hash = NULL, sealed_attempt = NULL, \
             sealed_grant = NULL, grant_expires_at = NULL, grant_generation = NULL, server = NULL, \
             disconnect_code = 'client_request', disconnect_reason = 'x', revision = {next}, \
             updated_at = updated_at + 1{more} WHERE id = '{id}' AND owner = '{}' AND revision = {revision}",
            owner(),
        )
    }
}

fn migrations(database: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
        .into_iter()
        .map(|name| (name.clone(), std::fs::read_to_string(folder.join(name).join("up.sql")).unwrap()))
        .collect()
}

/// A database as an older release has made it, with the connectors of `from`.
async fn as_made_by(older: Older, database: &Database, from: &Database) {
    let folder = match database {
        Database::Sqlite(_) => "sqlite",
        Database::Postgres(_) => "postgres",
    };
    database
        .execute("CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)")
        .await;
    for (name, sql) in migrations(folder).into_iter().take(older as usize) {
        database.execute(&sql).await;
        let version = name.split('_').next().unwrap();
        database.execute(&format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}')")).await;
    }
    database.execute(&format!("INSERT INTO owners VALUES ('{}')", owner())).await;
    let (quote, blob) = match database {
        Database::Sqlite(_) => ("quote", ""),
        Database::Postgres(_) => ("quote_nullable", ""),
    };
    let columns = older.columns();
    let values: Vec<_> = columns.split(", ").map(|column| format!("{quote}({}){blob}", column.trim())).collect();
    let values = values.join(" || ', ' || ");
    let rows = match database {
        Database::Sqlite(_) => from.texts(&format!("SELECT group_concat({values}, '@') FROM connectors")).await[0]
            .split('@')
            .map(str::to_owned)
            .collect(),
        Database::Postgres(_) => from.texts(&format!("SELECT {values} FROM connectors")).await,
    };
    for row in rows {
        database.execute(&format!("INSERT INTO connectors ({columns}) VALUES ({row})")).await;
    }
}

async fn another(database: &Database) -> Database {
    match database {
        Database::Sqlite(_) => Database::sqlite(),
        Database::Postgres(_) => Database::postgres().await.unwrap(),
    }
}

async fn a_database_of_an_older_release_is_brought_up_to_date(database: Database) {
    let newer = another(&database).await;
    let store = newer.open().await;
    let all = [connected(1), created(2)];
    for connector in &all {
        store
            .insert(Connector { account: Some(AccountName::new("alice")), ..connector.clone() }, PLENTY)
            .await
            .unwrap();
    }
    let old = another(&database).await;
    as_made_by(Older::WithoutRenewal, &old, &newer).await;
    assert_eq!(Store::migrate(old.settings()).await.unwrap(), ["0003_renewal", "0004_access"]);
    let store = old.open().await;
    // What it did not know is looked at once.
    for connector in &all {
        let found = store.find(owner(), connector.id).await.unwrap();
        assert_eq!(found, Some(Connector { due_at: Some(Timestamp::UNIX_EPOCH), ..connector.clone() }));
    }
    assert_eq!(store.take_due(10, Duration::from_mins(1)).await.unwrap().len(), 2);
    assert_eq!(keys(&store).await, [(None, 1)]);

    let old = another(&database).await;
    as_made_by(Older::WithoutUsers, &old, &newer).await;
    assert_eq!(Store::migrate(old.settings()).await.unwrap(), ["0004_access"]);
    let store = old.open().await;
    // What people call its owner was not known either.
    for connector in &all {
        assert_eq!(store.find(owner(), connector.id).await.unwrap().as_ref(), Some(connector));
    }
    assert_eq!(keys(&store).await, [(Some("a".to_owned()), 1)]);
    let query = ListQuery { limit: 10, after: None, state: None };
    assert_eq!(store.list_any(query).await.unwrap().items, all);
}

/// The keys in use, with their rows.
async fn keys(store: &Store) -> Vec<(Option<String>, u64)> {
    store.keys_in_use().await.unwrap().into_iter().map(|key| (key.id, key.rows)).collect()
}

async fn an_older_replica_writes_beside_this_one(database: Database) {
    let store = database.open().await;
    let connector = connected(1);
    store.insert(connector.clone(), PLENTY).await.unwrap();
    let key = RenewalKey { owner: owner(), connector: connector.id, generation: 3 };
    let claim = |holder| Claim { key, holder: Uuid::from_u128(holder), lease: Duration::from_mins(10) };
    assert!(matches!(store.claim(claim(1)).await.unwrap(), Claimed::Yours { .. }));

    // It changes a connector that is connected, and leaves what it does not know.
    database
        .execute(&format!(
            "UPDATE connectors SET updated_at = updated_at + 5000000, revision = 2 WHERE id = '{}'",
            connector.id
        ))
        .await;
    let found = store.find(owner(), connector.id).await.unwrap().unwrap();
    let ConnectorState::Connected(state) = &found.state else { panic!("{found:?}") };
    assert_eq!((state.since, found.grant()), (found.revision, connector.grant()));
    assert_eq!(store.claim(claim(2)).await.unwrap(), Claimed::Busy);
    let found = store.update(found).await.unwrap();

    let disconnect = Older::WithoutRenewal.disconnect(&found.id.to_string(), found.revision.number());
    database.execute(&disconnect).await;
    assert!(matches!(store.update(found.clone()).await, Err(UpdateError::Conflict)));
    assert_eq!(store.claim(claim(1)).await.unwrap(), Claimed::Outdated);
    let found = store.find(owner(), found.id).await.unwrap().unwrap();
    assert!(matches!(found.state, ConnectorState::Disconnected(_)));
    assert_eq!(keys(&store).await, [(None, 1)]);

    // It makes one.
    let id = created(2).id;
    database
        .execute(&format!(
            "INSERT INTO connectors (id, owner, url, url_key, state, client_state, revision, created_at, updated_at) \
             VALUES ('{id}', '{}', 'https://host2.example/mcp', 'https://host2.example/mcp', 'created', 'created', 1, 0, 0)",
            owner(),
        ))
        .await;
    let due: Vec<_> = store.take_due(10, Duration::from_mins(1)).await.unwrap();
    assert_eq!(due.iter().map(|due| due.connector.id).collect::<Vec<_>>(), [id]);
}

/// What people call an owner outlives its changes, and what it makes is without.
async fn a_replica_that_knows_no_users_writes_beside_this_one(database: Database) {
    let store = database.open().await;
    let account = Some(AccountName::new("alice"));
    let first = Connector { account: account.clone(), ..awaiting(1) };
    store.insert(first.clone(), PLENTY).await.unwrap();
    assert_eq!(store.count_waiting(owner()).await.unwrap(), 1);
    database.execute(&Older::WithoutUsers.disconnect(&first.id.to_string(), first.revision.number())).await;
    assert_eq!(store.count_waiting(owner()).await.unwrap(), 0);
    let changed = store.find_any(first.id).await.unwrap().unwrap();
    assert!(matches!(changed.state, ConnectorState::Disconnected(_)));
    assert_eq!((&changed.account, changed.revision), (&account, first.revision.next()));

    let second = created(2).id;
    database
        .execute(&format!(
            "INSERT INTO connectors (id, owner, url, url_key, state, client_state, revision, created_at, updated_at, due_at, \
             due_failures, noted_revision) VALUES ('{second}', '{}', 'https://host2.example/mcp', \
             'https://host2.example/mcp', 'created', 'created', 1, 0, 0, NULL, 0, 1)",
            owner(),
        ))
        .await;
    let made = store.find_any(second).await.unwrap().unwrap();
    assert_eq!(made.account, None);
    // Its owner is told apart as soon as this release writes it.
    let made = store.update(Connector { account, ..made }).await.unwrap();
    let query = ListQuery { limit: 10, after: None, state: None };
    assert_eq!(store.list_any(query).await.unwrap().items, [changed, made]);
}

/// Each change is one or the other's, whole.
async fn both_write_the_same_rows_at_once(database: Database) {
    const ROUNDS: u32 = 25;
    let store = database.open().await;
    for number in 1..=ROUNDS {
        store.insert(connected(number), PLENTY).await.unwrap();
    }
    let older = async {
        for number in 1..=ROUNDS {
            let disconnect = Older::WithoutUsers.disconnect(&connected(number).id.to_string(), 1);
            let sql = format!("{}{disconnect}", busy(&database));
            database.execute(&sql).await;
        }
    };
    let newer = async {
        let mut won = BTreeSet::new();
        for number in (1..=ROUNDS).rev() {
            let connector = connected(number);
            let key = RenewalKey { owner: owner(), connector: connector.id, generation: 3 };
            let claim = Claim { key, holder: Uuid::from_u128(1), lease: Duration::from_mins(1) };
            store.claim(claim).await.unwrap();
            let lapsed = connector.apply(Event::Lapsed, now() + Duration::from_hours(1)).unwrap().connector;
            match store.update(lapsed).await {
                Ok(_) => drop(won.insert(number)),
                Err(UpdateError::Conflict) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        won
    };
    let ((), won) = tokio::join!(older, newer);
    for number in 1..=ROUNDS {
        let found = store.find(owner(), connected(number).id).await.unwrap().unwrap();
        assert_eq!(found.revision, connected(number).revision.next());
        assert_eq!(matches!(found.state, ConnectorState::Connected(_)), won.contains(&number), "{found:?}");
    }
}

fn busy(database: &Database) -> &'static str {
    match database {
        Database::Sqlite(_) => "PRAGMA busy_timeout = 5000; ",
        Database::Postgres(_) => "",
    }
}

/// Migrations only add, so that the release before goes on with the database, and can be gone back to. What is no longer
/// used goes in a later release than the one that stopped using it; then this test has to be told.
#[test]
fn migrations_only_add() {
    let names = |database| migrations(database).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names("sqlite"), names("postgres"));
    let mut refused = Vec::new();
    for database in ["sqlite", "postgres"] {
        for (name, sql) in migrations(database).into_iter().skip(2) {
            let statements = statements(&sql);
            assert!(!statements.is_empty());
            let others = statements.iter().filter(|statement| !only_adds(statement, &statements));
            refused.extend(others.map(|statement| format!("{database}/{name}: {statement}")));
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn what_does_more_than_add_is_told_from_what_does_not() {
    for sql in [
        "CREATE TABLE a (id TEXT PRIMARY KEY, b INTEGER NOT NULL)",
        "CREATE TABLE a (id TEXT); CREATE UNIQUE INDEX i ON a (id)",
        "CREATE INDEX i ON a (b) WHERE c IS NOT NULL",
        "ALTER TABLE a ADD COLUMN b INTEGER",
        "ALTER TABLE a ADD COLUMN b INTEGER NOT NULL DEFAULT 0",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DROP; END $$",
        "CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
    ] {
        let statements = statements(sql);
        assert!(statements.iter().all(|statement| only_adds(statement, &statements)), "{sql}");
    }
    for sql in [
        "DROP TABLE a",
        "-- A comment;\nALTER TABLE a DROP COLUMN b",
        "ALTER TABLE a RENAME COLUMN b TO c",
        "ALTER TABLE a ADD COLUMN b INTEGER NOT NULL",
        "ALTER TABLE a ADD COLUMN b INTEGER UNIQUE",
        "ALTER TABLE a ADD COLUMN b INTEGER REFERENCES c (d)",
        "ALTER TABLE a ADD COLUMN b INTEGER CHECK (b > 0)",
        "ALTER TABLE a ADD COLUMN b INTEGER, DROP COLUMN c",
        "ALTER TABLE a ALTER COLUMN b SET NOT NULL",
        "ALTER TABLE a ADD CONSTRAINT c UNIQUE (b)",
        "CREATE UNIQUE INDEX i ON a (b)",
        "CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
        "UPDATE a SET b = 1",
        "DELETE FROM a",
    ] {
        let statements = statements(sql);
        assert!(!statements.iter().all(|statement| only_adds(statement, &statements)), "{sql}");
    }
}

/// The statements of a script, in capitals, without comments, with single spaces.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let sql = lines.collect::<Vec<_>>().join(" ").to_uppercase();
    let (mut statements, mut body) = (vec![String::new()], false);
    for (index, part) in sql.split("$$").enumerate() {
        if index > 0 {
            body = !body;
        }
        // The body of a function is one with its statement.
        let pieces: Vec<_> = if body { vec![part] } else { part.split(';').collect() };
        for (index, piece) in pieces.into_iter().enumerate() {
            if index > 0 {
                statements.push(String::new());
            }
            if let Some(statement) = statements.last_mut() {
                statement.push_str(piece);
            }
        }
    }
    let words = |statement: String| statement.split_whitespace().collect::<Vec<_>>().join(" ");
    statements.into_iter().map(words).filter(|statement| !statement.is_empty()).collect()
}

/// Whether an older program, which knows nothing of it, reads and writes as before.
fn only_adds(statement: &str, all: &[String]) -> bool {
    let words: Vec<_> = statement.split(' ').collect();
    let makes = |table: &str| all.iter().any(|other| other.starts_with(&format!("CREATE TABLE {table} ")));
    match words.as_slice() {
        // A trigger comes after the row is written. It must not fail, which a person has to see to.
        ["CREATE", "TABLE" | "INDEX" | "FUNCTION", ..] | ["CREATE", "TRIGGER", _, "AFTER", ..] => true,
        // On a table that an older program fills, it could refuse a row.
        ["CREATE", "UNIQUE", "INDEX", _, "ON", table, ..] => makes(table),
        ["ALTER", "TABLE", _, "ADD", "COLUMN", _, definition @ ..] => {
            let definition = definition.join(" ");
            let refuses =
                ["UNIQUE", "REFERENCES", "CHECK", "PRIMARY", ","].iter().any(|word| definition.contains(word));
            !refuses && (!definition.contains("NOT NULL") || definition.contains("DEFAULT"))
        }
        _ => false,
    }
}
