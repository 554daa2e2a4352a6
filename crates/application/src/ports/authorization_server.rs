//! The authorization servers that stand before MCP servers, and the service as their client.

use std::time::Duration;

use async_trait::async_trait;
use connectors_domain::{
    Authority, ClientCredentials, Grant, IssuedGrant, Issuer, Quirks, RefreshToken, Scopes, Secret, ServerUrl,
    StateHash,
};
use thiserror::Error;

use super::{AddressRefused, StoreError};

/// The OAuth client (MCP 2026-07-28, "Authorization"), up to the moment when the user must act and from the moment when
/// the user's browser is back.
///
/// Servers may be hostile, broken or slow. Every call ends within the adapter's own time limits, follows no redirect, and
/// tells nothing of what a server wrote except what its types hold.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait AuthorizationServer: Send + Sync + 'static {
    /// Whether the metadata of a server names an authorization server. What cannot be had or read names none.
    async fn is_named_by(&self, url: ServerUrl) -> bool;

    /// Finds who authorizes for a server, becomes its client, and makes an authorization request.
    async fn prepare(&self, request: PrepareRequest) -> Result<Prepared, PrepareError>;

    /// The hash under which an attempt with this `state` is kept.
    fn state_hash(&self, state: &str) -> StateHash;

    /// Exchanges an authorization code, once.
    async fn exchange(&self, request: ExchangeRequest) -> Result<Grant, ExchangeError>;

    /// Spends a refresh token, once (RFC 6749, section 6). The answer's grant has the refresh token that came with it, or
    /// else the one that was spent, and the scopes that it names, or else those that were held. Its generation is
    /// [`IssuedGrant::UNSTORED`].
    async fn refresh(&self, request: RefreshRequest) -> Result<Grant, RefreshError>;

    /// Revokes a grant (RFC 7009): the refresh token first, then the access token. A server that offers no revocation has
    /// nothing to be asked, and that is success.
    async fn revoke(&self, grant: Grant) -> Result<(), RevokeError>;

    /// The scopes that a 403 asks for, if its `WWW-Authenticate` fields say that the token's are not enough (RFC 6750,
    /// section 3.1: `insufficient_scope`).
    fn demanded_scopes(&self, challenges: &[String]) -> Option<Scopes>;
}

/// What an authorization request is made from.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// The MCP server.
    pub url: ServerUrl,
    /// The `WWW-Authenticate` fields of its 401, as they came.
    pub challenges: Vec<String>,
    /// The client that the user or a preset gave.
    pub client: Option<ClientCredentials>,
    /// The issuer at which that client was used first. It is used at no other.
    pub bound_to: Option<Issuer>,
    /// The scopes that the user has granted before and that are to be granted again, with those that the server wants now.
    pub held: Scopes,
    /// Where the server is known to depart from the standards.
    pub quirks: Quirks,
}

/// An authorization request that waits for its user.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Who must answer.
    pub authority: Authority,
    /// Whether the authorization server promises to name itself in its answer (RFC 9207, section 2.3).
    pub names_itself: bool,
    /// Where the user must go.
    pub authorization_url: Secret,
    /// The hash of the `state` in it.
    pub state_hash: StateHash,
    /// The PKCE code verifier.
    pub verifier: Secret,
    /// The redirect URI in it.
    pub redirect_uri: String,
    /// The scopes in it.
    pub scopes: Scopes,
}

/// No authorization request came about.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// Nothing tells of an authorization server: the server wants a token of another kind.
    #[error("the server names no authorization server")]
    NotOffered,
    /// The service may not talk to an address that the server or the authorization server named.
    #[error(transparent)]
    AddressRefused(#[from] AddressRefused),
    /// No connection to the authorization server came about.
    #[error("the authorization server cannot be reached")]
    Unreachable,
    /// It did not answer in time.
    #[error("the authorization server did not answer in time")]
    TimedOut,
    /// Its metadata, or the server's, break the rules. The text is this service's own.
    #[error("the authorization metadata cannot be used: {0}")]
    InvalidMetadata(&'static str),
    /// It does not advertise PKCE with S256.
    #[error("the authorization server does not support PKCE with S256")]
    PkceUnsupported,
    /// It takes only clients that it knows, and none was given.
    #[error("the authorization server wants a client id")]
    ClientRequired,
    /// The client that was given belongs to another issuer.
    #[error("the client id was used at another authorization server before")]
    ClientBoundElsewhere,
    /// It refused to register the service, or answered so that no client comes of it.
    #[error("the authorization server did not register this service")]
    RegistrationFailed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a code is exchanged with.
#[derive(Debug, Clone)]
pub struct ExchangeRequest {
    /// Where.
    pub authority: Authority,
    /// The code.
    pub code: Secret,
    /// The PKCE code verifier.
    pub verifier: Secret,
    /// The redirect URI that was sent.
    pub redirect_uri: String,
    /// What was asked for: what is granted if the answer does not say.
    pub scopes: Scopes,
}

/// No grant came of a code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExchangeError {
    /// The service may not talk to the token endpoint.
    #[error(transparent)]
    AddressRefused(#[from] AddressRefused),
    /// No connection came about.
    #[error("the authorization server cannot be reached")]
    Unreachable,
    /// No answer came in time.
    #[error("the authorization server did not answer in time")]
    TimedOut,
    /// It refused the code.
    #[error("the authorization server refused the code")]
    Refused,
    /// It refused the client.
    #[error("the authorization server refused this service as a client")]
    ClientRefused,
    /// Its answer is no token response that can be used.
    #[error("the authorization server's answer is not a usable token response")]
    InvalidResponse,
}

/// What a grant is renewed with.
#[derive(Debug, Clone)]
pub struct RefreshRequest {
    /// Where.
    pub authority: Authority,
    /// What is spent.
    pub refresh_token: RefreshToken,
    /// What is held: what is granted again if the answer does not say.
    pub scopes: Scopes,
}

impl RefreshRequest {
    /// The request that renews `grant`; `None` if it has no refresh token.
    pub fn of(grant: &IssuedGrant) -> Option<Self> {
        Some(Self {
            authority: grant.authority.clone(),
            refresh_token: grant.refresh_token.clone()?,
            scopes: grant.scopes.clone(),
        })
    }
}

/// What is known of a refresh token after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpentToken {
    /// The authorization server has not spent it: it never saw it, or said that it will not do anything now.
    No,
    /// The authorization server may have spent it.
    Perhaps,
}

/// No grant came of a refresh token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefreshError {
    /// It refuses the refresh token for good: `invalid_grant`.
    #[error("the authorization server refused the refresh token")]
    Refused,
    /// It refuses the client for good: `invalid_client` or `unauthorized_client`. A client that had registered itself is
    /// forgotten.
    #[error("the authorization server refused this service as a client")]
    ClientRefused,
    /// Anything else. It may pass: the grant is kept.
    #[error("the authorization server did not renew the grant: {what}")]
    Passing {
        /// What went wrong; the text is this service's own.
        what: &'static str,
        /// What is known of the refresh token.
        spent: SpentToken,
        /// When the authorization server wants to be asked again: at most a day from now.
        retry_after: Option<Duration>,
    },
}

/// A grant was not revoked. Another try may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the authorization server did not revoke the grant: {0}")]
pub struct RevokeError(pub &'static str);
