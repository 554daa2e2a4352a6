//! Dynamic client registration (RFC 7591): one client for each issuer and redirect URI, for all users and replicas.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{Clock, PrepareError, Registration, RegistrationKey, Registrations, Reservation};
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Issuer, OAuthClient, Scopes};
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::config::OAuthConfig;
use crate::document::{Fetcher, Member, SendError, seconds, text};
use crate::key::ALGORITHM;
use crate::metadata::{AuthenticationMethods, METHODS, ServerMetadata, wire_name};
use crate::scope;

/// How long to wait before asking again whether somebody else is done.
const POLL: Duration = Duration::from_millis(100);

/// Becomes a client where the service is none yet.
#[derive(Clone)]
pub(crate) struct Registrar {
    fetcher: Fetcher,
    registrations: Arc<dyn Registrations>,
    clock: Arc<dyn Clock>,
}

/// The registration answer, as far as it matters (RFC 7591, section 3.2.1). Members that give access to the registration
/// itself are not read.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    client_id: Member<'a>,
    #[serde(borrow)]
    client_secret: Member<'a>,
    #[serde(borrow)]
    client_secret_expires_at: Member<'a>,
    #[serde(borrow)]
    token_endpoint_auth_method: Member<'a>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: Member<'a>,
}

impl Registrar {
    pub(crate) fn new(fetcher: Fetcher, registrations: Arc<dyn Registrations>, clock: Arc<dyn Clock>) -> Self {
        Self { fetcher, registrations, clock }
    }

    /// The client for a redirect URI at a server: registered before, by somebody else meanwhile, or now. While somebody
    /// else registers this waits, for as long as its caller lets it.
    pub(crate) async fn client(
        &self,
        config: &OAuthConfig,
        server: &ServerMetadata,
        endpoint: &Url,
        redirect_uri: &str,
        scopes: &Scopes,
    ) -> Result<OAuthClient, PrepareError> {
        let key = RegistrationKey { issuer: server.issuer.clone(), redirect_uri: redirect_uri.to_owned() };
        let method =
            server.authentication.to_register(config.signing_key.is_some()).ok_or(PrepareError::InvalidMetadata(
                "the authorization server offers no client authentication that this service knows",
            ))?;
        loop {
            let now = self.clock.now();
            let until = now.saturating_add(config.registration_lease).unwrap_or(Timestamp::MAX);
            match self.registrations.reserve(key.clone(), now, until).await? {
                Reservation::Found(found) if is_usable(&found, config, now) => return Ok(found.client),
                Reservation::Found(useless) => {
                    let client_id = useless.client.credentials.id().to_owned();
                    self.registrations.forget(key.clone(), client_id).await?;
                }
                Reservation::Busy => {}
                Reservation::Yours => {
                    let request = request(config, method, redirect_uri, &scopes_for(server, scopes));
                    let task = RegistrationTask {
                        registrar: self.clone(),
                        key,
                        endpoint: endpoint.clone(),
                        methods: server.authentication.clone(),
                        asked: method,
                        request,
                    };
                    // A task of its own: others wait for it even if this caller goes away.
                    let kept = tokio::spawn(task.run()).await.map_err(|_| PrepareError::RegistrationFailed)??;
                    return Ok(kept.client);
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Forgets a client that its server knows no longer, so that the next authorization registers anew. A failure to
    /// forget is only logged: it costs one more refusal.
    pub(crate) async fn forget(&self, issuer: Issuer, redirect_uri: String, client_id: String) {
        let key = RegistrationKey { issuer, redirect_uri };
        if let Err(error) = self.registrations.forget(key, client_id).await {
            tracing::warn!(%error, "a client registration that was refused could not be forgotten");
        }
    }
}

/// A reservation that is being used.
struct RegistrationTask {
    registrar: Registrar,
    key: RegistrationKey,
    endpoint: Url,
    methods: AuthenticationMethods,
    asked: ClientAuthentication,
    request: Value,
}

impl RegistrationTask {
    async fn run(self) -> Result<Registration, PrepareError> {
        let registrations = Arc::clone(&self.registrar.registrations);
        let key = self.key.clone();
        match self.register().await {
            Ok(registration) => Ok(registrations.keep(key, registration).await?),
            Err(error) => {
                if let Err(error) = registrations.release(key).await {
                    tracing::warn!(%error, "a client registration that failed stays reserved until its time is over");
                }
                Err(error)
            }
        }
    }

    async fn register(mut self) -> Result<Registration, PrepareError> {
        let mut response = self.send().await?;
        if refuses_metadata(&response) && drop_scope(&mut self.request) {
            // The scopes of other resources may be more than this server grants to a client like this one.
            response = self.send().await?;
        }
        if !matches!(response.status(), StatusCode::OK | StatusCode::CREATED) {
            return Err(PrepareError::RegistrationFailed);
        }
        read(response.body(), self.asked, &self.methods).ok_or(PrepareError::RegistrationFailed)
    }

    async fn send(&self) -> Result<Response<Bytes>, PrepareError> {
        let fetcher = &self.registrar.fetcher;
        let sent =
            fetcher.post(self.endpoint.clone(), HeaderMap::new(), "application/json", self.request.to_string()).await;
        sent.map_err(|error| match error {
            SendError::Refused(refused) => refused.into(),
            SendError::Unreachable => PrepareError::Unreachable,
            SendError::TimedOut { .. } => PrepareError::TimedOut,
            SendError::Garbled => PrepareError::RegistrationFailed,
        })
    }
}

/// Whether the service can still be this client: its secret has not ended, and it has the key that proves it.
fn is_usable(registration: &Registration, config: &OAuthConfig, now: Timestamp) -> bool {
    let keyed = registration.client.authentication == ClientAuthentication::PrivateKeyJwt;
    registration.expires_at.is_none_or(|end| end > now) && (!keyed || config.signing_key.is_some())
}

/// The scopes that the client will ever ask for at this server, as far as can be known: some servers refuse at the
/// authorization endpoint what was not registered, and one registration serves every resource.
fn scopes_for(server: &ServerMetadata, asked: &Scopes) -> Scopes {
    scope::scopes(asked.iter().chain(server.scopes.iter()))
}

fn request(config: &OAuthConfig, method: ClientAuthentication, redirect_uri: &str, scopes: &Scopes) -> Value {
    let mut request = json!({
        "client_name": config.client_name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": wire_name(method),
        "application_type": config.application_type(),
    });
    if !scopes.is_empty() {
        request["scope"] = scopes.to_string().into();
    }
    if let Some(key) = config.signing_key.as_ref().filter(|_| method == ClientAuthentication::PrivateKeyJwt) {
        request["token_endpoint_auth_signing_alg"] = ALGORITHM.into();
        request["jwks"] = key.public_set();
    }
    request
}

fn drop_scope(request: &mut Value) -> bool {
    request.as_object_mut().is_some_and(|members| members.remove("scope").is_some())
}

fn refuses_metadata(response: &Response<Bytes>) -> bool {
    matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN)
        && serde_json::from_slice::<Refusal<'_>>(response.body())
            .ok()
            .and_then(|refusal| text(refusal.error))
            .is_some_and(|error| {
                matches!(error.as_str(), "invalid_client_metadata" | "invalid_scope" | "insufficient_scope")
            })
}

/// The registration in an answer, if it is one that can be used: with a way of authentication that was offered, and with
/// a secret where that needs one.
pub(crate) fn read(body: &[u8], asked: ClientAuthentication, methods: &AuthenticationMethods) -> Option<Registration> {
    let answer: Answer<'_> = serde_json::from_slice(body).ok()?;
    let secret = text(answer.client_secret).filter(|secret| !secret.is_empty());
    let method = match answer.token_endpoint_auth_method {
        None if secret.is_none() => asked,
        // A secret without a word on its use is for the default way (RFC 7591, section 2), where the server lists that.
        None => methods.with_secret().unwrap_or(asked),
        member => {
            let name = text(member)?;
            METHODS.into_iter().find(|method| wire_name(*method) == name)?
        }
    };
    // A client that proves itself with a key has to have said which.
    let keyed = method == ClientAuthentication::PrivateKeyJwt;
    if method != asked && (keyed || !methods.allow(method)) {
        return None;
    }
    let (secret, expires_at) = match (method, secret) {
        (ClientAuthentication::SecretBasic | ClientAuthentication::SecretPost, None) => return None,
        (ClientAuthentication::SecretBasic | ClientAuthentication::SecretPost, secret) => {
            (secret, expiry(answer.client_secret_expires_at))
        }
        // A secret that is not to be used is not kept.
        (ClientAuthentication::None | ClientAuthentication::PrivateKeyJwt, _) => (None, None),
    };
    let credentials = ClientCredentials::new(text(answer.client_id)?, secret).ok()?;
    let origin = ClientOrigin::Registered;
    Some(Registration { client: OAuthClient { credentials, authentication: method, origin }, expires_at })
}

/// When a secret ends; 0 means never (RFC 7591, section 3.2.1).
fn expiry(member: Member<'_>) -> Option<Timestamp> {
    seconds(member).filter(|seconds| *seconds > 0).and_then(|seconds| Timestamp::from_second(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: ClientAuthentication = ClientAuthentication::None;
    const BASIC: ClientAuthentication = ClientAuthentication::SecretBasic;
    const POST: ClientAuthentication = ClientAuthentication::SecretPost;
    const KEY: ClientAuthentication = ClientAuthentication::PrivateKeyJwt;

    fn answer(body: &str, asked: ClientAuthentication, offered: &[ClientAuthentication]) -> Option<(String, bool)> {
        let registration = read(body.as_bytes(), asked, &AuthenticationMethods::Listed(offered.to_vec()))?;
        let client = registration.client;
        Some((wire_name(client.authentication).to_owned(), client.credentials.secret().is_some()))
    }

    #[test]
    fn an_answer_must_fit_what_was_asked() {
        let public = Some(("none".to_owned(), false));
        let basic = Some(("client_secret_basic".to_owned(), true));
        let post = Some(("client_secret_post".to_owned(), true));
        let keyed = Some(("private_key_jwt".to_owned(), false));
        for (body, asked, offered, expected) in [
            (r#"{"client_id":"a"}"#, NONE, &[NONE][..], &public),
            (r#"{"client_id":"a","client_secret":null}"#, NONE, &[NONE], &public),
            (r#"{"client_id":"a","client_secret":"s"}"#, BASIC, &[BASIC], &basic),
            (
                r#"{"client_id":"a","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}"#,
                POST,
                &[POST],
                &post,
            ),
            (
                r#"{"client_id":"a","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}"#,
                NONE,
                &[NONE, POST],
                &post,
            ),
            (r#"{"client_id":"a","client_secret":"s","token_endpoint_auth_method":"none"}"#, NONE, &[NONE], &public),
            (r#"{"client_id":"a","client_secret":"s"}"#, NONE, &[NONE], &public),
            (r#"{"client_id":"a","client_secret":"s"}"#, NONE, &[NONE, POST], &post),
            (r#"{"client_id":"a","token_endpoint_auth_method":"client_secret_basic"}"#, BASIC, &[BASIC], &None),
            (
                r#"{"client_id":"a","client_secret":"s","token_endpoint_auth_method":"client_secret_post"}"#,
                NONE,
                &[NONE],
                &None,
            ),
            (r#"{"client_id":"a","token_endpoint_auth_method":"private_key_jwt"}"#, NONE, &[NONE], &None),
            (r#"{"client_id":"a","token_endpoint_auth_method":"private_key_jwt"}"#, NONE, &[NONE, KEY], &None),
            (r#"{"client_id":"a","token_endpoint_auth_method":"private_key_jwt"}"#, KEY, &[KEY], &keyed),
            (r#"{"client_id":"a","client_secret":""}"#, KEY, &[KEY], &keyed),
            (r#"{"client_id":"a","token_endpoint_auth_method":"none"}"#, KEY, &[KEY], &None),
            (r#"{"client_id":"a","token_endpoint_auth_method":7}"#, NONE, &[NONE], &None),
            (r#"{"client_id":""}"#, NONE, &[NONE], &None),
            (r#"{"client_id":7}"#, NONE, &[NONE], &None),
            (r#"{"client_id":"a\r\nb"}"#, NONE, &[NONE], &None),
            (r#"{"client_id":"a","client_secret":"\u0000"}"#, BASIC, &[BASIC], &None),
            (r#"{"client_id":"a","client_id":"b"}"#, NONE, &[NONE], &None),
            (r"[]", NONE, &[NONE], &None),
            ("", NONE, &[NONE], &None),
        ] {
            assert_eq!(&answer(body, asked, offered), expected, "{body}");
        }
    }

    #[test]
    fn a_secret_may_end() {
        let expires_at = |value: &str| {
            let body = format!(r#"{{"client_id":"a","client_secret":"s","client_secret_expires_at":{value}}}"#);
            read(body.as_bytes(), BASIC, &AuthenticationMethods::Unlisted).unwrap().expires_at
        };
        assert_eq!(expires_at("1700000000"), Some(Timestamp::constant(1_700_000_000, 0)));
        assert_eq!(expires_at("\"1700000000\""), Some(Timestamp::constant(1_700_000_000, 0)));
        for never in ["0", "null", "-1", "1e300", "\"never\"", "[]"] {
            assert_eq!(expires_at(never), None, "{never}");
        }
    }
}
