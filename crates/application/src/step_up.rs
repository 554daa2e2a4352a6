//! Step-up: the server wants more than the user has consented to (MCP 2026-07-28, "Scope Challenge Handling").

use std::time::Duration;

use connectors_domain::{AuthorizationAttempt, Connector, ConnectorId, ConnectorState, Event, Grant, OwnerId, Scopes};

use crate::authorize::{Asked, Journey};
use crate::service::{AdvanceError, used_since};
use crate::targets::Target;
use crate::{ConnectorService, Error};

/// How many wider consents in a row a user is asked for. A server that is not content then never is.
const MAX_STEP_UPS: u8 = 3;

/// How long one request for a wider consent keeps a connector from another one, while it is used with the same consent.
pub(crate) const STEP_UP_PAUSE: Duration = Duration::from_secs(30);

impl ConnectorService {
    /// What a 403 with these challenges means: the connector with the wider consent that its user may give, or `None` if
    /// the 403 is the server's last word.
    pub(crate) async fn step_up(
        &self,
        owner: OwnerId,
        id: ConnectorId,
        target: &Target,
        challenges: &[String],
    ) -> Result<Option<Connector>, Error> {
        let Some(demanded) = self.ports.authorization.demanded_scopes(challenges) else { return Ok(None) };
        let mut connector = self.find(owner, id).await?;
        if offers(&connector, &demanded) {
            return Ok(Some(connector));
        }
        let Some(held) = held(&connector, target) else { return Ok(None) };
        // A server that refuses everything, each time for another scope, must not keep the authorization server busy, nor
        // take the address from under its user.
        if !self.step_ups.entry((id, target.since)).or_insert(()).is_fresh() {
            return Ok(connector.attempt().is_some().then_some(connector));
        }
        let Some(attempt) = self.wider(&mut connector, &held, challenges.to_vec(), Journey::default()).await else {
            return Ok(None);
        };
        match self.advance(connector, Event::WiderConsentRequired { attempt }).await {
            Ok(connector) => Ok(Some(connector)),
            Err(AdvanceError::Conflict | AdvanceError::Refused(_)) => {
                // Whoever was quicker may have asked for the same.
                let current = self.find(owner, id).await?;
                Ok(offers(&current, &demanded).then_some(current))
            }
            Err(AdvanceError::Failed(error)) => Err(error),
        }
    }

    /// The user has answered: should the server want more again, it may be asked for at once.
    pub(crate) fn may_ask_again(&self, connector: &Connector) {
        if let Some(since) = used_since(connector) {
            self.step_ups.invalidate(&(connector.id, since));
        }
    }

    /// A request for a consent that is wider than what `held` stands for, after a 403 with these challenges; `None` if the
    /// 403 says nothing of scopes, if nobody consented to `held`, or if the user has been asked often enough.
    pub(crate) async fn wider(
        &self,
        connector: &mut Connector,
        held: &Grant,
        challenges: Vec<String>,
        journey: Journey,
    ) -> Option<AuthorizationAttempt> {
        self.ports.authorization.demanded_scopes(&challenges)?;
        let issued = held.issued()?;
        if issued.step_ups >= MAX_STEP_UPS {
            tracing::info!(connector = %connector.id, "the server asks for wider consent again and again; nobody is asked any more");
            return None;
        }
        // What is asked for already is asked for still.
        let pending = connector.attempt().map_or_else(Scopes::default, |attempt| attempt.scopes.clone());
        let asked = Asked { held: issued.scopes.union(&pending), step_ups: issued.step_ups + 1, journey };
        match self.attempt(connector, challenges, asked).await {
            Ok(attempt) => Some(attempt),
            Err(error) => {
                tracing::warn!(connector = %connector.id, %error, "a wider consent cannot be asked for");
                None
            }
        }
    }

    /// What a 403 to a probe with `held` means: the wider consent that the user may give, or `None` as for
    /// [`ConnectorService::wider`]. The first consent counts as well here, since it has led to no connection.
    pub(crate) async fn wider_for_probe(
        &self,
        connector: &mut Connector,
        held: Option<&Grant>,
        challenges: Vec<String>,
        journey: Journey,
    ) -> Option<Event> {
        let held = held.filter(|held| held.issued().is_some_and(|issued| issued.step_ups + 1 < MAX_STEP_UPS))?;
        let attempt = self.wider(connector, held, challenges, journey).await?;
        Some(match connector.state {
            ConnectorState::Connected(_) => Event::WiderConsentRequired { attempt },
            _ => Event::AuthorizationRequired { attempt },
        })
    }
}

/// The grant of a connector; `None` if it is no longer used with `target`'s consent.
fn held(connector: &Connector, target: &Target) -> Option<Grant> {
    let ConnectorState::Connected(connected) = &connector.state else { return None };
    connected.grant.clone().filter(|_| connected.since == target.since)
}

/// Whether the connector asks its user for these scopes already.
fn offers(connector: &Connector, demanded: &Scopes) -> bool {
    let ConnectorState::Connected(connected) = &connector.state else { return false };
    connected.wider.as_ref().is_some_and(|attempt| attempt.scopes.cover(demanded))
}
