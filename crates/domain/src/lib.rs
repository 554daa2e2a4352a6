//! What a connector is: its state machine and the values it is made of.
//!
//! This crate is pure. It never awaits, reads no clock, draws no random number, knows no database and no wire format:
//! times and random bytes are handed in, and adapters turn these types into rows and documents. Values are parsed into
//! types that cannot be wrong afterwards, and the only way to change the state of a [`Connector`] is
//! [`Connector::apply`].

mod access;
mod attempt;
mod authority;
mod client;
mod connector;
mod grant;
mod id;
mod metadata;
mod preset;
mod reason;
mod secret;
mod server;
mod transition;
mod url;

pub use access::{AccountName, ApiToken, ApiTokenId, Permission, Permissions, Principal};
pub use attempt::{AuthorizationAttempt, Start, StateHash};
pub use authority::{Authority, ClientAuthentication, ClientOrigin, Issuer, OAuthClient};
pub use client::{ClientCredentials, ClientError};
pub use connector::{Before, ClientState, Connected, Connecting, Connector, ConnectorState, Disconnected, Lifecycle};
pub use grant::{AccessToken, Grant, GrantSource, IssuedGrant, RefreshToken, Scopes, TokenError};
pub use id::{ConnectorId, OwnerId, Revision};
pub use metadata::{Metadata, MetadataError};
pub use preset::{Preset, Presets, Quirks};
pub use reason::{DisconnectCode, DisconnectReason, UnknownCode};
pub use secret::Secret;
pub use server::{ProtocolVersion, ProtocolVersionError, ServerFacts};
pub use transition::{Change, ChangeKind, Event, Transition, TransitionError};
pub use url::{RedirectError, RedirectOrigins, RedirectUrl, ServerUrl, UrlError};
