//! Listing the connectors of a user.

use connectors_domain::OwnerId;

use crate::ports::{ConnectorPage, ListQuery};
use crate::{ConnectorService, Error};

impl ConnectorService {
    /// The connectors of `owner`, oldest first, a page at a time.
    pub async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, Error> {
        Ok(self.ports.connectors.list(owner, query).await?)
    }
}
