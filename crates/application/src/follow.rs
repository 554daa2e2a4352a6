//! Following what other processes change: what is kept in memory of a connector goes when the connector changes.

use connectors_domain::ConnectorId;
use futures_util::StreamExt;

use crate::ConnectorService;
use crate::ports::Noted;
use crate::service::used_since;

impl ConnectorService {
    /// Follows the changes that other processes make, for as long as it is awaited.
    pub async fn follow_changes(&self) {
        let mut changes = self.ports.changes.follow();
        while let Some(noted) = changes.next().await {
            match noted {
                Noted::Connector(id) => {
                    self.targets.forget(id).await;
                    self.review_streams(id).await;
                }
                Noted::Everything => {
                    self.targets.forget_all();
                    for id in self.streams.connectors() {
                        self.review_streams(id).await;
                    }
                }
            }
        }
    }

    /// Cuts the streams through a connector if it is no longer used with the consent with which they were opened.
    async fn review_streams(&self, id: ConnectorId) {
        let Some(consent) = self.streams.open(id) else { return };
        match self.ports.connectors.find(consent.owner, id).await {
            Ok(connector) if connector.as_ref().and_then(used_since) == Some(consent.since) => {}
            Ok(_) => self.streams.cut(id),
            Err(error) => {
                // Nobody knows whether they may go on; a client opens them again at once.
                tracing::warn!(connector = %id, %error, "the streams of a connector that has changed are cut, because the store failed");
                self.streams.cut(id);
            }
        }
    }
}
