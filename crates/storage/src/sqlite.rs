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
        Self::of(fs::canonicalize(path).map_err(|error| unusable(path, error))?)
    }

    /// Finds the files of the database `path` and makes none. Whether the database is there is said too: if it is not, it
    /// could be made.
    pub(crate) fn find(path: &Path) -> Result<(Self, bool), OpenError> {
        let unusable = |error| unusable(path, error);
        match OpenOptions::new().read(true).write(true).open(path) {
            // A link that leads nowhere is no free place.
            Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {
                let name = path.file_name().ok_or(error).map_err(unusable)?;
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let directory = fs::canonicalize(directory).map_err(unusable)?;
                Ok((Self::of(directory.join(name))?, false))
            }
            Err(error) => Err(unusable(error)),
            Ok(_) => Ok((Self::of(fs::canonicalize(path).map_err(unusable)?)?, true)),
        }
    }

    /// The files of a database whose path has no link on its way.
    fn of(database: PathBuf) -> Result<Self, OpenError> {
        if database.to_str().is_none() {
            let error = io::Error::from(ErrorKind::InvalidFilename);
            return Err(OpenError::file(database, "has a name that is not UTF-8", error));
        }
        let key = if database.extension().is_some_and(|extension| extension == "key") {
            beside(&database, ".key")
        } else {
            database.with_extension("key")
        };
        Ok(Self { lock: beside(&database, ".lock"), key, database })
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
        self.locked(file.try_lock())?;
        Ok(file)
    }

    /// Makes sure that nobody serves from the database. Unlike [`Files::lock`] it makes no lock file: where there is none,
    /// nobody has ever served from here. Where there is one, nobody begins to while the answer lives.
    pub(crate) fn idle(&self) -> Result<Option<File>, OpenError> {
        let file = match File::open(&self.lock) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| OpenError::file(&self.lock, "cannot be opened", error))?,
        };
        self.locked(file.try_lock_shared())?;
        Ok(Some(file))
    }

    fn locked(&self, tried: Result<(), TryLockError>) -> Result<(), OpenError> {
        tried.map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { path: self.database.clone() },
            TryLockError::Error(error) => OpenError::file(&self.lock, "cannot be locked", error),
        })
    }

    /// A SQLite URI under which the database is read without any of its files being changed.
    ///
    /// Of a database that nobody has open and that was closed in order, the file is all there is. After a crash, or
    /// beside a migration, what was committed last is in the `-wal` file, whose index `-shm` is then not written either.
    /// Only where that index is missing SQLite has to make it.
    pub(crate) fn untouched(&self) -> String {
        let path = self.database.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        let has_log = fs::metadata(self.beside("-wal")).is_ok_and(|log| log.len() > 0);
        let mode = match (has_log, self.beside("-shm").exists()) {
            (false, _) => "immutable=1",
            (true, true) => "mode=ro&readonly_shm=1",
            (true, false) => "mode=ro",
        };
        format!("file:{path}?{mode}")
    }

    /// The keys in the key file, if there is one.
    pub(crate) fn keys(&self) -> Result<Option<KeyRing>, OpenError> {
        Ok(KeyRing::load(&self.key)?)
    }

    /// Makes sure that the database does not need the keys of a key file that is missing.
    pub(crate) async fn verify_without_keys(&self, pool: &Pool) -> Result<(), OpenError> {
        canary::verify(pool, None).await.map(|_| ()).map_err(|error| match error {
            OpenError::KeyMissing { id, values } => OpenError::KeyFileMissing { path: self.key.clone(), id, values },
            error => error,
        })
    }

    /// The keys out of the database's own key file.
    ///
    /// A new file is made only if nothing in the database was sealed with a key that is gone.
    pub(crate) async fn own_keys(&self, pool: &Pool) -> Result<KeyRing, OpenError> {
        if let Some(keys) = self.keys()? {
            return Ok(keys);
        }
        self.verify_without_keys(pool).await?;
        Ok(KeyRing::load_or_create(&self.key)?)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.database, ending)
    }
}

/// The file whose name is that of `database` and an ending.
fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.to_owned().into_os_string();
    name.push(ending);
    PathBuf::from(name)
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

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// As `Read`, of [`Files::untouched`].
    Look,
}

/// The settings of a connection. A commit is on the disk when it is done (`synchronous`), because what is lost may be a
/// refresh token that was spent already.
pub(crate) fn pragmas(access: Access, limits: Limits) -> String {
    format!(
        "PRAGMA busy_timeout = {}; {} PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
         PRAGMA trusted_schema = OFF; PRAGMA query_only = {};",
        limits.busy_timeout.as_millis(),
        // This is written into the file.
        if access == Access::Look { "" } else { "PRAGMA journal_mode = WAL;" },
        if access == Access::Write { "OFF" } else { "ON" },
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
