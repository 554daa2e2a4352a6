//! The authorization servers that stand before MCP servers, and the service as their client.

use async_trait::async_trait;
use connectors_domain::{Authority, ClientCredentials, Grant, Issuer, Quirks, Scopes, Secret, ServerUrl, StateHash};
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
    /// Finds who authorizes for a server, becomes its client, and makes an authorization request.
    async fn prepare(&self, request: PrepareRequest) -> Result<Prepared, PrepareError>;

    /// The hash under which an attempt with this `state` is kept.
    fn state_hash(&self, state: &str) -> StateHash;

    /// Exchanges an authorization code, once.
    async fn exchange(&self, request: ExchangeRequest) -> Result<Grant, ExchangeError>;
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
