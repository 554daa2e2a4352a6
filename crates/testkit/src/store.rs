//! The repository of connectors in memory, for tests of use cases: what a database would do, without one.
//!
//! It passes the same contract as the databases. It seals nothing and keeps nothing when it is dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use connectors_application::ports::{
    ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError,
};
use connectors_domain::{Connector, ConnectorId, OwnerId, StateHash};

/// Keeps connectors in memory. Clones share what they keep.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<BTreeMap<ConnectorId, Connector>>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that is stored, of every owner, in order of ids.
    pub fn all(&self) -> Vec<Connector> {
        self.rows().values().cloned().collect()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<ConnectorId, Connector>> {
        // Every change below is one statement on the map, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Connectors for MemoryStore {
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError> {
        let mut rows = self.rows();
        let key = connector.url.key();
        let mut owned = 0_u64;
        for row in rows.values().filter(|row| row.owner == connector.owner) {
            if row.url.key() == key {
                return Err(InsertError::Duplicate);
            }
            owned += 1;
        }
        if rows.contains_key(&connector.id) {
            return Err(InsertError::Duplicate);
        }
        if owned >= u64::from(limit) {
            return Err(InsertError::LimitReached);
        }
        rows.insert(connector.id, connector);
        Ok(())
    }

    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        Ok(self.rows().get(&id).filter(|row| row.owner == owner).cloned())
    }

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        let waits = |row: &&Connector| row.attempt().is_some_and(|attempt| attempt.state_hash == state);
        Ok(self.rows().values().find(waits).cloned())
    }

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        let rows = self.rows();
        let matching = || {
            rows.values()
                .filter(|row| row.owner == owner)
                .filter(|row| query.state.is_none_or(|state| row.client_state() == state))
        };
        let limit = usize::try_from(query.limit.max(1)).unwrap_or(usize::MAX);
        let mut rest = matching().filter(|row| query.after.is_none_or(|after| row.id > after));
        let items: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        let next = rest.next().and_then(|_| items.last()).map(|last| last.id);
        Ok(ConnectorPage { total: matching().count() as u64, items, next })
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        let mut rows = self.rows();
        let stored = rows
            .get_mut(&connector.id)
            .filter(|row| row.owner == connector.owner && row.revision == connector.revision)
            .ok_or(UpdateError::Conflict)?;
        let updated = Connector { revision: connector.revision.next(), ..connector };
        *stored = updated.clone();
        Ok(updated)
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        let mut rows = self.rows();
        if rows.get(&id).is_none_or(|row| row.owner != owner) {
            return Ok(Removed::Nothing);
        }
        Ok(rows.remove(&id).into())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
