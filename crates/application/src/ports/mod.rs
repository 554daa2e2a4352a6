//! What the use cases need from outside. An adapter implements a port; the contract in `connectors-testkit` says what
//! every implementation of [`Connectors`] must hold to, and feature `mocks` brings a mock of each port.

mod agenda;
mod authorization_server;
mod changes;
mod clock;
mod connectors;
mod entropy;
mod mcp_server;
mod registrations;
mod relay;
mod renewals;
mod revocations;

#[cfg(feature = "mocks")]
pub use self::{
    agenda::MockAgenda, authorization_server::MockAuthorizationServer, changes::MockChanges, clock::MockClock,
    connectors::MockConnectors, entropy::MockEntropy, mcp_server::MockMcpServer, registrations::MockRegistrations,
    renewals::MockRenewals, revocations::MockRevocations,
};
pub use self::{
    agenda::{Agenda, Due, Postponed},
    authorization_server::{
        AuthorizationServer, ExchangeError, ExchangeRequest, PrepareError, PrepareRequest, Prepared, RefreshError,
        RefreshRequest, RevokeError, SpentToken,
    },
    changes::{ChangeStream, Changes, Noted},
    clock::Clock,
    connectors::{ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError},
    entropy::Entropy,
    mcp_server::{AddressRefused, McpServer, ProbeError},
    registrations::{Registration, RegistrationKey, Registrations, Reservation},
    relay::{
        BadAnswer, BodyError, ByteStream, RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, RelayTarget,
        RequestHeaders, ResponseHeaders,
    },
    renewals::{Claim, Claimed, RenewalKey, Renewals},
    revocations::{DueRevocation, Revocation, RevocationKey, Revocations},
};
