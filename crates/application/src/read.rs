//! Reading one connector.

use connectors_domain::{Connector, ConnectorId, OwnerId};

use crate::{ConnectorService, Error};

impl ConnectorService {
    /// The connector `id` of `owner`.
    pub async fn read(&self, owner: OwnerId, id: ConnectorId) -> Result<Connector, Error> {
        self.find(owner, id).await
    }
}
