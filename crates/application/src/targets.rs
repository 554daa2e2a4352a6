//! What the relay must know of a connector, kept in memory so that a call costs no database round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connectors_domain::{ConnectorId, OwnerId};
use moka::future::Cache;

use crate::ports::RelayTarget;

/// A bounded cache of the targets of connected connectors.
///
/// Every change of a connector through this process removes its target. A reader that has read the row before such a
/// change and stores its target afterwards would bring the old one back; the epoch, which counts changes, shows that,
/// and the reader then takes its own entry out again.
#[derive(Clone)]
pub(crate) struct Targets {
    cache: Cache<ConnectorId, Entry>,
    epoch: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Entry {
    owner: OwnerId,
    target: Arc<RelayTarget>,
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
    pub(crate) async fn get(&self, owner: OwnerId, id: ConnectorId) -> Option<Arc<RelayTarget>> {
        self.cache.get(&id).await.filter(|entry| entry.owner == owner).map(|entry| entry.target)
    }

    /// To be called before the row is read.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::SeqCst))
    }

    /// Keeps a target that was read from its row after `epoch` was taken.
    pub(crate) async fn keep(&self, owner: OwnerId, id: ConnectorId, target: Arc<RelayTarget>, epoch: Epoch) {
        self.cache.insert(id, Entry { owner, target }).await;
        if self.epoch.load(Ordering::SeqCst) != epoch.0 {
            self.cache.invalidate(&id).await;
        }
    }

    /// Forgets the target of `id`, now and for readers that are under way.
    pub(crate) async fn forget(&self, id: ConnectorId) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.cache.invalidate(&id).await;
    }
}
