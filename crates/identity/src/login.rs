//! People who log in: the authorization code flow of OpenID Connect (Core 1.0, section 3.1) with PKCE (RFC 7636).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{Clock, Entropy, Login, LoginAnswer, LoginError, LoginRequest};
use connectors_domain::{Principal, Secret};
use connectors_egress::{Egress, EgressError};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreErrorResponseType, CoreIdToken, CoreRequestTokenError,
};
use openidconnect::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, IssuerUrl, JsonWebKeySet, Nonce,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse, TokenUrl,
};

use crate::config::{ConfigError, LoginConfig};
use crate::document::Fetcher;
use crate::id_token::{Expected, IdTokenError};
use crate::provider::{Provider, Snapshot};
use crate::token_endpoint::{TokenEndpoint, TokenEndpointError};

/// What is asked for beside `openid`: what people call the user.
const SCOPES: [&str; 2] = ["profile", "email"];

/// Logs people in at one OpenID provider. Whoever is logged in has all permissions that concern their own connectors.
///
/// Clocks may be 30 s apart. What the provider publishes is kept and fetched as
/// [`JwtAuthenticator`](crate::JwtAuthenticator) does it. One request to the provider may take 10 s.
pub struct OidcLogin {
    provider: Arc<Provider>,
    endpoint: TokenEndpoint,
    expected: Expected,
    secret: Option<Secret>,
    entropy: Arc<dyn Entropy>,
}

impl OidcLogin {
    /// One that knows nothing of the provider yet. Fetches are begun on the runtime on which this is called.
    pub fn new(
        egress: &Egress,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        config: LoginConfig,
    ) -> Result<Self, ConfigError> {
        let LoginConfig { issuer, client_id, client_secret, algorithms } = config;
        if algorithms.is_empty() {
            return Err(ConfigError::NoAlgorithm);
        }
        if client_id.is_empty() {
            return Err(ConfigError::NoClientId);
        }
        let expected = Expected {
            issuer: IssuerUrl::new(issuer.clone()).map_err(|_| ConfigError::Issuer)?,
            client_id: ClientId::new(client_id),
            algorithms,
            clock: Arc::clone(&clock),
        };
        let endpoint = TokenEndpoint(Fetcher::new(egress.clone()));
        let provider = Provider::new(egress.clone(), clock, issuer)?;
        Ok(Self { provider, endpoint, expected, secret: client_secret, entropy })
    }

    /// Fetches what the provider publishes, and waits for 5 s at most. What fails is logged, and made up for later.
    pub async fn warm(&self) {
        let _ = self.provider.get().await;
    }

    async fn known(&self) -> Result<Arc<Snapshot>, LoginError> {
        self.provider.get().await.ok_or(LoginError::Unavailable("its metadata and keys could not be fetched yet"))
    }

    /// 32 random bytes in base64url: more than anybody guesses, and as long as RFC 7636, section 4.1, wants a verifier.
    fn random(&self) -> String {
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    async fn exchange(&self, known: &Snapshot, answer: LoginAnswer) -> Result<CoreIdToken, LoginError> {
        let endpoint = known.metadata.token_endpoint.clone();
        let endpoint = endpoint.ok_or(LoginError::Unavailable("it names no token endpoint that may be called"))?;
        let client = self.client().set_token_uri(TokenUrl::from_url(endpoint));
        let client = match &self.secret {
            Some(secret) => {
                let way = known.metadata.with_secret.clone();
                let way = way.ok_or(LoginError::Unavailable("it takes the client secret in no way that is known"))?;
                client.set_client_secret(ClientSecret::new(secret.expose().to_owned())).set_auth_type(way)
            }
            None => client.set_auth_type(AuthType::RequestBody),
        };
        let client = client.set_redirect_uri(redirect(answer.redirect_uri)?);
        let tokens = client
            .exchange_code(AuthorizationCode::new(answer.code.expose().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(answer.verifier.expose().to_owned()))
            .request_async(&self.endpoint)
            .await
            .map_err(|error| reason(&error))?;
        tokens.id_token().cloned().ok_or(LoginError::Unavailable("it answers without an ID token"))
    }

    /// The client without its endpoints. The keys are not the library's business: see `id_token.rs`.
    fn client(&self) -> CoreClient {
        CoreClient::new(self.expected.client_id.clone(), self.expected.issuer.clone(), JsonWebKeySet::default())
    }
}

#[async_trait]
impl Login for OidcLogin {
    async fn begin(&self, redirect_uri: &str) -> Result<LoginRequest, LoginError> {
        let known = self.known().await?;
        let endpoint = known.metadata.authorization_endpoint.clone();
        let endpoint = endpoint.ok_or(LoginError::Unavailable("it names no authorization endpoint"))?;
        let [state, nonce, verifier] = std::array::from_fn(|_| self.random());
        let pkce = PkceCodeVerifier::new(verifier.clone());
        let client = self.client().set_auth_uri(AuthUrl::from_url(endpoint));
        let client = client.set_redirect_uri(redirect(redirect_uri.to_owned())?);
        let (url, state, nonce) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scopes(SCOPES.map(|scope| Scope::new(scope.to_owned())))
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&pkce))
            .url();
        Ok(LoginRequest {
            authorization_url: Secret::new(url),
            state: Secret::new(state.into_secret()),
            nonce: Secret::new(nonce.secret().clone()),
            verifier: Secret::new(verifier),
        })
    }

    async fn finish(&self, answer: LoginAnswer) -> Result<Principal, LoginError> {
        let known = self.known().await?;
        // RFC 9207, section 2.4: before anything is sent to anybody.
        match &answer.iss {
            Some(issuer) if issuer != self.provider.issuer() => {
                return Err(LoginError::Refused("another issuer has answered"));
            }
            None if known.metadata.names_itself => {
                return Err(LoginError::Refused("the answer does not name its issuer, as the provider promises"));
            }
            _ => {}
        }
        let nonce = Nonce::new(answer.nonce.expose().to_owned());
        let token = self.exchange(&known, answer).await?;
        let person = match self.expected.person(&token, &known.keys, &nonce) {
            Err(IdTokenError::UnknownKey) => match self.provider.newer(&known).await {
                Some(newer) => self.expected.person(&token, &newer.keys, &nonce),
                None => Err(IdTokenError::UnknownKey),
            },
            judged => judged,
        };
        person.map_err(|error| match error {
            IdTokenError::UnknownKey => LoginError::Refused("the provider has no such key as signed the ID token"),
            IdTokenError::Refused(reason) => LoginError::Refused(reason),
        })
    }
}

impl fmt::Debug for OidcLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcLogin").field("issuer", &self.provider.issuer()).finish_non_exhaustive()
    }
}

fn redirect(uri: String) -> Result<RedirectUrl, LoginError> {
    RedirectUrl::new(uri).map_err(|_| LoginError::Refused("the redirect URI is no URL"))
}

/// The library's own error of a token response holds the response.
fn reason(error: &CoreRequestTokenError<TokenEndpointError>) -> LoginError {
    use openidconnect::RequestTokenError as Failure;
    match error {
        Failure::ServerResponse(response) => match response.error() {
            CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient => {
                LoginError::Unavailable("it does not take the client id, or the client secret, of this service")
            }
            CoreErrorResponseType::InvalidGrant => LoginError::Refused("the provider does not take the code"),
            _ => LoginError::Refused("the provider does not exchange the code"),
        },
        Failure::Request(TokenEndpointError::Egress(EgressError::TimedOut(_))) => {
            LoginError::Unavailable("its token endpoint does not answer in time")
        }
        Failure::Request(TokenEndpointError::Egress(EgressError::Refused(_))) => {
            LoginError::Unavailable("this service may not call its token endpoint: see `egress.allow`")
        }
        Failure::Request(TokenEndpointError::Egress(EgressError::Unreachable { .. } | EgressError::Tls { .. })) => {
            LoginError::Unavailable("its token endpoint cannot be reached")
        }
        Failure::Request(_) => LoginError::Unavailable("its token endpoint has no answer now"),
        Failure::Parse(..) | Failure::Other(_) => LoginError::Unavailable("its token endpoint gives no token response"),
    }
}
