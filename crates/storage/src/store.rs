//! The store as a whole: opening it, and running units of work.

use std::fs::File;
use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::changes::Listener;
use crate::error::Fault;
use crate::pool::Pool;
use crate::settings::Database;
use crate::told::Told;
use crate::{KeyRing, Migrations, OpenError, StoreSettings, canary, migrations, postgres, renewals, reseal, sqlite};

/// Connectors in a database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) pool: Pool,
    pub(crate) keys: KeyRing,
    pub(crate) told: Arc<Told>,
    pub(crate) listener: Arc<Listener>,
    runtime: Handle,
    /// Keeps a second process from serving the same SQLite database while any clone of the store lives.
    _lock: Option<Arc<File>>,
}

/// What [`Store::check`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The database can be used as it is.
    Ready,
    /// The SQLite database can be used, and has no key file yet; opening makes one.
    NoKeyFile,
    /// There is no SQLite database yet; opening makes one.
    NoDatabase,
}

impl Store {
    /// Opens the database, making a SQLite one if there is none, and brings it up to date.
    ///
    /// It must be called on a tokio runtime with several threads, where all queries will run: diesel's SQLite driver
    /// blocks its thread when a caller goes away, which a runtime of one thread answers with a panic. Callers may be
    /// anywhere.
    ///
    /// The time it takes does not grow with the number of connectors, unless a key of the database is missing.
    pub async fn open(settings: StoreSettings) -> Result<Self, OpenError> {
        let runtime = runtime()?;
        runtime
            .spawn(open(settings, runtime.clone(), Role::Serving))
            .await
            .unwrap_or_else(|error| Err(Fault::Task(error).into()))
    }

    /// Opens the database beside a process that serves from it, which with SQLite [`Store::open`] would refuse: for one
    /// command of an operator. Work that only one process may do must not be begun on it.
    pub async fn open_beside(settings: StoreSettings) -> Result<Self, OpenError> {
        let runtime = runtime()?;
        let opened = runtime.spawn(open(settings, runtime.clone(), Role::Beside));
        opened.await.unwrap_or_else(|error| Err(Fault::Task(error).into()))
    }

    /// The keys under which it seals.
    pub const fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Runs the migrations that the database lacks and returns their names. The database may be in use meanwhile, also
    /// by older versions of this program.
    pub async fn migrate(settings: StoreSettings) -> Result<Vec<String>, OpenError> {
        runtime()?.spawn(migrate(settings)).await.unwrap_or_else(|error| Err(Fault::Task(error).into()))
    }

    /// Finds out whether [`Store::open`] would succeed without migrations, whatever `settings.migrations` says, and changes
    /// nothing: neither in the database nor among its files.
    pub async fn check(settings: StoreSettings) -> Result<Checked, OpenError> {
        runtime()?.spawn(check(settings)).await.unwrap_or_else(|error| Err(Fault::Task(error).into()))
    }

    /// Runs `work` as a task of its own: a caller that goes away neither blocks a thread nor leaves work half done.
    pub(crate) async fn unit<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        self.runtime.spawn(work).await?
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("pool", &self.pool).field("keys", &self.keys).finish_non_exhaustive()
    }
}

fn runtime() -> Result<Handle, OpenError> {
    let runtime = Handle::try_current().map_err(|_| OpenError::Runtime)?;
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread { Err(OpenError::Runtime) } else { Ok(runtime) }
}

/// For what a store is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// To serve from it.
    Serving,
    /// For one command, beside whoever serves from it.
    Beside,
}

async fn open(settings: StoreSettings, runtime: Handle, role: Role) -> Result<Store, OpenError> {
    let StoreSettings { url, keys, migrations, limits } = settings;
    let (pool, keys, lock, connector) = match url.0 {
        Database::Sqlite(path) => {
            let files = sqlite::Files::prepare(&path)?;
            let lock = (role == Role::Serving).then(|| files.lock()).transpose()?;
            if migrations == Migrations::Run {
                migrations::sqlite(files.database.clone(), limits).await?;
            }
            let pool = Pool::sqlite(&files, limits)?;
            migrations::check(&pool).await?;
            let keys = match keys {
                Some(keys) => keys,
                None => files.own_keys(&pool).await?,
            };
            if role == Role::Serving {
                renewals::clear(&pool).await?;
            }
            (pool, keys, lock.map(Arc::new), None)
        }
        Database::Postgres(url) => {
            let keys = keys.ok_or(OpenError::KeysRequired)?;
            let connector = postgres::Connector::new(*url, limits)?;
            match migrations {
                Migrations::Run => drop(migrations::postgres(&connector, limits).await?),
                Migrations::Check => connector.reach().await?,
            }
            let pool = Pool::postgres(connector.clone(), limits)?;
            migrations::check(&pool).await?;
            (pool, keys, None, Some(connector))
        }
    };
    canary::settle(&pool, &keys).await?;
    reseal::tell_missing(&pool, &keys).await?;
    let listener = Arc::new(Listener::new(connector, runtime.clone()));
    Ok(Store { pool, keys, told: Arc::default(), listener, runtime, _lock: lock })
}

async fn check(settings: StoreSettings) -> Result<Checked, OpenError> {
    let StoreSettings { url, keys, limits, migrations: _ } = settings;
    match url.0 {
        Database::Sqlite(path) => {
            let (files, exists) = sqlite::Files::find(&path)?;
            let _idle = files.idle()?;
            let keys = match keys {
                Some(keys) => Some(keys),
                None => files.keys()?,
            };
            if !exists {
                return Ok(Checked::NoDatabase);
            }
            let pool = Pool::sqlite_untouched(&files, limits)?;
            migrations::check(&pool).await?;
            if let Some(keys) = keys {
                canary::verify(&pool, Some(&keys)).await?;
                return Ok(Checked::Ready);
            }
            files.verify_without_keys(&pool).await?;
            Ok(Checked::NoKeyFile)
        }
        Database::Postgres(url) => {
            let keys = keys.ok_or(OpenError::KeysRequired)?;
            let connector = postgres::Connector::new(*url, limits)?;
            connector.reach().await?;
            let pool = Pool::postgres(connector, limits)?;
            migrations::check(&pool).await?;
            canary::verify(&pool, Some(&keys)).await?;
            Ok(Checked::Ready)
        }
    }
}

async fn migrate(settings: StoreSettings) -> Result<Vec<String>, OpenError> {
    let limits = settings.limits;
    match settings.url.0 {
        Database::Sqlite(path) => {
            let files = sqlite::Files::prepare(&path)?;
            migrations::sqlite(files.database, limits).await
        }
        Database::Postgres(url) => {
            let connector = postgres::Connector::new(*url, limits)?;
            migrations::postgres(&connector, limits).await
        }
    }
}
