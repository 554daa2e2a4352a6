//! Grants that were given up and are to be revoked at their authorization servers.

use std::time::Duration;

use async_trait::async_trait;
use connectors_domain::{Connector, ConnectorId, Grant, OwnerId};
use jiff::Timestamp;

use super::StoreError;

/// The grants that wait for their revocation (RFC 7009).
///
/// They outlive their connectors: [`Connectors::retire`] and [`Connectors::remove`] put them here in the same write that
/// takes them from the connector. Tokens lie here sealed.
///
/// [`Connectors::retire`]: super::Connectors::retire
/// [`Connectors::remove`]: super::Connectors::remove
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Revocations: Send + Sync + 'static {
    /// Adds one, due now. One with the same key stays as it is.
    async fn add(&self, revocation: Revocation) -> Result<(), StoreError>;

    /// Takes up to `limit` that are due by the store's clock, the longest due first, and puts each off by `hold` in the
    /// same write. One that cannot be opened is logged and dropped.
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<DueRevocation>, StoreError>;

    /// Puts one off until `until`, and counts a failure.
    async fn postpone(&self, key: RevocationKey, until: Timestamp) -> Result<(), StoreError>;

    /// Forgets one: it is done, or given up.
    async fn done(&self, key: RevocationKey) -> Result<(), StoreError>;
}

/// What tells a revocation from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RevocationKey {
    /// The connector that had the grant.
    pub connector: ConnectorId,
    /// The grant's generation.
    pub generation: u64,
}

impl RevocationKey {
    /// The key of a grant that `connector` would have had next.
    pub fn next_of(connector: &Connector) -> Self {
        Self { connector: connector.id, generation: connector.revision.next().number().unsigned_abs() }
    }
}

/// A grant that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Which grant.
    pub key: RevocationKey,
    /// To whom the connector belonged.
    pub owner: OwnerId,
    /// The grant; an authorization server issued it.
    pub grant: Grant,
}

/// A revocation that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRevocation {
    /// What is to be revoked.
    pub revocation: Revocation,
    /// How often it has failed.
    pub failures: u32,
}
