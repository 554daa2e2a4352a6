//! Where dynamic registrations are kept (RFC 7591): one for each issuer and redirect URI, shared by all users.

use async_trait::async_trait;
use connectors_domain::{Issuer, OAuthClient};
use jiff::Timestamp;

use super::StoreError;

/// The repository of registrations. What is one for all replicas is one method here.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Registrations: Send + Sync + 'static {
    /// The registration for `key`; or, if there is none, the task to make it, which is given to one caller at a time
    /// until `until`.
    async fn reserve(&self, key: RegistrationKey, now: Timestamp, until: Timestamp) -> Result<Reservation, StoreError>;

    /// Keeps what the holder of a reservation has registered, and returns what is kept: another registration, if one was
    /// kept meanwhile.
    async fn keep(&self, key: RegistrationKey, registration: Registration) -> Result<Registration, StoreError>;

    /// Gives a reservation up.
    async fn release(&self, key: RegistrationKey) -> Result<(), StoreError>;

    /// Forgets the registration for `key`, if it is still the one with this client id.
    async fn forget(&self, key: RegistrationKey, client_id: String) -> Result<(), StoreError>;
}

/// What a registration is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistrationKey {
    /// The authorization server.
    pub issuer: Issuer,
    /// The redirect URI that is registered there.
    pub redirect_uri: String,
}

/// A client that has registered itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The client.
    pub client: OAuthClient,
    /// When its secret ends; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// What [`Registrations::reserve`] has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// There is one.
    Found(Registration),
    /// There is none, and the caller makes it.
    Yours,
    /// There is none, and somebody else is making it.
    Busy,
}
