//! What the service has to do by itself, and when.

use std::time::Duration;

use async_trait::async_trait;
use connectors_domain::{Connector, ConnectorId, OwnerId, Revision};
use jiff::Timestamp;

use super::StoreError;

/// The connectors that are to be looked after: those whose [`Connector::due_at`] has come, by the store's clock.
///
/// Its cost grows with how many are due, not with how many there are.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Agenda: Send + Sync + 'static {
    /// Takes up to `limit` connectors that are due, the longest due first. Each is put off by `hold` in the same write, and
    /// comes with that as its [`Connector::due_at`]: so its taker knows the store's time, and
    /// no other process takes it meanwhile, one whose process dies comes up again, and one that cannot be helped keeps
    /// nobody waiting. A row that makes no sense is logged and put off for good.
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<Due>, StoreError>;

    /// Puts the connector off until `until` and notes how often in a row it could not be helped, if it still has the
    /// revision. [`Connectors::update`] begins that count anew.
    ///
    /// [`Connectors::update`]: super::Connectors::update
    async fn postpone(&self, postponed: Postponed) -> Result<(), StoreError>;

    /// How many connectors are due now and taken by nobody.
    async fn backlog(&self) -> Result<u64, StoreError>;
}

/// A connector that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The connector, as it is stored.
    pub connector: Connector,
    /// How often in a row it could not be helped.
    pub failures: u32,
}

/// What is put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postponed {
    /// To whom the connector belongs.
    pub owner: OwnerId,
    /// The connector.
    pub connector: ConnectorId,
    /// The revision at which it was looked after.
    pub revision: Revision,
    /// When it is due again; `None` for not before it changes.
    pub until: Option<Timestamp>,
    /// How often in a row it could not be helped.
    pub failures: u32,
}
