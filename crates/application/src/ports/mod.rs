//! What the use cases need from outside. An adapter implements a port; the contract in `connectors-testkit` says what
//! every implementation of [`Connectors`] must hold to, and feature `mocks` brings a mock of each port.

mod clock;
mod connectors;
mod entropy;
mod mcp_server;
mod relay;

pub use self::{
    clock::Clock,
    connectors::{ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError},
    entropy::Entropy,
    mcp_server::{AddressRefused, McpServer, ProbeError},
    relay::{
        BadAnswer, BodyError, ByteStream, RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, RelayTarget,
        RequestHeaders, ResponseHeaders,
    },
};
#[cfg(feature = "mocks")]
pub use self::{clock::MockClock, connectors::MockConnectors, entropy::MockEntropy, mcp_server::MockMcpServer};
