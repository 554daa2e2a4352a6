//! The end of an authorization: the user's browser is back with a code, or with a refusal.

use connectors_domain::{
    AuthorizationAttempt, Connector, ConnectorState, DisconnectCode, DisconnectReason, Event, RedirectUrl, Secret,
};

use crate::authorize::Journey;
use crate::connect::{forbidden, reason as probe_reason};
use crate::ports::{ExchangeError, ExchangeRequest, ProbeError, Revocation, RevocationKey};
use crate::service::AdvanceError;
use crate::{ConnectorService, Error, audit};

/// How often the attempt is looked for anew because something else changed the connector.
const ATTEMPTS: usize = 5;

/// What the browser brought.
#[derive(Debug, Clone, Default)]
pub struct CallbackRequest {
    /// The `state` of the authorization request.
    pub state: String,
    /// The authorization code.
    pub code: Option<String>,
    /// The issuer (RFC 9207).
    pub iss: Option<String>,
    /// Why there is no code (RFC 6749, section 4.1.2.1).
    pub error: Option<String>,
    /// The secret that the page from which the user set out has left in the browser.
    pub browser: Option<Secret>,
    /// What follows the callback's path: the key of the issuer to which the redirect URI belongs.
    pub issuer_key: Option<String>,
}

/// What came of a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// No authorization waits for it: unknown, over, or used already. Nothing was changed.
    Unknown,
    /// It did not come from the authorization server that was asked. Nothing was changed, and nothing that came with it
    /// may be shown.
    WrongIssuer,
    /// It came in another browser than the one in which the authorization was begun. Nothing was changed, and no code was
    /// exchanged.
    OtherBrowser,
    /// The server wants a wider consent than was given: the browser goes on to the authorization server.
    Further {
        /// Where it goes.
        authorization_url: Secret,
    },
    /// The authorization has ended.
    Finished {
        /// Where the browser goes, if not to a page of the service.
        redirect_url: Option<RedirectUrl>,
        /// Why the connector is not connected; `None` if it is.
        failure: Option<DisconnectReason>,
    },
}

impl ConnectorService {
    /// Finishes the authorization to which a callback belongs: it is consumed once, its code is exchanged, the server is
    /// probed, and the connector is connected.
    pub async fn callback(&self, request: CallbackRequest) -> Result<CallbackOutcome, Error> {
        let state = self.ports.authorization.state_hash(&request.state);
        for _ in 0..ATTEMPTS {
            let Some(connector) = self.ports.connectors.find_by_state(state).await? else {
                return Ok(CallbackOutcome::Unknown);
            };
            let Some(attempt) = connector.attempt().filter(|attempt| attempt.state_hash == state).cloned() else {
                return Ok(CallbackOutcome::Unknown);
            };
            if attempt.expires_at <= self.now() {
                return Ok(CallbackOutcome::Unknown);
            }
            if !came_from(&attempt, &request) {
                audit::refused_authorization(&connector, "the callback names another issuer");
                return Ok(CallbackOutcome::WrongIssuer);
            }
            if self.config.bind_browsers && (attempt.start.is_none() || !attempt.is_bound_to(request.browser.as_ref()))
            {
                audit::refused_authorization(&connector, "it came in another browser than the one that set out");
                return Ok(CallbackOutcome::OtherBrowser);
            }
            let deadline = self.after(self.config.probe_deadline);
            match self.advance(connector, Event::AttemptConsumed { deadline }).await {
                Ok(connector) => {
                    self.may_ask_again(&connector);
                    return Box::pin(self.finish(connector, attempt, request)).await;
                }
                // Another callback, or a connect, was quicker.
                Err(AdvanceError::Conflict) => {}
                Err(AdvanceError::Refused(_)) => return Ok(CallbackOutcome::Unknown),
                Err(AdvanceError::Failed(error)) => return Err(error),
            }
        }
        Ok(CallbackOutcome::Unknown)
    }

    async fn finish(
        &self,
        connector: Connector,
        attempt: AuthorizationAttempt,
        request: CallbackRequest,
    ) -> Result<CallbackOutcome, Error> {
        let redirect_url =
            attempt.redirect_url.clone().filter(|url| self.config.redirect_origins.admit(url.as_str()).is_ok());
        let service = self.clone();
        // The code is spent, so what it brings must be stored even if the browser goes away.
        let exchanged = async move { Box::pin(service.exchange(connector, attempt, request)).await };
        match self.to_the_end(exchanged).await? {
            Ok(connector) => Ok(match connector.attempt() {
                Some(attempt) => CallbackOutcome::Further { authorization_url: attempt.authorization_url.clone() },
                None => CallbackOutcome::Finished { redirect_url, failure: None },
            }),
            Err(Error::ConnectFailed(reason)) => Ok(CallbackOutcome::Finished { redirect_url, failure: Some(reason) }),
            Err(error) => Err(error),
        }
    }

    async fn exchange(
        &self,
        connector: Connector,
        attempt: AuthorizationAttempt,
        request: CallbackRequest,
    ) -> Result<Connector, Error> {
        let (Some(code), None) = (request.code, request.error) else {
            // What was kept may still be good.
            let event = Event::Failed { reason: refused(), recovery: connector.grant().cloned() };
            return self.conclude_attempt(connector, event).await;
        };
        let mut authority = attempt.authority;
        self.bring_up_to_date(&connector, &mut authority);
        let exchange = ExchangeRequest {
            authority,
            code: Secret::new(code),
            verifier: attempt.verifier,
            redirect_uri: attempt.redirect_uri,
            scopes: attempt.scopes,
        };
        let journey = Journey { browser: request.browser, redirect_url: attempt.redirect_url };
        let (step_ups, mut connector) = (attempt.step_ups, connector);
        let exchanged = self.ports.authorization.exchange(exchange).await;
        let granted = exchanged.as_ref().ok().cloned();
        let (owner, key) = (connector.owner, RevocationKey::next_of(&connector));
        let event = match exchanged.map(|grant| grant.after_step_ups(step_ups)) {
            Err(error) => Event::Failed { reason: exchange_reason(&error), recovery: connector.grant().cloned() },
            Ok(grant) => match self.probe_with(&connector, Some(&grant)).await {
                Ok(server) => Event::Established { grant: Some(grant), server },
                Err(ProbeError::Forbidden { challenges }) => {
                    let wider = self.wider_for_probe(&mut connector, Some(&grant), challenges, journey).await;
                    wider.unwrap_or(Event::Failed { reason: forbidden(), recovery: Some(grant) })
                }
                Err(error) => Event::Failed { reason: probe_reason(&error), recovery: Some(grant) },
            },
        };
        let concluded = self.conclude_attempt(connector, event).await;
        if let (Err(Error::NotFound | Error::Conflict(_)), Some(grant)) = (&concluded, granted) {
            // Deleted or disconnected meanwhile: what the code has brought has no place any more.
            self.bury(Revocation { key, owner, grant });
        }
        concluded
    }

    /// Stores what an attempt has come to. An offer of wider consent that came to nothing leaves the grant as it is.
    async fn conclude_attempt(&self, connector: Connector, event: Event) -> Result<Connector, Error> {
        match (&connector.state, &event) {
            (ConnectorState::Connected(_), Event::Failed { reason, .. }) => Err(Error::ConnectFailed(reason.clone())),
            _ => self.conclude(connector, event, true).await,
        }
    }
}

/// Whether the callback comes from where the attempt sent its user: the path belongs to the attempt's issuer, and `iss`
/// is as the specification's table demands (MCP 2026-07-28, "Authorization Response Validation").
fn came_from(attempt: &AuthorizationAttempt, request: &CallbackRequest) -> bool {
    let path = match &request.issuer_key {
        Some(key) => attempt.redirect_uri.ends_with(&format!("/callback/{key}")),
        None => attempt.redirect_uri.ends_with("/callback"),
    };
    let issuer = match &request.iss {
        Some(iss) => iss == attempt.authority.issuer.as_str(),
        None => !attempt.names_itself,
    };
    path && issuer
}

fn refused() -> DisconnectReason {
    DisconnectReason::new(
        DisconnectCode::AuthorizationRefused,
        "The authorization was refused. Connect again to be asked once more.",
    )
}

fn exchange_reason(error: &ExchangeError) -> DisconnectReason {
    use DisconnectCode as Code;
    match error {
        ExchangeError::AddressRefused(refused) => DisconnectReason::new(Code::AddressRefused, refused.to_string()),
        ExchangeError::Unreachable => DisconnectReason::new(
            Code::AuthorizationServerUnreachable,
            "The authorization server could not be reached to exchange the code. Connect again later.",
        ),
        ExchangeError::TimedOut => DisconnectReason::new(
            Code::AuthorizationServerTimeout,
            "The authorization server did not exchange the code in time. Connect again later.",
        ),
        ExchangeError::Refused => DisconnectReason::new(
            Code::TokenExchangeFailed,
            "The authorization server did not exchange the code. Connect again.",
        ),
        ExchangeError::ClientRefused => DisconnectReason::new(
            Code::ClientRejected,
            "The authorization server does not accept this service as a client. Check client_id and client_secret.",
        ),
        ExchangeError::InvalidResponse => DisconnectReason::new(
            Code::TokenResponseInvalid,
            "The authorization server's answer holds no token that can be used. Tell whoever runs it.",
        ),
    }
}
