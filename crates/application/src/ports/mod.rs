//! What the use cases need from outside. An adapter implements a port; the contract in `connectors-testkit` says what
//! every implementation of [`Connectors`] must hold to, and feature `mocks` brings a mock of each port.

mod agenda;
mod api_tokens;
mod authenticator;
mod authorization_server;
mod changes;
mod clock;
mod connectors;
mod entropy;
mod login;
mod mcp_server;
mod registrations;
mod relay;
mod renewals;
mod revocations;
mod sealer;

#[cfg(feature = "mocks")]
pub use self::{
    agenda::MockAgenda, api_tokens::MockApiTokens, authenticator::MockAuthenticator,
    authorization_server::MockAuthorizationServer, changes::MockChanges, clock::MockClock, connectors::MockConnectors,
    entropy::MockEntropy, login::MockLogin, mcp_server::MockMcpServer, registrations::MockRegistrations,
    renewals::MockRenewals, revocations::MockRevocations, sealer::MockSealer,
};
pub use self::{
    agenda::{Agenda, Due, Postponed},
    api_tokens::ApiTokens,
    authenticator::{Audience, AuthenticateError, Authenticated, Authenticator},
    authorization_server::{
        AuthorizationServer, ExchangeError, ExchangeRequest, PrepareError, PrepareRequest, Prepared, RefreshError,
        RefreshRequest, RevokeError, SpentToken,
    },
    changes::{ChangeStream, Changes, Noted},
    clock::Clock,
    connectors::{ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError},
    entropy::Entropy,
    login::{Login, LoginAnswer, LoginError, LoginRequest},
    mcp_server::{AddressRefused, McpServer, ProbeError},
    registrations::{Registration, RegistrationKey, Registrations, Reservation},
    relay::{
        BadAnswer, BodyError, ByteStream, RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, RelayTarget,
        RequestHeaders, ResponseHeaders,
    },
    renewals::{Claim, Claimed, RenewalKey, Renewals},
    revocations::{DueRevocation, Revocation, RevocationKey, Revocations},
    sealer::{Seal, SealPurpose, Sealer, SealerError},
};
