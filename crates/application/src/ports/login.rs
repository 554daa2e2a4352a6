//! People who log in with a browser.

use async_trait::async_trait;
use connectors_domain::{Principal, Secret};
use thiserror::Error;

/// Logs people in at the identity provider of the installation (OpenID Connect Core 1.0, section 3.1).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Login: Send + Sync + 'static {
    /// Begins a login, after which the browser comes back to `redirect_uri`.
    async fn begin(&self, redirect_uri: &str) -> Result<LoginRequest, LoginError>;

    /// Finishes it.
    async fn finish(&self, answer: LoginAnswer) -> Result<Principal, LoginError>;
}

/// A login that begins. Its secrets are kept in the browser, sealed, until it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRequest {
    /// Where the browser goes.
    pub authorization_url: Secret,
    /// What it must bring back.
    pub state: Secret,
    /// What the ID token must hold.
    pub nonce: Secret,
    /// The PKCE code verifier (RFC 7636, section 4.1).
    pub verifier: Secret,
}

/// What came back of a login, and what was kept of its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAnswer {
    /// The authorization code.
    pub code: Secret,
    /// The issuer, where it names itself (RFC 9207).
    pub iss: Option<String>,
    /// As in [`LoginRequest`].
    pub nonce: Secret,
    /// As in [`LoginRequest`].
    pub verifier: Secret,
    /// As given to [`Login::begin`].
    pub redirect_uri: String,
}

/// Nobody is logged in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The identity provider cannot be reached, or does not answer as one.
    #[error("the identity provider cannot be used now: {0}")]
    Unavailable(&'static str),
    /// What came back proves nothing, for a reason that only the log may name.
    #[error("{0}")]
    Refused(&'static str),
}
