//! The settings: what an operator can decide, read once at the start.
//!
//! They come from defaults, then a file, then the environment; [`SETTINGS`] lists every one of them. What leaves this
//! module is parsed: an address is an address, a preset is a preset, and what is not safe together has been refused.

mod auth;
mod background;
mod connector;
mod database;
mod egress;
mod error;
mod layers;
mod limits;
mod log;
mod oauth;
mod reference;
mod server;
mod table;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use url::Url;

pub use self::auth::{AuthMode, AuthSettings, LoginClient};
pub use self::background::{BackgroundSettings, RenewalSettings};
pub use self::connector::ConnectorSettings;
pub use self::database::DatabaseSettings;
pub use self::egress::EgressSettings;
pub use self::error::{Origin, SettingsError};
pub use self::layers::SettingsFile;
pub use self::limits::LimitSettings;
pub use self::log::{LogFormat, LogSettings};
pub use self::oauth::OAuthSettings;
pub use self::reference::reference;
pub use self::server::ServerSettings;
pub use self::table::{Fallback, Kind, SETTINGS, Setting};
use self::values::Values;

/// Every setting, parsed. Secrets in it do not print.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How clients reach the service.
    pub server: ServerSettings,
    /// Where connectors are kept.
    pub database: DatabaseSettings,
    /// Who may call.
    pub auth: AuthSettings,
    /// How much each user may do.
    pub limits: LimitSettings,
    /// What the service may reach.
    pub egress: EgressSettings,
    /// What users may do.
    pub connector: ConnectorSettings,
    /// This service as a client of authorization servers.
    pub oauth: OAuthSettings,
    /// How access is renewed.
    pub renewal: RenewalSettings,
    /// What the service does by itself.
    pub background: BackgroundSettings,
    /// How calls are relayed.
    pub relay: RelaySettings,
    /// How long a connect may spend on finding out what a server speaks.
    pub probe_timeout: Duration,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// How calls are relayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// How long a server may take to begin its answer.
    pub first_byte_timeout: Duration,
    /// How long a JSON answer may stand still.
    pub idle_timeout: Duration,
    /// How long an event stream may be silent.
    pub stream_idle_timeout: Duration,
    /// After so much silence the client gets a comment.
    pub keep_alive: Duration,
    /// Connectors that are kept in memory.
    pub cache_capacity: u64,
    /// How long they are trusted where there are replicas.
    pub cache_ttl: Duration,
}

impl Settings {
    /// Reads the settings from `file` and the given environment.
    pub fn load(
        file: &SettingsFile,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let mut values = layers::collect(file, environment)?;
        let settings = Self::take(&mut values)?;
        settings.check_together()?;
        Ok(settings)
    }

    fn take(values: &mut Values) -> Result<Self, SettingsError> {
        let auth = AuthSettings::take(values)?;
        Ok(Self {
            server: ServerSettings::take(values)?,
            database: DatabaseSettings::take(values)?,
            limits: LimitSettings::take(values, auth.is_closed())?,
            auth,
            egress: EgressSettings::take(values)?,
            connector: ConnectorSettings::take(values)?,
            oauth: OAuthSettings::take(values)?,
            renewal: RenewalSettings::take(values)?,
            background: BackgroundSettings::take(values)?,
            relay: RelaySettings::take(values)?,
            probe_timeout: values.seconds(&table::PROBE_TIMEOUT)?,
            log: LogSettings::take(values)?,
        })
    }

    /// Refuses what is not safe, or not whole, although each value is good.
    fn check_together(&self) -> Result<(), SettingsError> {
        let listen = self.server.listen;
        if !self.auth.is_closed() && !self.listens_on_loopback() {
            let port = listen.port();
            return Err(SettingsError::Refused(format!(
                "server.listen is {listen}, which other machines may reach, and auth.mode is none, which lets everybody \
                 in. Either keep the service to this machine, or let it ask who calls:\n  \
                 SERVER__LISTEN=127.0.0.1:{port}\n  AUTH__MODE=tokens"
            )));
        }
        if self.auth.is_closed()
            && !self.server.public_url.as_ref().map_or_else(|| self.listens_on_loopback(), auth::is_confidential)
        {
            return Err(SettingsError::Refused(format!(
                "auth.mode is {}, and server.public_url is not https: credentials and the cookies that keep one user's \
                 consent from another's would be there for everybody on the way to read. Set it to what browsers see of the proxy \
                 that speaks TLS before this service:\n  SERVER__PUBLIC_URL=https://connectors.example.com",
                self.auth.mode.as_str()
            )));
        }
        if self.database.url.is_shared() && self.database.keys.is_none() {
            return Err(SettingsError::Refused(
                "encryption.keys is not set, and PostgreSQL has no key file beside it; set ENCRYPTION__KEYS to a JSON \
                 list such as [{\"id\":\"1\",\"key\":\"…\"}] with 32 random bytes in base64 (openssl rand -base64 32)"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether no other machine can reach the service directly.
    pub fn listens_on_loopback(&self) -> bool {
        self.server.listen.ip().to_canonical().is_loopback()
    }

    /// Whether connectors may reach servers on this machine without being listed: only while the service is for this
    /// machine alone anyway, and the operator has not said what may be reached.
    pub fn reaches_loopback(&self) -> bool {
        self.egress.allow.is_empty() && !self.auth.is_closed() && self.listens_on_loopback()
    }

    /// What browsers see of a service that listens on `bound`.
    pub fn public_url(&self, bound: SocketAddr) -> Result<Url, SettingsError> {
        if let Some(url) = &self.server.public_url {
            return Ok(url.clone());
        }
        // Only an IPv6 address with a zone makes no URL.
        Url::parse(&format!("http://{bound}/")).map_err(|_| {
            SettingsError::Refused(format!("server.public_url is not set, and cannot be made of the address {bound}"))
        })
    }
}

impl RelaySettings {
    fn take(values: &mut Values) -> Result<Self, SettingsError> {
        Ok(Self {
            first_byte_timeout: values.seconds(&table::RELAY_FIRST_BYTE_TIMEOUT)?,
            idle_timeout: values.seconds(&table::RELAY_IDLE_TIMEOUT)?,
            stream_idle_timeout: values.seconds(&table::RELAY_STREAM_IDLE_TIMEOUT)?,
            keep_alive: values.seconds(&table::RELAY_KEEP_ALIVE)?,
            cache_capacity: values.count(&table::RELAY_CACHE_CAPACITY)?,
            cache_ttl: values.seconds(&table::RELAY_CACHE_TTL)?,
        })
    }
}

#[cfg(test)]
mod tests;
