//! Disconnecting at the user's wish.

use connectors_domain::{Connector, ConnectorId, Event, OwnerId};

use crate::service::AdvanceError;
use crate::{Conflict, ConnectorService, Error};

/// How often a disconnect begins anew because somebody else was quicker. The user's wish should win over the service's
/// own work, which changes a connector a few times a minute at the most.
const ATTEMPTS: usize = 5;

impl ConnectorService {
    /// Disconnects the connector `id` of `owner` and drops what it was granted. A connector that is disconnected already
    /// stays so.
    pub async fn disconnect(&self, owner: OwnerId, id: ConnectorId) -> Result<Connector, Error> {
        for _ in 0..ATTEMPTS {
            let connector = self.find(owner, id).await?;
            match self.advance(connector, Event::DisconnectRequested).await {
                Ok(connector) => return Ok(connector),
                Err(AdvanceError::Conflict) => {}
                Err(AdvanceError::Refused(_)) => {
                    return Err(Error::BadRequest(
                        "The connector was never connected, so there is nothing to disconnect.".to_owned(),
                    ));
                }
                Err(AdvanceError::Failed(error)) => return Err(error),
            }
        }
        Err(Error::Conflict(Conflict::Changed))
    }
}
