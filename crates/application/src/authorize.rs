//! Asking the user for consent: an authorization request is prepared and kept until the browser comes back.

use connectors_domain::{
    Authority, AuthorizationAttempt, ClientCredentials, ClientOrigin, Connector, DisconnectCode, DisconnectReason,
    Event, Grant, GrantSource, Quirks, RedirectUrl, Scopes, Secret, Start,
};

use crate::ConnectorService;
use crate::connect::credential_rejected;
use crate::ports::{PrepareError, PrepareRequest};

/// What an authorization is asked for beside what the server demands.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// What the user has granted before and is to grant again.
    pub(crate) held: Scopes,
    /// See [`AuthorizationAttempt::step_ups`].
    pub(crate) step_ups: u8,
    /// The way of the user's browser.
    pub(crate) journey: Journey,
}

/// The way of a user's browser through a consent.
#[derive(Debug, Default)]
pub(crate) struct Journey {
    /// Its secret, where it is on its way already.
    pub(crate) browser: Option<Secret>,
    /// Where it goes in the end.
    pub(crate) redirect_url: Option<RedirectUrl>,
}

impl Journey {
    /// One that begins, and ends at `redirect_url`.
    pub(crate) const fn to(redirect_url: Option<RedirectUrl>) -> Self {
        Self { browser: None, redirect_url }
    }
}

impl ConnectorService {
    /// What a 401 without a usable credential means for `connector`: the user is asked, or it is disconnected with the
    /// reason why nobody can be asked.
    ///
    /// `held` is what the connector had until now; where nobody can be asked, it is kept for another try.
    pub(crate) async fn authorization(
        &self,
        connector: &mut Connector,
        challenges: Vec<String>,
        redirect_url: Option<RedirectUrl>,
        held: Option<Grant>,
    ) -> Event {
        let asked = Asked { journey: Journey::to(redirect_url), ..Asked::default() };
        match self.attempt(connector, challenges, asked).await {
            Ok(attempt) => Event::AuthorizationRequired { attempt },
            Err(error) => {
                tracing::info!(connector = %connector.id, %error, "no authorization request came about");
                let supplied = held.as_ref().is_some_and(|grant| grant.source == GrantSource::Supplied);
                Event::Failed { reason: reason(&error, supplied), recovery: held }
            }
        }
    }

    /// Makes an authorization request for `connector`, whose client is bound to the issuer at which it is used first.
    pub(crate) async fn attempt(
        &self,
        connector: &mut Connector,
        challenges: Vec<String>,
        asked: Asked,
    ) -> Result<AuthorizationAttempt, PrepareError> {
        let quirks =
            self.config.presets.find(&connector.url).map_or_else(Quirks::default, |preset| preset.quirks.clone());
        let request = PrepareRequest {
            url: connector.url.clone(),
            challenges,
            client: connector.client.clone().map(|client| self.current(connector, client)),
            bound_to: connector.client_issuer.clone(),
            held: asked.held,
            quirks,
        };
        let prepared = self.ports.authorization.prepare(request).await?;
        if prepared.authority.client.origin == ClientOrigin::Given {
            connector.client_issuer = Some(prepared.authority.issuer.clone());
        }
        Ok(AuthorizationAttempt {
            state_hash: prepared.state_hash,
            verifier: prepared.verifier,
            authority: prepared.authority,
            names_itself: prepared.names_itself,
            authorization_url: prepared.authorization_url,
            redirect_uri: prepared.redirect_uri,
            scopes: prepared.scopes,
            step_ups: asked.step_ups,
            redirect_url: asked.journey.redirect_url,
            start: self
                .config
                .bind_browsers
                .then(|| Start { ticket: self.random_secret(), browser: asked.journey.browser }),
            expires_at: self.after(self.config.attempt_lifetime),
        })
    }
}

impl ConnectorService {
    /// The client as it is now: an operator may have given the preset that it comes from another secret.
    fn current(&self, connector: &Connector, client: ClientCredentials) -> ClientCredentials {
        let preset = self.config.presets.find(&connector.url).and_then(|preset| preset.client.as_ref());
        preset.filter(|preset| preset.id() == client.id() && client.secret().is_some()).cloned().unwrap_or(client)
    }

    /// As [`ConnectorService::current`], for the client of a grant or of an attempt.
    pub(crate) fn bring_up_to_date(&self, connector: &Connector, authority: &mut Authority) {
        if authority.client.origin == ClientOrigin::Given {
            authority.client.credentials = self.current(connector, authority.client.credentials.clone());
        }
    }
}

/// What a person is told when nobody can be asked for consent.
fn reason(error: &PrepareError, with_credential: bool) -> DisconnectReason {
    use DisconnectCode as Code;
    match error {
        PrepareError::NotOffered if with_credential => credential_rejected(),
        PrepareError::NotOffered => DisconnectReason::new(
            Code::AuthorizationRequired,
            "The server demands authorization and names no authorization server. Connect with an access_token for it.",
        ),
        PrepareError::AddressRefused(refused) => DisconnectReason::new(Code::AddressRefused, refused.to_string()),
        PrepareError::Unreachable => DisconnectReason::new(
            Code::AuthorizationServerUnreachable,
            "The authorization server of this server cannot be reached. Connect again later.",
        ),
        PrepareError::TimedOut => DisconnectReason::new(
            Code::AuthorizationServerTimeout,
            "The authorization server of this server did not answer in time. Connect again later.",
        ),
        PrepareError::InvalidMetadata(what) => DisconnectReason::new(
            Code::AuthorizationMetadataInvalid,
            format!("The authorization metadata cannot be used: {what}. Tell whoever runs the server."),
        ),
        PrepareError::PkceUnsupported => DisconnectReason::new(
            Code::PkceUnsupported,
            "The authorization server does not support PKCE with S256, without which codes can be stolen. Tell whoever \
             runs the server.",
        ),
        PrepareError::ClientRequired => DisconnectReason::new(
            Code::ClientRequired,
            "The authorization server takes only clients that it knows. Register this service there, and make the \
             connector anew with the client_id that you get.",
        ),
        PrepareError::ClientBoundElsewhere => DisconnectReason::new(
            Code::ClientRejected,
            "The server names another authorization server than before, and the client_id of this connector belongs to \
             the first one. Make the connector anew with a client_id for the new one if the change is meant.",
        ),
        PrepareError::RegistrationFailed => DisconnectReason::new(
            Code::RegistrationFailed,
            "The authorization server did not register this service. Connect again later, or make the connector anew \
             with a client_id.",
        ),
        PrepareError::Store(_) => DisconnectReason::new(
            Code::RegistrationFailed,
            "The registration at the authorization server could not be stored. Connect again in a moment.",
        ),
    }
}
