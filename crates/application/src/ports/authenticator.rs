//! Who a bearer token speaks for.

use async_trait::async_trait;
use connectors_domain::{Principal, Secret};
use jiff::Timestamp;
use thiserror::Error;

/// Finds out whom a bearer token speaks for.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// The caller whose token `bearer` is. It is anything that stood in an `Authorization` field.
    async fn authenticate(&self, bearer: &Secret) -> Result<Authenticated, AuthenticateError>;
}

/// A bearer token that was found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    /// For whom it speaks.
    pub principal: Principal,
    /// For whom it is meant.
    pub audience: Audience,
    /// Until when it is good; `None` where it has no end of its own.
    pub until: Option<Timestamp>,
}

/// For which resources (RFC 8707) a token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// For this service and all that it serves.
    Service,
    /// For these resources alone, each as the token names it.
    Resources(Vec<String>),
}

/// A bearer token was not found to be good.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthenticateError {
    /// It is not good, for a reason that only the log may name.
    #[error("{0}")]
    Invalid(&'static str),
    /// Nobody can tell now.
    #[error("{0}")]
    Unavailable(&'static str),
}
