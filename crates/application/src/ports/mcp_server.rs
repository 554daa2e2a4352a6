//! The MCP servers that connectors stand for.

use async_trait::async_trait;
use connectors_domain::{AccessToken, ServerFacts, ServerUrl};
use thiserror::Error;

use super::{RelayError, RelayRequest, RelayResponse};

/// The transport towards remote MCP servers (Streamable HTTP).
///
/// Servers may be hostile, broken or slow. Every call ends within the adapter's own time limits, follows no redirect,
/// and tells nothing of what a server wrote except what its types hold.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait McpServer: Send + Sync + 'static {
    /// Whether the service would ever talk to `url`. It does not ask the network, so an address that is admitted here
    /// can still be refused when it is dialled.
    fn admit(&self, url: &ServerUrl) -> Result<(), AddressRefused>;

    /// Finds out which eras of MCP the server speaks: `server/discover` first, then `initialize`. It leaves no session
    /// behind.
    async fn probe(&self, url: ServerUrl, credential: Option<AccessToken>) -> Result<ServerFacts, ProbeError>;

    /// Asks for the tools of a server without a credential, in an era that it speaks, and returns the
    /// `WWW-Authenticate` fields, bounded as those of a probe, if it answers 401. Whatever else comes of the question is
    /// `None`. It leaves no session behind.
    async fn tools_challenge(&self, url: ServerUrl, server: ServerFacts) -> Option<Vec<String>>;

    /// Passes one request on and returns as soon as the answer's head is there; the body streams.
    async fn relay(&self, request: RelayRequest) -> Result<RelayResponse, RelayError>;
}

/// The service may not talk to an address. The text says why and who can change it; it names no resolved address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct AddressRefused(pub String);

/// A probe found no server that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProbeError {
    /// The service may not talk to the server's address.
    #[error(transparent)]
    AddressRefused(#[from] AddressRefused),
    /// No connection came about: name, network or TLS. The text, which is this service's own, says what failed.
    #[error("the server cannot be reached: {0}")]
    Unreachable(&'static str),
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The server answered 401: it wants a credential, or another one.
    #[error("the server demands authorization")]
    Unauthorized {
        /// Its `WWW-Authenticate` fields as they came, at most 8 of at most 4096 bytes each.
        challenges: Vec<String>,
    },
    /// The server answered 403 and said why: it may want a wider consent.
    #[error("the server refuses what the credential is good for")]
    Forbidden {
        /// As in [`ProbeError::Unauthorized`].
        challenges: Vec<String>,
    },
    /// The server answered with an HTTP status that is no success and no sign of an era.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The answer is not MCP.
    #[error("the server does not speak MCP over Streamable HTTP")]
    NotMcp,
    /// The server speaks MCP, in versions that this service does not know.
    #[error("the server speaks no protocol version that this service knows")]
    UnsupportedVersion,
}
