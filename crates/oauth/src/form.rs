//! Forms that the service posts as a client: to the token endpoint and to the revocation endpoint. How it proves itself is
//! part of what it recorded when it became that client.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connectors_application::ports::{AddressRefused, Clock, Entropy};
use connectors_domain::{Authority, ClientAuthentication, OAuthClient};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Response};
use jiff::Timestamp;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::address::{AddressError, address};
use crate::authorize::random;
use crate::document::{Fetcher, SendError};
use crate::key::{ASSERTION_TYPE, SigningKey};

/// Posts forms.
#[derive(Clone)]
pub(crate) struct Forms {
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    key: Option<SigningKey>,
}

/// Why there is no response to a form.
#[derive(Debug)]
pub(crate) enum FormError {
    /// The endpoint that was recorded is no address that can be used. Nothing was sent.
    Malformed,
    /// The client proves itself with a key, and the service has none now. Nothing was sent.
    NoKey,
    /// It was not sent, or not answered.
    Send(SendError),
}

impl From<AddressRefused> for FormError {
    fn from(refused: AddressRefused) -> Self {
        Self::Send(SendError::Refused(refused))
    }
}

impl Forms {
    pub(crate) fn new(
        fetcher: Fetcher,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        key: Option<SigningKey>,
    ) -> Self {
        Self { fetcher, clock, entropy, key }
    }

    /// What the clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Posts parameters to an endpoint of an authority, as its client.
    pub(crate) async fn post(
        &self,
        endpoint: &str,
        authority: &Authority,
        parameters: &[(&str, &str)],
    ) -> Result<Response<Bytes>, FormError> {
        let endpoint = address(&self.fetcher, endpoint).map_err(|error| match error {
            AddressError::Malformed => FormError::Malformed,
            AddressError::Refused(refused) => refused.into(),
        })?;
        let (headers, body) = self.message(authority, parameters)?;
        let sent = self.fetcher.post(endpoint, headers, "application/x-www-form-urlencoded", body).await;
        sent.map_err(FormError::Send)
    }

    /// The header fields and the form: how the client proves itself decides both.
    fn message(&self, authority: &Authority, parameters: &[(&str, &str)]) -> Result<(HeaderMap, String), FormError> {
        let client = &authority.client;
        let mut form = Serializer::new(String::new());
        form.extend_pairs(parameters);
        // Also beside HTTP Basic and assertions: there are servers that look nowhere else for it.
        form.append_pair("client_id", client.credentials.id());
        let mut headers = HeaderMap::new();
        match (client.authentication, client.credentials.secret()) {
            (ClientAuthentication::SecretPost, Some(secret)) => {
                form.append_pair("client_secret", secret.expose());
            }
            (ClientAuthentication::SecretBasic, Some(secret)) => {
                headers.insert(AUTHORIZATION, basic(client, secret.expose())?);
            }
            (ClientAuthentication::PrivateKeyJwt, _) => {
                let key = self.key.as_ref().ok_or(FormError::NoKey)?;
                let id = random(self.entropy.as_ref());
                let assertion = key
                    .assertion(client.credentials.id(), &authority.issuer, self.clock.now(), &id)
                    .ok_or(FormError::NoKey)?;
                form.append_pair("client_assertion_type", ASSERTION_TYPE);
                form.append_pair("client_assertion", assertion.expose());
            }
            (ClientAuthentication::None, _)
            | (ClientAuthentication::SecretBasic | ClientAuthentication::SecretPost, None) => {}
        }
        Ok((headers, form.finish()))
    }
}

/// HTTP Basic with id and secret encoded as in a form (RFC 6749, section 2.3.1).
fn basic(client: &OAuthClient, secret: &str) -> Result<HeaderValue, FormError> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = STANDARD.encode(format!("{}:{}", encoded(client.credentials.id()), encoded(secret)));
    let mut value = HeaderValue::try_from(format!("Basic {credentials}")).map_err(|_| FormError::Malformed)?;
    value.set_sensitive(true);
    Ok(value)
}
