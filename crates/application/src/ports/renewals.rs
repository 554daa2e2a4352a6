//! Who may renew a grant: one at a time, over all processes and crashes.

use std::time::Duration;

use async_trait::async_trait;
use connectors_domain::{Connector, ConnectorId, OwnerId};
use uuid::Uuid;

use super::StoreError;

/// The leases on grants that are being renewed.
///
/// A lease belongs to one generation of one connector's grant and to one holder. It lies beside the connector, not in it:
/// taking or giving it back changes no revision. Its time is the store's own clock, so that processes whose clocks differ
/// agree on it. What a renewal brings is stored by [`Connectors::update`], whose revision shows whether the generation is
/// still there.
///
/// [`Connectors::update`]: super::Connectors::update
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Renewals: Send + Sync + 'static {
    /// Gives the lease on a generation to a holder, if that generation is still the connector's and nobody else has the
    /// lease.
    ///
    /// In the same write the generation is marked as one whose refresh token is about to be spent. So a store that cannot
    /// be written to costs no token, and who comes after a crash knows that there was one.
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError>;

    /// Gives a lease back, if the holder has it. The mark stays, unless the refresh token is known to be `unspent`.
    async fn release(&self, key: RenewalKey, holder: Uuid, unspent: bool) -> Result<(), StoreError>;
}

/// What a lease is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RenewalKey {
    /// To whom the connector belongs.
    pub owner: OwnerId,
    /// The connector.
    pub connector: ConnectorId,
    /// The generation of its grant.
    pub generation: u64,
}

/// The wish to renew a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What is to be renewed.
    pub key: RenewalKey,
    /// Who wishes it: every process that runs the service has a number of its own, a new one at each start.
    pub holder: Uuid,
    /// How long the lease lasts: longer than a renewal may take with all its waits.
    pub lease: Duration,
}

/// What came of a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// The caller renews.
    Yours {
        /// The connector as it is stored, with the grant of that generation.
        connector: Box<Connector>,
        /// Whether the generation was marked before: somebody may have spent its refresh token and never have told what
        /// came of it.
        interrupted: bool,
    },
    /// Somebody else is at it.
    Busy,
    /// The connector is gone, or its grant is of another generation.
    Outdated,
}
