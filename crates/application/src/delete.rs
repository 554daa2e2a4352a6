//! Removing a connector.

use connectors_domain::{ConnectorId, OwnerId};

use crate::ports::Removed;
use crate::{ConnectorService, Error, audit};

impl ConnectorService {
    /// Removes the connector `id` of `owner` with all that is stored of it, whatever its state.
    pub async fn delete(&self, owner: OwnerId, id: ConnectorId) -> Result<(), Error> {
        let service = self.clone();
        self.to_the_end(async move {
            let removed = service.ports.connectors.remove(owner, id).await;
            service.targets.forget(id).await;
            service.streams.cut(id);
            service.work.notify_one();
            if removed? == Removed::Nothing {
                return Err(Error::NotFound);
            }
            audit::deleted(id, owner);
            Ok(())
        })
        .await?
    }
}
