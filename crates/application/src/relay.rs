//! Relaying: a client's request goes to the server behind a connector, and the answer comes back as it is.

use std::sync::Arc;

use bytes::Bytes;
use connectors_domain::{Connector, ConnectorId, Event, GrantSource, OwnerId};

use crate::connect::credential_rejected;
use crate::ports::{RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, RequestHeaders};
use crate::renew::{Renewed, Unrenewed};
use crate::service::AdvanceError;
use crate::streams::Consent;
use crate::targets::Target;
use crate::{Conflict, ConnectorService, Error, sessions};

/// The status of a server that understood and refuses.
const FORBIDDEN: u16 = 403;

/// A request was not relayed.
#[derive(Debug)]
pub enum RelayFailure {
    /// The connector cannot be used now; somebody has to connect it.
    Unusable(Box<Connector>),
    /// The server wants a wider consent for this request. The connector goes on serving what it can.
    WiderConsent(Box<Connector>),
    /// The connector's access has ended and could not be renewed now; the server was not asked, or has refused the old one.
    Unrenewed(Unrenewed),
    /// The server failed. It is never [`RelayError::Unauthorized`].
    Server(RelayError),
    /// The request names a session that was not given out for this user and this connector, or is over.
    UnknownSession,
    /// The service failed, or there is no such connector.
    Service(Error),
}

impl From<Error> for RelayFailure {
    fn from(error: Error) -> Self {
        Self::Service(error)
    }
}

/// What a client wants to be passed on; it may be sent twice.
struct Call {
    method: RelayMethod,
    headers: RequestHeaders,
    body: Bytes,
}

impl ConnectorService {
    /// Passes a request on to the server behind the connector `id` of `owner`.
    ///
    /// The credential is renewed before it ends, and when the server refuses it. Only after that refusal, and with another
    /// credential, is a request sent again; if that is refused as well, or there is no other, somebody has to connect anew.
    pub async fn relay(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        method: RelayMethod,
        headers: RequestHeaders,
        body: Bytes,
    ) -> Result<RelayResponse, RelayFailure> {
        let mut call = Call { method, headers, body };
        let sealer = self.ports.sealer.as_ref();
        let session = sessions::open(sealer, owner, id, &mut call.headers)
            .map_err(|sessions::ForeignSession| RelayFailure::UnknownSession)?;
        let place = match method {
            RelayMethod::Get => Some(self.limits.stream(owner)?),
            RelayMethod::Post | RelayMethod::Delete => None,
        };
        // A connection to the server serves later calls, too.
        let mut answer = self.at_home(Box::pin(self.relay_call(owner, id, call))).await?;
        if let RelayBody::Events { stream } = answer.body {
            // The server has acted on a call by now: its answer is counted, and never refused.
            let place = place.unwrap_or_else(|| self.limits.answer(owner));
            answer.body = RelayBody::Events { stream: place.held_by(stream) };
        }
        sessions::close(sealer, owner, id, session.as_ref(), &mut answer.headers);
        Ok(answer)
    }

    async fn relay_call(&self, owner: OwnerId, id: ConnectorId, call: Call) -> Result<RelayResponse, RelayFailure> {
        let target = self.fresh_target(owner, id).await?;
        let challenges = match self.send(&target, &call).await {
            Err(RelayError::Unauthorized { challenges }) => challenges,
            answer => return self.answered(owner, id, &target, answer).await,
        };
        let other = self.other_target(owner, id, &target).await?;
        let (target, challenges) = match other {
            None => (target, challenges),
            Some(other) => match self.send(&other, &call).await {
                Err(RelayError::Unauthorized { challenges }) => (other, challenges),
                answer => return self.answered(owner, id, &other, answer).await,
            },
        };
        Err(self.rejected(owner, id, &target, challenges).await)
    }

    async fn send(&self, target: &Target, call: &Call) -> Result<RelayResponse, RelayError> {
        let Call { method, headers, body } = call;
        let request = RelayRequest {
            target: Arc::clone(&target.relay),
            method: *method,
            headers: headers.clone(),
            body: body.clone(),
        };
        self.ports.mcp.relay(request).await
    }

    /// What a caller gets of an answer that is no refusal of the credential.
    async fn answered(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        target: &Target,
        answer: Result<RelayResponse, RelayError>,
    ) -> Result<RelayResponse, RelayFailure> {
        let answer = answer.map_err(RelayFailure::Server)?;
        if answer.status == FORBIDDEN
            && let Some(connector) = self.step_up(owner, id, target, &answer.challenges).await?
        {
            return Err(RelayFailure::WiderConsent(Box::new(connector)));
        }
        let RelayBody::Events { stream } = answer.body else { return Ok(answer) };
        // A stream ends as soon as the connector is no longer used with this consent.
        let stream = self.streams.follow(id, Consent { owner, since: target.since }, stream);
        // It may have ended between the request and now.
        if self.target(owner, id).await?.since != target.since {
            return Err(RelayFailure::Service(Error::Conflict(Conflict::Changed)));
        }
        Ok(RelayResponse { body: RelayBody::Events { stream }, ..answer })
    }

    /// Where requests through the connector go, with a credential that is renewed if it is about to end.
    async fn fresh_target(&self, owner: OwnerId, id: ConnectorId) -> Result<Arc<Target>, RelayFailure> {
        let target = self.target(owner, id).await?;
        let Some(key) = target.stale(|| self.now()) else { return Ok(target) };
        let living = !target.has_expired(self.now());
        match self.renew(key, living).await {
            Renewed::Fresh(connector) => self.renewed_target(&connector).await,
            Renewed::Changed => self.target(owner, id).await,
            // What is at hand is used while it lives.
            Renewed::Failed(_) if living => Ok(target),
            Renewed::Failed(unrenewed) => Err(RelayFailure::Unrenewed(unrenewed)),
        }
    }

    /// Where requests go instead, after the server has refused `target`'s credential: `None` if there is no other
    /// credential.
    async fn other_target(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        target: &Target,
    ) -> Result<Option<Arc<Target>>, RelayFailure> {
        self.targets.forget(id).await;
        let mut current = self.target(owner, id).await?;
        if current.relay.access_token == target.relay.access_token
            && let Some(renewal) = current.renewal
        {
            current = match self.renew(renewal.key, false).await {
                Renewed::Fresh(connector) => self.renewed_target(&connector).await?,
                Renewed::Changed => {
                    self.targets.forget(id).await;
                    self.target(owner, id).await?
                }
                Renewed::Failed(unrenewed) => return Err(RelayFailure::Unrenewed(unrenewed)),
            };
        }
        Ok((current.relay.access_token != target.relay.access_token).then_some(current))
    }

    /// Where requests through a connector go that was renewed just now: as it is stored, so that the next calls find it in
    /// memory; or as it came, if the store is away, or what is in memory is of the moment before.
    async fn renewed_target(&self, connector: &Connector) -> Result<Arc<Target>, RelayFailure> {
        let renewed = usable(connector)?;
        match self.target(connector.owner, connector.id).await {
            Ok(target) if target.relay.access_token == renewed.relay.access_token => Ok(target),
            Ok(_) | Err(RelayFailure::Service(Error::Unavailable(_))) => Ok(renewed),
            Err(failure) => Err(failure),
        }
    }

    /// Where requests through the connector go.
    pub(crate) async fn target(&self, owner: OwnerId, id: ConnectorId) -> Result<Arc<Target>, RelayFailure> {
        if let Some(target) = self.targets.get(owner, id).await {
            return Ok(target);
        }
        if let Some(target) = self.renewing.unstored(owner, id) {
            return Ok(Arc::new(target));
        }
        let epoch = self.targets.epoch();
        let connector = self.find(owner, id).await?;
        let target = usable(&connector)?;
        self.targets.keep(owner, id, Arc::clone(&target), epoch).await;
        Ok(target)
    }

    /// What becomes of a connector whose server has refused `target`'s credential for good, unless it has changed since: a
    /// token that the user handed over is kept for the next connect to try, and anything else leads to the user's consent.
    pub(crate) async fn rejected(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        target: &Target,
        challenges: Vec<String>,
    ) -> RelayFailure {
        let mut connector = match self.find(owner, id).await {
            Ok(connector) => connector,
            Err(error) => return error.into(),
        };
        let Some(current) = Target::of(&connector) else { return RelayFailure::Unusable(Box::new(connector)) };
        if current.relay.access_token != target.relay.access_token {
            return RelayFailure::Service(Error::Conflict(Conflict::Changed));
        }
        let held = connector.grant().cloned();
        let event = match &held {
            Some(grant) if grant.source == GrantSource::Supplied => {
                Event::Failed { reason: credential_rejected(), recovery: held }
            }
            _ => self.authorization(&mut connector, challenges, None, held).await,
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

/// The target of a connector that can be used.
fn usable(connector: &Connector) -> Result<Arc<Target>, RelayFailure> {
    match Target::of(connector) {
        Some(target) => Ok(Arc::new(target)),
        None => Err(RelayFailure::Unusable(Box::new(connector.clone()))),
    }
}
