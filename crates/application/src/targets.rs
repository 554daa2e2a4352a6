//! What the relay must know of a connector, kept in memory so that a call costs no database round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connectors_domain::{Connector, ConnectorId, ConnectorState, Grant, IssuedGrant, OwnerId, Revision};
use jiff::Timestamp;
use moka::future::Cache;

use crate::ports::{RelayTarget, RenewalKey};

/// Where requests through a connected connector go, and how long that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// For the port: server and credential.
    pub(crate) relay: Arc<RelayTarget>,
    /// [`Connected::since`](connectors_domain::Connected::since): tells one consent from the next.
    pub(crate) since: Revision,
    /// How the credential is renewed; `None` if it cannot be.
    pub(crate) renewal: Option<Renewal>,
    /// When the credential ends, as far as anybody knows.
    expires_at: Option<Timestamp>,
}

/// How a credential is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// The generation that would be spent.
    pub(crate) key: RenewalKey,
    /// From when on it is renewed before it is used.
    stale_at: Option<Timestamp>,
}

impl Target {
    /// The target of a connector; `None` unless it is connected.
    pub(crate) fn of(connector: &Connector) -> Option<Self> {
        let ConnectorState::Connected(connected) = &connector.state else { return None };
        let grant = connected.grant.as_ref();
        let issued = grant.and_then(Grant::issued);
        let renewal = issued.filter(|issued| issued.is_renewable() && issued.generation != IssuedGrant::UNSTORED);
        Some(Self {
            relay: Arc::new(RelayTarget {
                url: connector.url.clone(),
                access_token: grant.map(|grant| grant.access_token.clone()),
            }),
            since: connected.since,
            renewal: renewal.map(|issued| Renewal {
                key: RenewalKey { owner: connector.owner, connector: connector.id, generation: issued.generation },
                stale_at: issued.stale_at(),
            }),
            expires_at: issued.and_then(|issued| issued.expires_at),
        })
    }

    /// What must be renewed before the target is used at `now`.
    pub(crate) fn stale(&self, now: impl FnOnce() -> Timestamp) -> Option<RenewalKey> {
        let renewal = self.renewal?;
        renewal.stale_at.is_some_and(|stale_at| stale_at <= now()).then_some(renewal.key)
    }

    /// Whether the credential has ended at `now`.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

/// A bounded cache of the targets of connected connectors.
///
/// Every change of a connector through this process removes its target, and so does every change that another process
/// tells of. A reader that has read the row before such a change and stores its target afterwards would bring the old one
/// back; the epoch, which counts changes, shows that, and the reader then takes its own entry out again.
#[derive(Clone)]
pub(crate) struct Targets {
    cache: Cache<ConnectorId, Entry>,
    epoch: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Entry {
    owner: OwnerId,
    target: Arc<Target>,
}

/// The state of the cache before the row was read; see [`Targets::keep`].
pub(crate) struct Epoch(u64);

impl Targets {
    pub(crate) fn new(capacity: u64, ttl: Option<Duration>) -> Self {
        let builder = Cache::builder().max_capacity(capacity);
        let cache = match ttl {
            Some(ttl) => builder.time_to_live(ttl).build(),
            None => builder.build(),
        };
        Self { cache, epoch: Arc::new(AtomicU64::new(0)) }
    }

    /// The target of connector `id`, if it is `owner`'s and in memory.
    pub(crate) async fn get(&self, owner: OwnerId, id: ConnectorId) -> Option<Arc<Target>> {
        self.cache.get(&id).await.filter(|entry| entry.owner == owner).map(|entry| entry.target)
    }

    /// To be called before the row is read.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    /// Keeps a target that was read from its row after `epoch` was taken.
    pub(crate) async fn keep(&self, owner: OwnerId, id: ConnectorId, target: Arc<Target>, epoch: Epoch) {
        if self.epoch.load(Ordering::SeqCst) != epoch.0 {
            return;
        }
        self.cache.insert(id, Entry { owner, target }).await;
        // A change between the two: whoever reads in that moment finds what was true a moment ago.
        if self.epoch.load(Ordering::SeqCst) != epoch.0 {
            self.cache.invalidate(&id).await;
        }
    }

    /// Forgets the target of `id`, now and for readers that are under way.
    pub(crate) async fn forget(&self, id: ConnectorId) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.cache.invalidate(&id).await;
    }

    /// Forgets all targets, now and for readers that are under way.
    pub(crate) fn forget_all(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.cache.invalidate_all();
    }
}
