//! PostgreSQL: its URL and its connections.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::pooled_connection::SetupCallback;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::stream::{Stream, poll_fn};
use tokio_postgres::config::{Config, Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{DatabaseUrlError, Limits, OpenError, tls};

/// A transaction whose process has vanished loses its locks after this time.
const IDLE_IN_TRANSACTION: Duration = Duration::from_mins(1);

/// How long a migration waits for a lock: whatever comes after it waits as long.
const MIGRATION_LOCK: Duration = Duration::from_secs(5);

/// How long a connection is silent before the system asks whether its other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Where a PostgreSQL database is, and how it is reached.
#[derive(Clone)]
pub(crate) struct PostgresUrl {
    config: Config,
    tls: Tls,
}

/// Whether TLS is used, and what the server must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    Disable,
    Prefer,
    Require,
    VerifyFull { root: Option<PathBuf> },
}

impl PostgresUrl {
    pub(crate) fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        // tokio-postgres knows neither `sslmode=verify-full` nor `sslrootcert`; they are taken out before it reads.
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => root = Some(value),
                _ => rest.push(pair),
            }
        }
        let root = root.map(|value| PathBuf::from(decode(value)));
        let tls = match (mode.unwrap_or("prefer"), root) {
            ("verify-full", root) => Tls::VerifyFull { root },
            ("disable" | "prefer" | "require", Some(_)) => return Err(DatabaseUrlError::SslRootCert),
            ("disable", None) => Tls::Disable,
            ("prefer", None) => Tls::Prefer,
            ("require", None) => Tls::Require,
            _ => return Err(DatabaseUrlError::SslMode),
        };
        let url = format!("{base}?{}", rest.join("&"));
        let mut config = Config::from_str(&url).map_err(|_| DatabaseUrlError::Postgres)?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(DatabaseUrlError::NoHost);
        }
        config.ssl_mode(match tls {
            Tls::Disable => SslMode::Disable,
            Tls::Prefer => SslMode::Prefer,
            Tls::Require | Tls::VerifyFull { .. } => SslMode::Require,
        });
        // After a failover, one of several hosts, or the one that a name leads to, may be a standby.
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        if config.get_application_name().is_none() {
            config.application_name("connectors");
        }
        config.keepalives_idle(KEEPALIVE);
        Ok(Self { config, tls })
    }

    /// The hosts and addresses that are dialled over TCP, each with its port. One port may stand for all of them.
    pub(crate) fn endpoints(&self) -> Vec<(String, u16)> {
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate().filter_map(|(index, host)| match host {
            Host::Tcp(name) => Some((name.clone(), port(index))),
            Host::Unix(_) => None,
        });
        let addresses = self.config.get_hostaddrs().iter().enumerate();
        hosts.chain(addresses.map(|(index, address)| (address.to_string(), port(index)))).collect()
    }
}

/// Percent-decoding of a query value, in which `+` stands for itself.
fn decode(value: &str) -> String {
    let pair = format!("v={}", value.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// User, hosts and database: what an operator knows it by.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        let ports = self.config.get_ports();
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match host {
                Host::Tcp(name) => f.write_str(name)?,
                Host::Unix(path) => write!(f, "{}", path.display())?,
            }
            if let Some(port) = ports.get(index).filter(|port| **port != 5432) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

/// Makes connections to one database.
#[derive(Clone)]
pub(crate) struct Connector {
    url: PostgresUrl,
    tls: MakeRustlsConnect,
    limits: Limits,
}

impl Connector {
    pub(crate) fn new(mut url: PostgresUrl, limits: Limits) -> Result<Self, OpenError> {
        if url.config.get_connect_timeout().is_none() {
            url.config.connect_timeout(limits.connect_timeout);
        }
        let tls = match &url.tls {
            Tls::VerifyFull { root } => tls::verifying(root.as_deref())?,
            // With TLS disabled the configuration is there and never used.
            Tls::Disable | Tls::Prefer | Tls::Require => tls::trusting()?,
        };
        Ok(Self { url, tls: MakeRustlsConnect::new(tls), limits })
    }

    /// A connection to run migrations on.
    pub(crate) async fn for_migrations(&self) -> Result<AsyncPgConnection, OpenError> {
        let settings = format!("SET lock_timeout = {}", MIGRATION_LOCK.as_millis());
        let connection = tokio::time::timeout(self.limits.connect_timeout, self.connect(&settings)).await;
        let failed = |source| OpenError::Connect { database: self.url.to_string(), source };
        connection.map_err(|elapsed| failed(Box::new(elapsed)))?.map_err(|error| failed(Box::new(error)))
    }

    /// Makes sure that the database can be reached: a pool would not say as well why it cannot.
    pub(crate) async fn reach(&self) -> Result<(), OpenError> {
        self.for_migrations().await.map(drop)
    }

    /// Makes connections for a pool.
    pub(crate) fn setup(self) -> SetupCallback<AsyncPgConnection> {
        let time = self.limits.statement_timeout.as_millis();
        let settings = format!(
            "SET statement_timeout = {time}; SET lock_timeout = {time}; \
             SET idle_in_transaction_session_timeout = {}; SET default_transaction_isolation = 'read committed'",
            IDLE_IN_TRANSACTION.as_millis(),
        );
        Box::new(move |_| {
            let (connector, settings) = (self.clone(), settings.clone());
            Box::pin(async move { connector.connect(&settings).await })
        })
    }

    /// A connection of its own, with what the server sends on it without being asked. It must be polled for the client to
    /// get answers, and ends when that is dropped.
    pub(crate) async fn dial(&self) -> Result<(Client, impl Stream<Item = Result<AsyncMessage, Error>>), Error> {
        let (client, mut connection) = self.url.config.connect(self.tls.clone()).await?;
        Ok((client, poll_fn(move |context| connection.poll_message(context))))
    }

    async fn connect(&self, settings: &str) -> ConnectionResult<AsyncPgConnection> {
        let (client, connection) = self
            .url
            .config
            .connect(self.tls.clone())
            .await
            .map_err(|error| ConnectionError::BadConnection(tls::chain(&error)))?;
        let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        connection.batch_execute(settings).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(connection)
    }
}
