//! Sections `renewal` and `background`: what the service does so that connectors stay connected.

use std::num::NonZeroU32;
use std::time::Duration;

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// How access is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalSettings {
    /// How long one process may renew a grant while no other does.
    pub lease: Duration,
    /// How long a call waits for it.
    pub wait: Duration,
    /// Renewals under way at once at one authorization server.
    pub concurrency: usize,
    /// Renewals begun in a second at one authorization server.
    pub rate: NonZeroU32,
}

/// What the service does by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackgroundSettings {
    /// How often it looks for what is due.
    pub interval: Duration,
    /// How often a server is asked whether it is there; `None` for never.
    pub health_interval: Option<Duration>,
}

impl RenewalSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        Ok(Self {
            lease: values.seconds(&table::RENEWAL_LEASE)?,
            wait: values.seconds(&table::RENEWAL_WAIT)?,
            concurrency: values.count(&table::RENEWAL_CONCURRENCY)?,
            rate: NonZeroU32::new(values.count(&table::RENEWAL_RATE)?).unwrap_or(NonZeroU32::MIN),
        })
    }
}

impl BackgroundSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        let health_interval = values.seconds(&table::BACKGROUND_HEALTH_INTERVAL)?;
        Ok(Self {
            interval: values.seconds(&table::BACKGROUND_INTERVAL)?,
            health_interval: (!health_interval.is_zero()).then_some(health_interval),
        })
    }
}
