//! What can go wrong: at opening, told to an operator, and within a call, told to a use case.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use connectors_application::ports::StoreError;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use thiserror::Error;

use crate::KeyError;
use crate::row::RowError;

/// Why a database was not opened. The texts are for an operator: they say what is wrong and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no runtime with several threads to run queries on.
    #[error("the database needs a tokio runtime with several threads")]
    Runtime,
    /// A file of the database cannot be used.
    #[error("{} {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Another process serves from the same SQLite database.
    #[error(
        "{} is in use by another process; stop that one, give this one a database of its own, or use PostgreSQL",
        path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// No connection to the database came about.
    #[error("the database {database} cannot be reached")]
    Connect {
        /// The database, without its password.
        database: String,
        /// Why.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// TLS towards PostgreSQL cannot be set up.
    #[error("TLS towards the database cannot be set up")]
    Tls(#[source] Box<dyn StdError + Send + Sync>),
    /// A migration failed; it left nothing behind.
    #[error("the database could not be brought up to date")]
    Migration(#[source] Box<dyn StdError + Send + Sync>),
    /// Another replica has been running migrations for too long.
    #[error("another process has been migrating the database for too long; see what holds its advisory lock")]
    MigrationLocked,
    /// The database lacks migrations, and this process was told not to run them.
    #[error("the database lacks migrations ({}); run `connectors migrate` first", .0.join(", "))]
    MigrationsPending(Vec<String>),
    /// PostgreSQL without keys.
    #[error(
        "a PostgreSQL database needs an encryption key from the settings: \
         32 random bytes in base64, as `openssl rand -base64 32` prints them"
    )]
    KeysRequired,
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A key of that id exists, and it is not the one that the database was written with.
    #[error("the encryption key {id:?} is not the key with which the database was written")]
    WrongKey {
        /// The key's id.
        id: String,
    },
    /// The database holds secrets that were sealed with a key that is not there.
    #[error(
        "the database holds {values} secrets that were sealed with the encryption key {id:?}, which is missing; \
         add that key again"
    )]
    KeyMissing {
        /// The key's id.
        id: String,
        /// How many values need it.
        values: i64,
    },
    /// As [`OpenError::KeyMissing`], of a database that brings its own key file.
    #[error(
        "the key file {} is missing, and the database holds {values} secrets that only its key {id:?} opens; \
         restore the file from a backup, or move the database away to begin with an empty one",
        path.display()
    )]
    KeyFileMissing {
        /// Where the file should be.
        path: PathBuf,
        /// The key's id.
        id: String,
        /// How many values need it.
        values: i64,
    },
    /// A query at opening failed.
    #[error("the database cannot be used")]
    Unusable(#[source] Box<dyn StdError + Send + Sync>),
}

impl OpenError {
    pub(crate) fn file(path: impl Into<PathBuf>, what: &'static str, source: io::Error) -> Self {
        Self::File { path: path.into(), what, source }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        Self::Unusable(Box::new(fault))
    }
}

/// Why a unit of work came to nothing.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    /// The database refused a statement.
    #[error("a query failed")]
    Query(#[from] QueryError),
    /// There was no connection to be had.
    #[error("there is no connection to the database")]
    Pool(#[source] Box<dyn StdError + Send + Sync>),
    /// The statements took too long.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The task was stopped or has panicked.
    #[error("the task of the query ended")]
    Task(#[from] tokio::task::JoinError),
    /// The owner has too many connectors.
    #[error("the owner has as many connectors as allowed")]
    LimitReached,
    /// What is to be stored makes no row.
    #[error(transparent)]
    Row(#[from] RowError),
}

impl From<diesel_async::pooled_connection::deadpool::PoolError> for Fault {
    fn from(error: diesel_async::pooled_connection::deadpool::PoolError) -> Self {
        use diesel_async::pooled_connection::deadpool::PoolError;
        match error {
            // The pool's own text repeats that of its cause.
            PoolError::Backend(cause) => Self::Pool(Box::new(cause)),
            error => Self::Pool(Box::new(error)),
        }
    }
}

impl Fault {
    /// Whether trying again may help: then the connection is not trusted any more either.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Pool(_) | Self::TimedOut => true,
            Self::Task(error) => error.is_cancelled(),
            Self::Query(error) => is_passing(error),
            Self::LimitReached | Self::Row(_) => false,
        }
    }

    /// Whether a unique index refused a row.
    pub(crate) const fn is_duplicate(&self) -> bool {
        matches!(self, Self::Query(QueryError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)))
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        if fault.is_passing() { Self::Unavailable(Box::new(fault)) } else { Self::Inconsistent(Box::new(fault)) }
    }
}

/// The diesel drivers hand on no error codes, only SQLite's or PostgreSQL's text, and PostgreSQL's may be in any
/// language. So what is surely a fault is listed, and everything else counts as passing: locked, full, read-only,
/// shutting down, out of connections, cut off.
fn is_passing(error: &QueryError) -> bool {
    const FAULTS: [&str; 6] = [
        "no such table",
        "no such column",
        "has no column named",
        "syntax error",
        "database disk image is malformed",
        "file is not a database",
    ];
    match error {
        QueryError::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => false,
            _ => !FAULTS.iter().any(|fault| information.message().contains(fault)),
        },
        QueryError::BrokenTransactionManager | QueryError::RollbackErrorOnCommit { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(kind: DatabaseErrorKind, message: &str) -> StoreError {
        Fault::Query(QueryError::DatabaseError(kind, Box::new(message.to_owned()))).into()
    }

    #[test]
    fn a_cause_is_said_once() {
        use diesel_async::pooled_connection::PoolError as Cause;
        use diesel_async::pooled_connection::deadpool::PoolError;
        let cause = Cause::ConnectionError(diesel::ConnectionError::BadConnection("refused".into()));
        let fault = Fault::from(PoolError::Backend(cause));
        assert_eq!(crate::tls::chain(&fault), "there is no connection to the database: refused");
        assert_eq!(fault.source().unwrap().to_string(), "refused");
    }

    #[test]
    fn what_may_pass_is_unavailable() {
        use DatabaseErrorKind as Kind;
        for message in [
            "database is locked",
            "database table is locked",
            "database or disk is full",
            "attempt to write a readonly database",
            "disk I/O error",
            "unable to open database file",
            "terminating connection due to administrator command",
            "Verbindung wird abgebrochen aufgrund von Anweisung des Administrators",
        ] {
            assert!(matches!(query(Kind::Unknown, message), StoreError::Unavailable(_)), "{message}");
        }
        for kind in
            [Kind::UnableToSendCommand, Kind::ClosedConnection, Kind::ReadOnlyTransaction, Kind::SerializationFailure]
        {
            assert!(matches!(query(kind, ""), StoreError::Unavailable(_)));
        }
        assert!(matches!(StoreError::from(Fault::TimedOut), StoreError::Unavailable(_)));
    }

    #[test]
    fn what_never_passes_is_inconsistent() {
        use DatabaseErrorKind as Kind;
        for message in ["no such table: connectors", "file is not a database", "database disk image is malformed"] {
            assert!(matches!(query(Kind::Unknown, message), StoreError::Inconsistent(_)), "{message}");
        }
        assert!(matches!(query(Kind::NotNullViolation, ""), StoreError::Inconsistent(_)));
        assert!(matches!(StoreError::from(Fault::Query(QueryError::NotFound)), StoreError::Inconsistent(_)));
    }
}
