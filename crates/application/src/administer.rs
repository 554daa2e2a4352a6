//! What an administrator may do: see the connectors of every user, disconnect them and delete them. Never use them.

use connectors_domain::{Connector, ConnectorId};

use crate::ports::{ConnectorPage, ListQuery};
use crate::{ConnectorService, Error};

impl ConnectorService {
    /// The connectors of all users, oldest first, a page at a time.
    pub async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, Error> {
        Ok(self.ports.connectors.list_any(query).await?)
    }

    /// The connector `id`, whoever it belongs to.
    pub async fn read_any(&self, id: ConnectorId) -> Result<Connector, Error> {
        self.ports.connectors.find_any(id).await?.ok_or(Error::NotFound)
    }

    /// As [`ConnectorService::disconnect`], whoever it belongs to.
    pub async fn disconnect_any(&self, id: ConnectorId) -> Result<Connector, Error> {
        let owner = self.read_any(id).await?.owner;
        self.disconnect(owner, id).await
    }

    /// As [`ConnectorService::delete`], whoever it belongs to.
    pub async fn delete_any(&self, id: ConnectorId) -> Result<(), Error> {
        let owner = self.read_any(id).await?.owner;
        self.delete(owner, id).await
    }
}
