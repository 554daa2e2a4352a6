//! Bringing a database up to date. Migrations only add, so that an older program goes on serving beside a newer one;
//! what is no longer used goes in a later release.
//!
//! A database that is newer than this program is left as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::migration::{Migration, MigrationSource};
use diesel::sql_types::{BigInt, Bool};
use diesel::{Connection, QueryDsl, QueryableByName, SqliteConnection, connection::SimpleConnection, sql_query};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::time::Instant;

use crate::error::Fault;
use crate::pool::{Pool, read};
use crate::postgres::Connector;
use crate::sqlite::{Access, pragmas};
use crate::{Limits, OpenError, schema};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// The advisory lock that whoever migrates a PostgreSQL database holds; a fixed arbitrary number.
const LOCK: i64 = 0x636f_6e6e_6563_746f;

/// How long the first and the longest pause between two tries for the lock is. Tries, because a session that waits
/// within PostgreSQL has a snapshot, for which some migrations would have to wait in turn.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Makes sure that the database lacks no migration, and changes nothing: unlike diesel, which makes its table of
/// migrations in order to look into it.
pub(crate) async fn check(pool: &Pool) -> Result<(), OpenError> {
    #[derive(QueryableByName)]
    struct Tables {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }
    let (question, known) = match pool {
        Pool::Sqlite { .. } => (
            "SELECT count(*) AS count FROM sqlite_master WHERE type = 'table' AND name = '__diesel_schema_migrations'",
            names::<diesel::sqlite::Sqlite>(&SQLITE)?,
        ),
        Pool::Postgres { .. } => (
            "SELECT count(*) AS count FROM pg_catalog.pg_class WHERE oid = to_regclass('__diesel_schema_migrations')",
            names::<diesel::pg::Pg>(&POSTGRES)?,
        ),
    };
    let tables: Tables = read!(pool, |conn| sql_query(question).get_result(conn).await)?;
    let done: Vec<String> = if tables.count == 0 {
        Vec::new()
    } else {
        read!(pool, |conn| schema::migrations::table.select(schema::migrations::version).load(conn).await)?
    };
    let pending = known.into_iter().filter(|(version, _)| !done.contains(version));
    let pending: Vec<_> = pending.map(|(_, name)| name).collect();
    if pending.is_empty() { Ok(()) } else { Err(OpenError::MigrationsPending(pending)) }
}

/// The version and the name of each migration, in their order.
fn names<DB: diesel::backend::Backend>(migrations: &EmbeddedMigrations) -> Result<Vec<(String, String)>, OpenError> {
    let migrations: Vec<Box<dyn Migration<DB>>> = migrations.migrations().map_err(OpenError::Migration)?;
    let mut names: Vec<_> = migrations
        .iter()
        .map(|migration| (migration.name().version().to_string(), migration.name().to_string()))
        .collect();
    names.sort();
    Ok(names)
}

/// Runs the migrations that a SQLite database lacks; returns their names.
pub(crate) async fn sqlite(path: PathBuf, limits: Limits) -> Result<Vec<String>, OpenError> {
    tokio::task::spawn_blocking(move || {
        let mut connection = connect(&path, limits).map_err(OpenError::Migration)?;
        // One transaction around all: whoever else migrates the file at the same time waits, and finds nothing to do.
        let work = |connection: &mut SqliteConnection| run(connection, SQLITE).map_err(Failed::Open);
        connection.immediate_transaction(work).map_err(|failed| match failed {
            Failed::Open(error) => error,
            Failed::Transaction(error) => OpenError::Migration(Box::new(error)),
        })
    })
    .await
    .unwrap_or_else(|error| Err(Fault::Task(error).into()))
}

/// Opens the database. Of several who turn a new one to WAL at once, SQLite tells all but one that it is locked, and does not
/// let them wait for it, so they wait here.
fn connect(path: &Path, limits: Limits) -> Result<SqliteConnection, Source> {
    let end = Instant::now() + limits.busy_timeout;
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    while let Err(error) = connection.batch_execute(&pragmas(Access::Write, limits)) {
        if Instant::now() >= end {
            return Err(error.into());
        }
        std::thread::sleep(PAUSES.0);
    }
    Ok(connection)
}

enum Failed {
    Open(OpenError),
    Transaction(diesel::result::Error),
}

impl From<diesel::result::Error> for Failed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Transaction(error)
    }
}

/// Runs the migrations that a PostgreSQL database lacks; returns their names.
pub(crate) async fn postgres(connector: &Connector, limits: Limits) -> Result<Vec<String>, OpenError> {
    let mut connection = connector.for_migrations().await?;
    lock(&mut connection, limits.migration_wait).await?;
    // The lock ends with its connection, at the end of this function.
    run(&mut AsyncMigrationHarness::new(connection), POSTGRES)
}

async fn lock(connection: &mut AsyncPgConnection, wait: Duration) -> Result<(), OpenError> {
    let end = Instant::now() + wait;
    let (mut pause, longest) = PAUSES;
    loop {
        let question = diesel::select(diesel::dsl::sql::<Bool>(&format!("pg_try_advisory_lock({LOCK})")));
        let locked = question.get_result(connection).await;
        if locked.map_err(|error| OpenError::Migration(Box::new(error)))? {
            return Ok(());
        }
        if Instant::now() + pause > end {
            return Err(OpenError::MigrationLocked);
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

fn run<DB: diesel::backend::Backend>(
    harness: &mut impl MigrationHarness<DB>,
    migrations: EmbeddedMigrations,
) -> Result<Vec<String>, OpenError> {
    let pending = harness.pending_migrations(migrations).map_err(OpenError::Migration)?;
    let names: Vec<_> = pending.iter().map(|migration| migration.name().to_string()).collect();
    harness.run_migrations(&pending).map_err(OpenError::Migration)?;
    if !names.is_empty() {
        tracing::info!(migrations = names.join(", "), "database brought up to date");
    }
    Ok(names)
}
