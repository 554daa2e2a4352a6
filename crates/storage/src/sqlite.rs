//! SQLite: its files, its lock, its connections.
//!
//! Beside `connectors.db` lie `connectors.db-wal` and `connectors.db-shm`, which belong to SQLite, `connectors.db.lock`,
//! and, unless the settings name keys, `connectors.key`. A backup needs the key file too.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use diesel::ConnectionError;
use diesel_async::pooled_connection::SetupCallback;
use diesel_async::{AsyncConnection, SimpleAsyncConnection};

use crate::pool::{Pool, SqliteConnection};
use crate::{KeyRing, Limits, OpenError, canary};

/// The files of a database.
pub(crate) struct Files {
    /// The database itself, with no link on its way: two names of one file share one lock.
    pub(crate) database: PathBuf,
    lock: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Finds the files of the database `path`, and makes an empty database that only its owner may read if there is
    /// none.
    pub(crate) fn prepare(path: &Path) -> Result<Self, OpenError> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let exists = match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).open(path).map(Some)
            }
            made => made.map(|_| None),
        };
        let exists = exists.map_err(|error| unusable(path, error))?;
        if let Some(metadata) = exists.and_then(|file| file.metadata().ok())
            && metadata.mode() & 0o077 != 0
        {
            tracing::warn!(path = %path.display(), "the database may be read by others than its owner");
        }
        let database = fs::canonicalize(path).map_err(|error| unusable(path, error))?;
        if database.to_str().is_none() {
            let error = io::Error::from(ErrorKind::InvalidFilename);
            return Err(OpenError::file(database, "has a name that is not UTF-8", error));
        }
        let beside = |ending: &str| {
            let mut name = database.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let key = if database.extension().is_some_and(|extension| extension == "key") {
            beside(".key")
        } else {
            database.with_extension("key")
        };
        Ok(Self { lock: beside(".lock"), key, database })
    }

    /// Takes the lock of those who serve from the database. The system drops it when its file is closed, also after a
    /// crash.
    pub(crate) fn lock(&self) -> Result<File, OpenError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.lock)
            .map_err(|error| OpenError::file(&self.lock, "cannot be opened", error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: self.database.clone() }),
            Err(TryLockError::Error(error)) => Err(OpenError::file(&self.lock, "cannot be locked", error)),
        }
    }
}

fn unusable(path: &Path, error: io::Error) -> OpenError {
    let what = match error.kind() {
        ErrorKind::NotFound => "cannot be made, because its directory does not exist",
        ErrorKind::IsADirectory => "is a directory",
        ErrorKind::PermissionDenied => "may not be read and written by this process",
        _ => "cannot be opened",
    };
    OpenError::file(path, what, error)
}

/// The keys out of the database's own key file.
///
/// A new file is made only if nothing in the database was sealed with a key that is gone.
pub(crate) async fn own_keys(files: &Files, pool: &Pool) -> Result<KeyRing, OpenError> {
    if KeyRing::load(&files.key)?.is_none() {
        canary::check_without_keys(pool).await.map_err(|error| match error {
            OpenError::KeyMissing { id, values } => OpenError::KeyFileMissing { path: files.key.clone(), id, values },
            error => error,
        })?;
    }
    let keys = KeyRing::load_or_create(&files.key)?;
    canary::check(pool, &keys).await?;
    Ok(keys)
}

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The settings of a connection. A commit is on the disk when it is done (`synchronous`), because what is lost may be a
/// refresh token that was spent already.
pub(crate) fn pragmas(access: Access, limits: Limits) -> String {
    format!(
        "PRAGMA busy_timeout = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA trusted_schema = OFF; PRAGMA query_only = {};",
        limits.busy_timeout.as_millis(),
        if access == Access::Read { "ON" } else { "OFF" },
    )
}

/// Makes connections.
pub(crate) fn setup(access: Access, limits: Limits) -> SetupCallback<SqliteConnection> {
    let pragmas = pragmas(access, limits);
    Box::new(move |path| {
        let pragmas = pragmas.clone();
        Box::pin(async move {
            let mut connection = SqliteConnection::establish(path).await?;
            connection.batch_execute(&pragmas).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
            Ok(connection)
        })
    })
}
