//! Connections to either database, and the macros that write one query for both.
//!
//! A query is compiled once for each database, because diesel's types name the database; the macros expand it into the
//! arms of a `match`. SQLite has readers and one writer, so that writers take turns fairly instead of polling for the
//! database's own lock, and never keep readers waiting.

use std::fmt;
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::Timeouts;
use diesel_async::pooled_connection::deadpool::{Object, Pool as Connections};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolableConnection, RecyclingMethod,
};
use diesel_async::sync_connection_wrapper::SyncConnectionWrapper;
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::Fault;
use crate::postgres::Connector;
use crate::sqlite::{Access, Files};
use crate::{Limits, OpenError, sqlite};

/// SQLite's driver blocks; each of its calls runs on a thread of tokio's for such work.
pub(crate) type SqliteConnection = SyncConnectionWrapper<diesel::SqliteConnection>;

/// Connections to the one or the other database.
#[derive(Clone)]
pub(crate) enum Pool {
    Sqlite { readers: Connections<SqliteConnection>, writer: Connections<SqliteConnection> },
    Postgres { connections: Connections<AsyncPgConnection>, time_limit: Duration },
}

impl Pool {
    pub(crate) fn sqlite(files: &Files, limits: Limits) -> Result<Self, OpenError> {
        let path = files.database.to_string_lossy();
        Ok(Self::Sqlite {
            readers: sqlite_connections(&path, Access::Read, limits.connections, limits)?,
            writer: sqlite_connections(&path, Access::Write, 1, limits)?,
        })
    }

    /// Connections that change nothing, also those for writing.
    pub(crate) fn sqlite_untouched(files: &Files, limits: Limits) -> Result<Self, OpenError> {
        let connections = sqlite_connections(&files.untouched(), Access::Look, 1, limits)?;
        Ok(Self::Sqlite { readers: connections.clone(), writer: connections })
    }

    pub(crate) fn postgres(connector: Connector, limits: Limits) -> Result<Self, OpenError> {
        let mut config = ManagerConfig::default();
        config.custom_setup = connector.setup();
        let connections = connections(String::new(), config, limits.connections, limits)?;
        Ok(Self::Postgres { connections, time_limit: limits.statement_timeout })
    }
}

fn sqlite_connections(
    url: &str,
    access: Access,
    size: usize,
    limits: Limits,
) -> Result<Connections<SqliteConnection>, OpenError> {
    let mut config = ManagerConfig::default();
    config.custom_setup = sqlite::setup(access, limits);
    connections(url.to_owned(), config, size, limits)
}

fn connections<C>(
    url: String,
    mut config: ManagerConfig<C>,
    size: usize,
    limits: Limits,
) -> Result<Connections<C>, OpenError>
where
    C: AsyncConnection + PoolableConnection + Send + 'static,
    AsyncDieselConnectionManager<C>: deadpool::managed::Manager<Type = C>,
{
    // No query to test a connection before each use: one that has closed is known to have, and any other fault costs it
    // its place.
    config.recycling_method = RecyclingMethod::Fast;
    Connections::builder(AsyncDieselConnectionManager::new_with_config(url, config))
        .max_size(size.max(1))
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(limits.acquire_timeout),
            create: Some(limits.connect_timeout),
            recycle: Some(limits.connect_timeout),
        })
        .build()
        .map_err(|error| OpenError::Unusable(Box::new(error)))
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite { .. } => "Sqlite",
            Self::Postgres { .. } => "Postgres",
        })
    }
}

/// Ends statements that take longer than `limit`, as they would on a connection whose other end has vanished.
pub(crate) async fn bounded<T>(
    limit: Duration,
    statements: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    tokio::time::timeout(limit, statements).await.unwrap_or(Err(Fault::TimedOut))
}

/// Gives a connection back, or closes it if what it came to leaves a doubt: it may lead to a server that has become
/// read-only, or still be in the middle of a statement.
pub(crate) fn settle<T>(object: Object<AsyncPgConnection>, done: &Result<T, Fault>) {
    if done.as_ref().is_err_and(Fault::is_passing) {
        drop(Object::take(object));
    }
}

/// Runs statements on a connection of `$pool`'s `$kind` for SQLite, `readers` or `writer`. `$body` is an expression of
/// type `QueryResult`, in which `$conn` is the connection.
macro_rules! on {
    ($kind:ident of $pool:expr, |$conn:ident| $body:expr) => {
        match $pool {
            $crate::pool::Pool::Sqlite { $kind, .. } => {
                async {
                    let mut object = $kind.get().await?;
                    let $conn = &mut *object;
                    Ok::<_, $crate::error::Fault>($body?)
                }
                .await
            }
            $crate::pool::Pool::Postgres { connections, time_limit } => {
                async {
                    let mut object = connections.get().await?;
                    let $conn = &mut *object;
                    let done =
                        $crate::pool::bounded(*time_limit, async { Ok::<_, $crate::error::Fault>($body?) }).await;
                    $crate::pool::settle(object, &done);
                    done
                }
                .await
            }
        }
    };
}

/// Runs statements that only read.
macro_rules! read {
    ($pool:expr, |$conn:ident| $body:expr) => {
        $crate::pool::on!(readers of $pool, |$conn| $body)
    };
}

/// Runs one statement that writes.
macro_rules! write_one {
    ($pool:expr, |$conn:ident| $body:expr) => {
        $crate::pool::on!(writer of $pool, |$conn| $body)
    };
}

/// Runs statements that write as one transaction. `$body` is a block of type `Result<_, Fault>`.
///
/// On SQLite the transaction has the write lock from its beginning: one that begins by reading could not get it later,
/// however long it waited. On PostgreSQL each statement sees what was committed before it (READ COMMITTED), so a block
/// must not write what it computed of a row that it has not locked.
macro_rules! transaction {
    ($pool:expr, |$conn:ident| $body:block) => {
        match $pool {
            $crate::pool::Pool::Sqlite { writer, .. } => {
                async {
                    let mut object = writer.get().await?;
                    object.immediate_transaction(async |$conn| -> Result<_, $crate::error::Fault> { $body }).await
                }
                .await
            }
            $crate::pool::Pool::Postgres { connections, time_limit } => {
                async {
                    let mut object = connections.get().await?;
                    let done = $crate::pool::bounded(
                        *time_limit,
                        diesel_async::AsyncConnection::transaction(
                            &mut *object,
                            async |$conn| -> Result<_, $crate::error::Fault> { $body },
                        ),
                    )
                    .await;
                    $crate::pool::settle(object, &done);
                    done
                }
                .await
            }
        }
    };
}

pub(crate) use {on, read, transaction, write_one};
