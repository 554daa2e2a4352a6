//! Which database, and how it is used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::KeyRing;
use crate::postgres::PostgresUrl;

/// All that [`Store::open`](crate::Store::open) wants to know.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The database.
    pub url: DatabaseUrl,
    /// The keys that secrets are sealed with. Without them a SQLite database brings its own, in a key file beside it
    /// (`connectors.key` beside `connectors.db`), and a PostgreSQL database is refused.
    pub keys: Option<KeyRing>,
    /// What happens to migrations that the database lacks.
    pub migrations: Migrations,
    /// Sizes and times.
    pub limits: Limits,
}

/// What happens at [`Store::open`](crate::Store::open) to migrations that the database lacks.
///
/// Migrations that the database has and this program does not know are no obstacle either way: they only add, so that
/// an older replica goes on serving while a newer one rolls out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Migrations {
    /// They are run.
    #[default]
    Run,
    /// The database is refused; an operator runs them with [`Store::migrate`](crate::Store::migrate).
    Check,
}

/// How many connections are kept, and how long anything may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections: on SQLite those that read, beside the one that writes.
    pub connections: usize,
    /// How long a call waits for a free connection.
    pub acquire_timeout: Duration,
    /// How long the making of a connection may take.
    pub connect_timeout: Duration,
    /// How long SQLite waits while another program holds the write lock.
    pub busy_timeout: Duration,
    /// How long the statements of one call may take on PostgreSQL.
    pub statement_timeout: Duration,
    /// How long migrations wait for another replica that is running them.
    pub migration_wait: Duration,
}

impl StoreSettings {
    /// Settings for `url` with defaults for everything else.
    pub fn new(url: DatabaseUrl) -> Self {
        Self { url, keys: None, migrations: Migrations::default(), limits: Limits::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8,
            acquire_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            migration_wait: Duration::from_mins(1),
        }
    }
}

/// Where the database is: `sqlite:PATH`, or a `postgres://` URL as libpq knows it. It prints without its password.
///
/// `sqlite:connectors.db` and `sqlite://connectors.db` are relative to the working directory, `sqlite:/x/y.db` and
/// `sqlite:///x/y.db` are not.
///
/// Of a PostgreSQL URL, `sslmode` means:
/// - `disable`: no TLS;
/// - `prefer`, the default: TLS if the server offers it, whatever its certificate, else none;
/// - `require`: TLS, whatever the server's certificate: safe from listeners, not from impostors;
/// - `verify-full`: TLS with a certificate for that host name, from an authority that the machine trusts, or, if
///   `sslrootcert=FILE` is given, from one in that PEM file.
#[derive(Clone)]
pub struct DatabaseUrl(pub(crate) Database);

#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(PathBuf),
    Postgres(Box<PostgresUrl>),
}

/// Why a text is no [`DatabaseUrl`]. The text itself is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DatabaseUrlError {
    /// Another scheme, or none.
    #[error("a database URL has the form sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    Scheme,
    /// `sqlite:` without a path.
    #[error("the database URL names no file; write sqlite:PATH, as in sqlite:connectors.db")]
    NoPath,
    /// A database in memory, of which each connection would have its own.
    #[error("a SQLite database in memory cannot be used; name a file, as in sqlite:connectors.db")]
    Memory,
    /// `sqlite:` with parameters, or a `file:` URI.
    #[error("a SQLite database URL is sqlite: and a path, without parameters")]
    SqliteParameters,
    /// A PostgreSQL URL that cannot be read.
    #[error(
        "the PostgreSQL URL cannot be read; it has the form postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE"
    )]
    Postgres,
    /// A PostgreSQL URL without a host.
    #[error("the PostgreSQL URL names no host")]
    NoHost,
    /// An `sslmode` that is not known.
    #[error("sslmode must be disable, prefer, require or verify-full")]
    SslMode,
    /// `sslrootcert` without `sslmode=verify-full`.
    #[error("sslrootcert is used with sslmode=verify-full only")]
    SslRootCert,
}

impl DatabaseUrl {
    /// The SQLite database in the file `path`.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self(Database::Sqlite(path.into()))
    }

    /// Whether other processes may use the database at the same time.
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Database::Postgres(_))
    }

    /// The file of a SQLite database.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Database::Sqlite(path) => Some(path),
            Database::Postgres(_) => None,
        }
    }

    /// The names and addresses of the database's servers, each with its port: what nobody but this crate may dial.
    pub fn endpoints(&self) -> Vec<(String, u16)> {
        match &self.0 {
            Database::Sqlite(_) => Vec::new(),
            Database::Postgres(url) => url.endpoints(),
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return sqlite_path(path.strip_prefix("//").unwrap_or(path)).map(|path| Self(Database::Sqlite(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text).map(|url| Self(Database::Postgres(Box::new(url))));
        }
        Err(DatabaseUrlError::Scheme)
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, DatabaseUrlError> {
    if path.contains(":memory:") {
        return Err(DatabaseUrlError::Memory);
    }
    if path.contains(['?', '\0']) || path.starts_with("file:") {
        return Err(DatabaseUrlError::SqliteParameters);
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(DatabaseUrlError::NoPath);
    }
    Ok(PathBuf::from(path))
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Database::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Database::Postgres(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, DatabaseUrlError> {
        text.parse::<DatabaseUrl>().map(|url| url.to_string())
    }

    #[test]
    fn a_sqlite_url_is_a_path() {
        assert_eq!(read("sqlite:connectors.db").as_deref(), Ok("sqlite:connectors.db"));
        assert_eq!(read("sqlite://connectors.db").as_deref(), Ok("sqlite:connectors.db"));
        assert_eq!(read("sqlite:/data/connectors.db").as_deref(), Ok("sqlite:/data/connectors.db"));
        assert_eq!(read("sqlite:///data/connectors.db").as_deref(), Ok("sqlite:/data/connectors.db"));
        assert_eq!(read("sqlite:"), Err(DatabaseUrlError::NoPath));
        assert_eq!(read("sqlite:///data/"), Err(DatabaseUrlError::NoPath));
        assert_eq!(read("sqlite::memory:"), Err(DatabaseUrlError::Memory));
        assert_eq!(read("sqlite://:memory:"), Err(DatabaseUrlError::Memory));
        assert_eq!(read("sqlite:x.db?mode=ro"), Err(DatabaseUrlError::SqliteParameters));
        assert_eq!(read("sqlite:file:x.db"), Err(DatabaseUrlError::SqliteParameters));
    }

    #[test]
    fn a_postgres_url_prints_without_its_password() {
        assert_eq!(read("postgres://u:hunter2@db:5433/x").as_deref(), Ok("postgres://u@db:5433/x"));
        assert_eq!(read("postgresql://db/x?sslmode=require").as_deref(), Ok("postgres://db/x"));
        assert_eq!(read("postgres://a:1,b:2/x?application_name=y").as_deref(), Ok("postgres://a:1,b:2/x"));
        assert_eq!(read("postgres://u:hunter2@db:port/x"), Err(DatabaseUrlError::Postgres));
        assert_eq!(read("postgres:///x"), Err(DatabaseUrlError::NoHost));
        assert_eq!(read("postgres://db/x?unknown=1"), Err(DatabaseUrlError::Postgres));
    }

    #[test]
    fn the_endpoints_are_what_is_dialled() {
        let endpoints = |text: &str| {
            let endpoints = text.parse::<DatabaseUrl>().unwrap().endpoints();
            endpoints.into_iter().map(|(host, port)| format!("{host}:{port}")).collect::<Vec<_>>()
        };
        assert_eq!(endpoints("postgres://u:hunter2@db/x"), ["db:5432"]);
        assert_eq!(endpoints("postgres://a:1,b:2/x"), ["a:1", "b:2"]);
        assert_eq!(endpoints("postgres://db:7/x?hostaddr=10.0.0.7"), ["db:7", "10.0.0.7:7"]);
        assert!(endpoints("postgres:///x?host=%2Frun%2Fpostgresql").is_empty());
        assert!(endpoints("sqlite:x.db").is_empty());
    }

    #[test]
    fn the_modes_of_tls_are_four() {
        for mode in ["disable", "prefer", "require", "verify-full"] {
            assert!(read(&format!("postgres://db/x?sslmode={mode}")).is_ok(), "{mode}");
        }
        for mode in ["allow", "verify-ca", "", "REQUIRE"] {
            assert_eq!(read(&format!("postgres://db/x?sslmode={mode}")), Err(DatabaseUrlError::SslMode), "{mode}");
        }
        let root = "sslrootcert=%2Fetc%2Fca.pem";
        assert!(read(&format!("postgres://db/x?sslmode=verify-full&{root}")).is_ok());
        assert_eq!(read(&format!("postgres://db/x?sslmode=require&{root}")), Err(DatabaseUrlError::SslRootCert));
    }

    #[test]
    fn anything_else_is_refused_without_being_repeated() {
        for text in ["", "connectors.db", "mysql://u:hunter2@h/x", "SQLITE:x", "postgres:x"] {
            assert_eq!(read(text), Err(DatabaseUrlError::Scheme), "{text}");
        }
    }
}
