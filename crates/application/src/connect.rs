//! Connecting: the server is probed with the credential at hand, and what comes of it is stored.

use std::time::Duration;

use connectors_domain::{
    AccessToken, AccountName, Connecting, Connector, ConnectorId, ConnectorState, DisconnectCode, DisconnectReason,
    Event, Grant, IssuedGrant, OwnerId, RedirectUrl, ServerFacts,
};

use crate::authorize::Journey;
use crate::ports::{ProbeError, RenewalKey};
use crate::renew::{Renewed, Unrenewed};
use crate::service::AdvanceError;
use crate::{Conflict, ConnectorService, Error};

/// How often a connect that is under way elsewhere is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often a connect begins anew because somebody else was quicker to begin.
const ATTEMPTS: usize = 5;

/// What a user may give to connect.
#[derive(Debug, Clone, Default)]
pub struct ConnectRequest {
    /// Where the user's browser goes after consent.
    pub redirect_url: Option<String>,
    /// An access token to use, in place of any that is stored.
    pub access_token: Option<String>,
    /// What people call the user.
    pub account: Option<AccountName>,
}

/// Why the server of a connector could not be asked with the grant that the connector holds.
#[derive(Debug)]
pub(crate) enum HeldError {
    /// The probe failed.
    Probe(ProbeError),
    /// The server does not take the grant as it is, and it could not be renewed now.
    Unrenewed {
        /// Why not.
        error: Unrenewed,
        /// The `WWW-Authenticate` fields of the server's 401.
        challenges: Vec<String>,
    },
}

/// A [`ConnectRequest`] whose parts were found to be good.
struct Checked {
    redirect_url: Option<RedirectUrl>,
    grant: Option<Grant>,
    account: Option<AccountName>,
}

impl ConnectorService {
    /// Connects the connector `id` of `owner`, whatever its state.
    ///
    /// On success the connector is connected. On failure it is disconnected with a reason, and so says the error. A
    /// connect that is under way already is joined, unless this one brings a token of its own.
    pub async fn connect(&self, owner: OwnerId, id: ConnectorId, request: ConnectRequest) -> Result<Connector, Error> {
        let request = self.check(request)?;
        self.limits.connect(owner)?;
        let service = self.clone();
        // A caller that goes away leaves no connector in the middle.
        self.to_the_end(async move { Box::pin(service.connect_in_task(owner, id, request)).await }).await?
    }

    fn check(&self, request: ConnectRequest) -> Result<Checked, Error> {
        let redirect_url = request
            .redirect_url
            .map(|text| self.config.redirect_origins.admit(&text))
            .transpose()
            .map_err(|error| Error::BadRequest(format!("{error}.")))?;
        let grant = request
            .access_token
            .map(AccessToken::new)
            .transpose()
            .map_err(|error| Error::Unprocessable { field: "access_token", message: error.to_string() })?
            .map(Grant::supplied);
        Ok(Checked { redirect_url, grant, account: request.account })
    }

    async fn connect_in_task(&self, owner: OwnerId, id: ConnectorId, request: Checked) -> Result<Connector, Error> {
        for _ in 0..ATTEMPTS {
            let (connector, joined) = self.settled(owner, id).await?;
            if request.grant.is_none() {
                if joined {
                    return outcome(connector);
                }
                if self.offers_consent(&connector, request.redirect_url.as_ref()) {
                    return Ok(connector);
                }
            }
            self.may_wait(&connector).await?;
            let account = request.account.clone().or(connector.account);
            if let Some(connector) = self.begin(Connector { account, ..connector }).await? {
                return self.probe(connector, request).await;
            }
        }
        Err(Error::Conflict(Conflict::Changed))
    }

    /// The connector once no probe of it is under way, and whether there was one to wait for.
    async fn settled(&self, owner: OwnerId, id: ConnectorId) -> Result<(Connector, bool), Error> {
        let mut joined = false;
        loop {
            let connector = self.find(owner, id).await?;
            match connector.state {
                ConnectorState::Connecting(Connecting { attempt: None, deadline, .. })
                    if self.now() < deadline && self.began_in_time(&connector) =>
                {
                    joined = true;
                    tokio::time::sleep(POLL).await;
                }
                // Whoever probed has died: there is no outcome to join.
                ConnectorState::Connecting(Connecting { attempt: None, .. }) => return Ok((connector, false)),
                _ => return Ok((connector, joined)),
            }
        }
    }

    /// Whether the process that changed the connector last may still be alive.
    fn began_in_time(&self, connector: &Connector) -> bool {
        self.config.alone_since.is_none_or(|since| since <= connector.updated_at)
    }

    /// Whether the user has been given a URL to visit that is still good, and goes back to the same place.
    fn offers_consent(&self, connector: &Connector, redirect_url: Option<&RedirectUrl>) -> bool {
        connector
            .attempt()
            .is_some_and(|attempt| self.now() < attempt.expires_at && attempt.redirect_url.as_ref() == redirect_url)
    }

    /// Marks the connect as begun; `None` if somebody else was quicker. A connected connector stays as it is, so that it
    /// goes on serving while its server is probed.
    async fn begin(&self, connector: Connector) -> Result<Option<Connector>, Error> {
        if is_connected(&connector) {
            return Ok(Some(connector));
        }
        let deadline = self.after(self.config.probe_deadline);
        match self.advance(connector, Event::ConnectStarted { deadline }).await {
            Ok(connector) => Ok(Some(connector)),
            Err(AdvanceError::Conflict) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn probe(&self, connector: Connector, request: Checked) -> Result<Connector, Error> {
        let supplied = request.grant.is_some();
        let (mut connector, outcome) = match &request.grant {
            Some(grant) => {
                let outcome = self.probe_with(&connector, Some(grant)).await;
                (connector, outcome.map_err(HeldError::Probe))
            }
            None => self.probe_held(connector).await?,
        };
        let stored = connector.grant().cloned();
        let grant = request.grant.or_else(|| stored.clone());
        let event = match outcome {
            Ok(server) => Event::Established { grant, server },
            // Who hands a token over wants that one to work, and no other way in.
            Err(HeldError::Probe(ProbeError::Unauthorized { challenges })) if !supplied => {
                self.authorization(&mut connector, challenges, request.redirect_url, stored).await
            }
            Err(HeldError::Probe(ProbeError::Forbidden { challenges })) if !supplied => {
                let journey = Journey::to(request.redirect_url);
                let wider = self.wider_for_probe(&mut connector, stored.as_ref(), challenges, journey).await;
                wider.unwrap_or(Event::Failed { reason: forbidden(), recovery: stored })
            }
            // A token that was never seen to work is kept only while nothing speaks against it.
            Err(HeldError::Probe(error @ ProbeError::Unauthorized { .. })) => {
                Event::Failed { reason: reason(&error), recovery: stored }
            }
            Err(HeldError::Probe(error)) => Event::Failed { reason: reason(&error), recovery: grant },
            // It will be renewed when its authorization server is itself again. Who does not want to wait for that connects
            // once more, and is asked.
            Err(HeldError::Unrenewed { error, .. }) if is_connected(&connector) => {
                Event::Failed { reason: unrenewed(error), recovery: stored }
            }
            Err(HeldError::Unrenewed { error, challenges }) => {
                match self.authorization(&mut connector, challenges, request.redirect_url, None).await {
                    Event::Failed { .. } => Event::Failed { reason: unrenewed(error), recovery: stored },
                    asked => asked,
                }
            }
        };
        self.conclude(connector, event, supplied).await
    }

    /// Probes with the grant that the connector holds, which is renewed before it ends and when the server refuses it.
    /// Returns the connector as it is after that.
    async fn probe_held(&self, connector: Connector) -> Result<(Connector, Result<ServerFacts, HeldError>), Error> {
        let (connector, outcome) = self.ask_with_grant(connector).await?;
        match &connector.state {
            ConnectorState::Connecting(Connecting { attempt: None, .. }) | ConnectorState::Connected(_) => {
                Ok((connector, outcome))
            }
            _ => Err(Error::Conflict(Conflict::Changed)),
        }
    }

    /// As [`ConnectorService::probe_held`], in whatever state the connector is.
    pub(crate) async fn ask_with_grant(
        &self,
        connector: Connector,
    ) -> Result<(Connector, Result<ServerFacts, HeldError>), Error> {
        let mut connector = connector;
        let (mut renewed, mut unrenewed) = (false, None);
        let issued = connector.grant().and_then(Grant::issued);
        if let Some(issued) = issued.filter(|issued| issued.stale_at().is_some_and(|stale_at| stale_at <= self.now())) {
            let living = issued.expires_at.is_none_or(|expires_at| self.now() < expires_at);
            match self.renew_held(&connector, living).await? {
                Ok(current) => (connector, renewed) = (current, true),
                Err(_) if living => {}
                // Clocks differ: the server has the last word on whether it has ended.
                Err(error) => unrenewed = Some(error),
            }
        }
        let challenges = match (self.probe_as_held(&connector).await, renewed || !is_renewable(&connector)) {
            (Err(ProbeError::Unauthorized { challenges }), false) => challenges,
            (outcome, _) => return Ok((connector, outcome.map_err(HeldError::Probe))),
        };
        if let Some(error) = unrenewed {
            return Ok((connector, Err(HeldError::Unrenewed { error, challenges })));
        }
        match self.renew_held(&connector, false).await? {
            Ok(connector) => {
                let outcome = self.probe_as_held(&connector).await;
                Ok((connector, outcome.map_err(HeldError::Probe)))
            }
            Err(error) => Ok((connector, Err(HeldError::Unrenewed { error, challenges }))),
        }
    }

    /// Renews the grant that `connector` holds, and returns the connector as it is then.
    pub(crate) async fn renew_held(
        &self,
        connector: &Connector,
        living: bool,
    ) -> Result<Result<Connector, Unrenewed>, Error> {
        let (owner, id) = (connector.owner, connector.id);
        let Some(generation) = connector.generation() else { return Ok(Ok(connector.clone())) };
        match self.renew(RenewalKey { owner, connector: id, generation }, living).await {
            Renewed::Fresh(connector) => Ok(Ok(*connector)),
            Renewed::Changed => Ok(Ok(self.find(owner, id).await?)),
            Renewed::Failed(error) => Ok(Err(error)),
        }
    }

    async fn probe_as_held(&self, connector: &Connector) -> Result<ServerFacts, ProbeError> {
        match connector.grant() {
            Some(grant) => self.probe_with(connector, Some(grant)).await,
            None => self.probe_openness(connector).await,
        }
    }

    /// Probes the server of `connector` without a token. One that talks of itself to everybody and still names an
    /// authorization server is asked for its tools: that shows whether its use takes a token.
    async fn probe_openness(&self, connector: &Connector) -> Result<ServerFacts, ProbeError> {
        let server = self.probe_with(connector, None).await?;
        if !self.ports.authorization.is_named_by(connector.url.clone()).await {
            return Ok(server);
        }
        match self.ports.mcp.tools_challenge(connector.url.clone(), server.clone()).await {
            Some(challenges) => {
                tracing::info!(connector = %connector.id, "the server wants a token for its tools");
                Err(ProbeError::Unauthorized { challenges })
            }
            None => Ok(server),
        }
    }

    /// Probes the server of `connector` with the token of `grant`.
    pub(crate) async fn probe_with(
        &self,
        connector: &Connector,
        grant: Option<&Grant>,
    ) -> Result<ServerFacts, ProbeError> {
        let token = grant.map(|grant| grant.access_token.clone());
        let server = self.ports.mcp.probe(connector.url.clone(), token).await?;
        tracing::info!(
            connector = %connector.id,
            modern = server.modern.as_ref().map(tracing::field::display),
            legacy = server.legacy.as_ref().map(tracing::field::display),
            "server probed"
        );
        Ok(server)
    }

    /// Stores what a connect has come to, unless somebody else was quicker. `brings_token` if it was made with a token
    /// of its own, not with one that was stored.
    pub(crate) async fn conclude(
        &self,
        connector: Connector,
        event: Event,
        brings_token: bool,
    ) -> Result<Connector, Error> {
        let (owner, id) = (connector.owner, connector.id);
        let mut connector = connector;
        for _ in 0..ATTEMPTS {
            match self.advance(connector, event.clone()).await {
                Ok(connector) => return outcome(connector),
                Err(AdvanceError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
            // Deleted, disconnected or connected by somebody else while the server was probed: what they did stands,
            // except that a token which is new and works is never lost for one that was there by chance.
            connector = match (self.find(owner, id).await?, &event) {
                (current, Event::Established { .. }) if brings_token && is_connected(&current) => current,
                (current, _) if !brings_token && is_connected(&current) => return Ok(current),
                _ => return Err(Error::Conflict(Conflict::Changed)),
            };
        }
        Err(Error::Conflict(Conflict::Changed))
    }
}

fn is_renewable(connector: &Connector) -> bool {
    connector.grant().and_then(Grant::issued).is_some_and(IssuedGrant::is_renewable)
}

const fn is_connected(connector: &Connector) -> bool {
    matches!(connector.state, ConnectorState::Connected(_))
}

impl From<AdvanceError> for Error {
    fn from(error: AdvanceError) -> Self {
        match error {
            AdvanceError::Refused(refused) => Self::Internal(Box::new(refused)),
            AdvanceError::Conflict => Self::Conflict(Conflict::Changed),
            AdvanceError::Failed(error) => error,
        }
    }
}

/// What a caller is told of a connector whose connect has ended.
fn outcome(connector: Connector) -> Result<Connector, Error> {
    match connector.state {
        ConnectorState::Disconnected(disconnected) => Err(Error::ConnectFailed(disconnected.reason)),
        _ => Ok(connector),
    }
}

/// What a person is told of a failed probe.
pub(crate) fn reason(error: &ProbeError) -> DisconnectReason {
    use DisconnectCode as Code;
    match error {
        ProbeError::AddressRefused(refused) => DisconnectReason::new(Code::AddressRefused, refused.to_string()),
        ProbeError::Unreachable(what) => DisconnectReason::new(
            Code::ServerUnreachable,
            format!("The server cannot be reached: {what}. Check its URL and the server, then connect again."),
        ),
        ProbeError::TimedOut => {
            DisconnectReason::new(Code::ServerTimeout, "The server did not answer in time. Connect again later.")
        }
        // Without a credential, the user is asked for consent instead.
        ProbeError::Unauthorized { .. } => credential_rejected(),
        ProbeError::Forbidden { .. } => forbidden(),
        ProbeError::Status(number) => status(*number),
        ProbeError::NotMcp => DisconnectReason::new(
            Code::NotMcp,
            "What answers at this URL does not speak MCP over Streamable HTTP. Check the URL; it often ends in /mcp.",
        ),
        ProbeError::UnsupportedVersion => DisconnectReason::new(
            Code::UnsupportedVersion,
            "The server speaks only versions of MCP that this service does not know. Upgrade the service or the server.",
        ),
    }
}

/// What a person is told of a server that refuses, and that no wider consent is asked for.
pub(crate) fn forbidden() -> DisconnectReason {
    status(403)
}

fn status(number: u16) -> DisconnectReason {
    DisconnectReason::new(
        DisconnectCode::ServerError,
        format!("The server answered with HTTP status {number}. Check the URL, or connect again later."),
    )
}

/// What a person is told of a grant that has ended and could not be renewed now.
fn unrenewed(error: Unrenewed) -> DisconnectReason {
    DisconnectReason::new(
        DisconnectCode::AuthorizationServerUnreachable,
        format!("The access has ended and could not be renewed: {}. Connect again later.", error.what),
    )
}

/// What a person is told of a server that does not take the token it was given.
pub(crate) fn credential_rejected() -> DisconnectReason {
    DisconnectReason::new(
        DisconnectCode::CredentialRejected,
        "The server does not accept the access token. Connect again with a new access_token.",
    )
}
