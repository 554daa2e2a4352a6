//! Setting out for an authorization server: from a page of this service, so that whoever finishes an authorization is the
//! one who began it (RFC 6749, section 10.12; RFC 9700, section 4.7).

use connectors_domain::{AccountName, AuthorizationAttempt, Connector, ConnectorId, Event, OwnerId, Secret, ServerUrl};

use crate::service::AdvanceError;
use crate::{ConnectorService, Error, audit};

/// How often setting out begins anew because something else changed the connector.
const ATTEMPTS: usize = 5;

/// What the page shows from which a user sets out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartPage {
    /// The server to which access is given.
    pub server: ServerUrl,
    /// The authorization server that will ask for consent.
    pub issuer: String,
    /// The user in whose connector the access ends up.
    pub owner: OwnerId,
    /// What people call that user, where that is known.
    pub account: Option<AccountName>,
}

/// What becomes of a browser that sets out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetOut {
    /// No authorization waits there: unknown, over, or finished already.
    Unknown,
    /// Another browser has set out before.
    OtherBrowser,
    /// It goes on.
    On {
        /// Where it goes.
        authorization_url: Secret,
        /// What it must hold when it comes back.
        browser: Secret,
    },
}

impl ConnectorService {
    /// What the page shows to which `ticket` belongs; `None` where no authorization waits. It changes nothing.
    pub async fn start_page(&self, id: ConnectorId, ticket: &Secret) -> Result<Option<StartPage>, Error> {
        let Some((connector, attempt)) = self.waiting(id, ticket).await? else { return Ok(None) };
        Ok(Some(StartPage {
            server: connector.url,
            issuer: attempt.authority.issuer.as_str().to_owned(),
            owner: connector.owner,
            account: connector.account,
        }))
    }

    /// Lets a browser set out for the authorization server, and binds the authorization to it: first come, first served.
    /// `browser` is the secret that it holds already, from an authorization before.
    pub async fn set_out(&self, id: ConnectorId, ticket: &Secret, browser: Option<Secret>) -> Result<SetOut, Error> {
        let browser = browser.unwrap_or_else(|| self.random_secret());
        for _ in 0..ATTEMPTS {
            let Some((connector, attempt)) = self.waiting(id, ticket).await? else { return Ok(SetOut::Unknown) };
            let on = SetOut::On { authorization_url: attempt.authorization_url.clone(), browser: browser.clone() };
            if attempt.is_bound_to(Some(&browser)) {
                return Ok(on);
            }
            let refused = connector.clone();
            match self.advance(connector, Event::BrowserBound { browser: browser.clone() }).await {
                Ok(_) => return Ok(on),
                Err(AdvanceError::Conflict) => {}
                Err(AdvanceError::Refused(_)) => {
                    audit::refused_authorization(&refused, "another browser has set out before");
                    return Ok(SetOut::OtherBrowser);
                }
                Err(AdvanceError::Failed(error)) => return Err(error),
            }
        }
        Ok(SetOut::Unknown)
    }

    /// The connector `id` and its attempt, if that waits for whoever has `ticket`.
    async fn waiting(
        &self,
        id: ConnectorId,
        ticket: &Secret,
    ) -> Result<Option<(Connector, AuthorizationAttempt)>, Error> {
        let Some(connector) = self.ports.connectors.find_any(id).await? else { return Ok(None) };
        let attempt = connector.attempt().filter(|attempt| {
            self.now() < attempt.expires_at && attempt.start.as_ref().is_some_and(|start| start.ticket.matches(ticket))
        });
        Ok(attempt.cloned().map(|attempt| (connector, attempt)))
    }
}
