//! What the use cases need from outside. An adapter implements a port; the contract in `connectors-testkit` says what
//! every implementation of [`Connectors`] must hold to, and feature `mocks` brings a mock of each port.

mod authorization_server;
mod clock;
mod connectors;
mod entropy;
mod mcp_server;
mod registrations;
mod relay;

#[cfg(feature = "mocks")]
pub use self::{
    authorization_server::MockAuthorizationServer, clock::MockClock, connectors::MockConnectors, entropy::MockEntropy,
    mcp_server::MockMcpServer, registrations::MockRegistrations,
};
pub use self::{
    authorization_server::{
        AuthorizationServer, ExchangeError, ExchangeRequest, PrepareError, PrepareRequest, Prepared,
    },
    clock::Clock,
    connectors::{ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError},
    entropy::Entropy,
    mcp_server::{AddressRefused, McpServer, ProbeError},
    registrations::{Registration, RegistrationKey, Registrations, Reservation},
    relay::{
        BadAnswer, BodyError, ByteStream, RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, RelayTarget,
        RequestHeaders, ResponseHeaders,
    },
};
