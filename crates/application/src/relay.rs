//! Relaying: a client's request goes to the server behind a connector, and the answer comes back as it is.

use std::sync::Arc;

use bytes::Bytes;
use connectors_domain::{Connector, ConnectorId, ConnectorState, Event, Grant, GrantSource, OwnerId};

use crate::connect::credential_rejected;
use crate::ports::{RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, RelayTarget, RequestHeaders};
use crate::service::AdvanceError;
use crate::{Conflict, ConnectorService, Error};

/// A request was not relayed.
#[derive(Debug)]
pub enum RelayFailure {
    /// The connector cannot be used now; somebody has to connect it.
    Unusable(Box<Connector>),
    /// The server failed. It is never [`RelayError::Unauthorized`].
    Server(RelayError),
    /// The service failed, or there is no such connector.
    Service(Error),
}

impl From<Error> for RelayFailure {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

impl ConnectorService {
    /// Passes a request on to the server behind the connector `id` of `owner`.
    ///
    /// A server that does not take the credential disconnects the connector. Nothing is sent twice, except after that
    /// refusal, and then only if the connector has got another credential meanwhile.
    pub async fn relay(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        method: RelayMethod,
        headers: RequestHeaders,
        body: Bytes,
    ) -> Result<RelayResponse, RelayFailure> {
        let target = self.target(owner, id).await?;
        let request =
            RelayRequest { target: Arc::clone(&target), method, headers: headers.clone(), body: body.clone() };
        let challenges = match self.ports.mcp.relay(request).await {
            Err(RelayError::Unauthorized { challenges }) => challenges,
            Ok(answer) => return self.followed(owner, id, &target, answer).await,
            Err(error) => return Err(RelayFailure::Server(error)),
        };

        self.targets.forget(id).await;
        let current = self.target(owner, id).await?;
        if current.access_token == target.access_token {
            return Err(self.rejected(owner, id, &target, challenges).await);
        }
        let request = RelayRequest { target: Arc::clone(&current), method, headers, body };
        match self.ports.mcp.relay(request).await {
            Err(RelayError::Unauthorized { challenges }) => Err(self.rejected(owner, id, &current, challenges).await),
            Ok(answer) => self.followed(owner, id, &current, answer).await,
            Err(error) => Err(RelayFailure::Server(error)),
        }
    }

    /// The answer, whose stream of events ends as soon as the connector is no longer used with what `target` says.
    async fn followed(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        target: &RelayTarget,
        answer: RelayResponse,
    ) -> Result<RelayResponse, RelayFailure> {
        let RelayBody::Events { stream } = answer.body else { return Ok(answer) };
        let stream = self.streams.follow(id, stream);
        // It may have ended between the request and now.
        if self.target(owner, id).await?.access_token != target.access_token {
            return Err(RelayFailure::Service(Error::Conflict(Conflict::Changed)));
        }
        Ok(RelayResponse { body: RelayBody::Events { stream }, ..answer })
    }

    /// Where requests through the connector go.
    async fn target(&self, owner: OwnerId, id: ConnectorId) -> Result<Arc<RelayTarget>, RelayFailure> {
        if let Some(target) = self.targets.get(owner, id).await {
            return Ok(target);
        }
        let epoch = self.targets.epoch();
        let connector = self.find(owner, id).await?;
        let ConnectorState::Connected(connected) = &connector.state else {
            return Err(RelayFailure::Unusable(Box::new(connector)));
        };
        let access_token = connected.grant.as_ref().map(|grant| grant.access_token.clone());
        let target = Arc::new(RelayTarget { url: connector.url, access_token });
        self.targets.keep(owner, id, Arc::clone(&target), epoch).await;
        Ok(target)
    }

    /// What becomes of a connector whose server has refused `target`'s credential, unless it has changed since: a token
    /// that the user handed over is kept for the next connect to try, and anything else leads to the user's consent.
    async fn rejected(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        target: &RelayTarget,
        challenges: Vec<String>,
    ) -> RelayFailure {
        let mut connector = match self.find(owner, id).await {
            Ok(connector) => connector,
            Err(error) => return error.into(),
        };
        let ConnectorState::Connected(connected) = &connector.state else {
            return RelayFailure::Unusable(Box::new(connector));
        };
        let grant = connected.grant.clone();
        if grant.as_ref().map(|grant| &grant.access_token) != target.access_token.as_ref() {
            return RelayFailure::Service(Error::Conflict(Conflict::Changed));
        }
        let event = match &grant {
            Some(Grant { source: GrantSource::Supplied, .. }) => {
                Event::Failed { reason: credential_rejected(), recovery: grant }
            }
            _ => self.authorization(&mut connector, challenges, None, None).await,
        };
        match self.advance(connector, event).await {
            Ok(connector) => RelayFailure::Unusable(Box::new(connector)),
            Err(AdvanceError::Conflict) => match self.find(owner, id).await {
                Ok(connector) => RelayFailure::Unusable(Box::new(connector)),
                Err(error) => error.into(),
            },
            Err(error) => RelayFailure::Service(error.into()),
        }
    }
}
