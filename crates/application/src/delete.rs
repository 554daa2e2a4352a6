//! Removing a connector.

use connectors_domain::{ConnectorId, OwnerId};

use crate::{ConnectorService, Error};

impl ConnectorService {
    /// Removes the connector `id` of `owner` with all that is stored of it, whatever its state.
    pub async fn delete(&self, owner: OwnerId, id: ConnectorId) -> Result<(), Error> {
        let removed = self.ports.connectors.remove(owner, id).await;
        self.targets.forget(id).await;
        removed?.ok_or(Error::NotFound)?;
        tracing::info!(connector = %id, %owner, "connector deleted");
        Ok(())
    }
}
