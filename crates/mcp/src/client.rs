//! The port's adapter: what it is made of, and how the errors of the way out become the port's.

use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    AddressRefused, BadAnswer, McpServer, ProbeError, RelayError, RelayRequest, RelayResponse,
};
use connectors_domain::{AccessToken, ServerFacts, ServerUrl};
use connectors_egress::{Egress, EgressError, Refusal};

use crate::probe::{probe, tools_challenge};
use crate::relay::relay;

/// How the client behaves.
#[derive(Debug, Clone)]
pub struct McpConfig {
    /// How long a probe may take in all. Its last fifth, at most 2 s, is kept for ending what the probe has begun.
    pub probe_timeout: Duration,
    /// How long a JSON body may stand still.
    pub body_idle_timeout: Duration,
    /// How long an event stream may be silent; `None` for ever.
    pub stream_idle_timeout: Option<Duration>,
    /// The name by which the probe introduces itself in MCP.
    pub client_name: String,
    /// The version that goes with it.
    pub client_version: String,
}

/// The transport towards MCP servers (Streamable HTTP).
///
/// Clones share connections.
#[derive(Debug, Clone)]
pub struct McpClient {
    egress: Egress,
    config: McpConfig,
}

impl McpClient {
    /// A client whose every request leaves through `egress`. How long a server may take to connect and to begin an answer
    /// is among the limits of `egress`.
    pub fn new(egress: Egress, config: McpConfig) -> Self {
        Self { egress, config }
    }
}

#[async_trait]
impl McpServer for McpClient {
    fn admit(&self, url: &ServerUrl) -> Result<(), AddressRefused> {
        self.egress.admit(url.as_url()).map_err(address_refused)
    }

    async fn probe(&self, url: ServerUrl, credential: Option<AccessToken>) -> Result<ServerFacts, ProbeError> {
        probe(&self.egress, &self.config, &url, credential.as_ref()).await
    }

    async fn tools_challenge(&self, url: ServerUrl, server: ServerFacts) -> Option<Vec<String>> {
        tools_challenge(&self.egress, &self.config, &url, server).await
    }

    async fn relay(&self, request: RelayRequest) -> Result<RelayResponse, RelayError> {
        relay(&self.egress, &self.config, request).await
    }
}

/// The texts of refusals name no resolved address, and say what an operator can do about it.
fn address_refused(refusal: Refusal) -> AddressRefused {
    AddressRefused(format!("This service may not call the server's URL: {refusal}."))
}

pub(crate) fn probe_error(error: &EgressError) -> ProbeError {
    match error {
        EgressError::Refused(refusal) => address_refused(*refusal).into(),
        EgressError::Unreachable { reason } | EgressError::Tls { reason } => ProbeError::Unreachable(reason),
        EgressError::TimedOut(_) => ProbeError::TimedOut,
        EgressError::Protocol | EgressError::TooLarge { .. } | EgressError::Encoded => ProbeError::NotMcp,
    }
}

pub(crate) fn relay_error(error: &EgressError) -> RelayError {
    match error {
        EgressError::Refused(refusal) => address_refused(*refusal).into(),
        EgressError::Unreachable { reason } | EgressError::Tls { reason } => RelayError::Unreachable(reason),
        EgressError::TimedOut(_) => RelayError::TimedOut,
        EgressError::Protocol => RelayError::BadAnswer(BadAnswer::NoHttp),
        EgressError::TooLarge { .. } => RelayError::BadAnswer(BadAnswer::HeaderTooLarge),
        EgressError::Encoded => RelayError::BadAnswer(BadAnswer::Encoded),
    }
}
